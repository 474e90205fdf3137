"""Loopback and nothing else."""

import asyncio

import pytest

from sallyport.net.loopback import LoopbackError, connect_loopback, loopback_addresses
from tests.support.raw_end import raw_origin
from tests.support.refusing_port import refusing_port


@pytest.mark.parametrize(
    ("host", "addresses"),
    [
        ("127.0.0.1", ("127.0.0.1",)),
        ("127.255.255.254", ("127.255.255.254",)),
        ("::1", ("::1",)),
        ("[::1]", ("::1",)),
        ("0:0:0:0:0:0:0:1", ("::1",)),
        ("localhost", ("127.0.0.1", "::1")),
        ("LOCALHOST.", ("127.0.0.1", "::1")),
    ],
)
def test_what_is_loopback(host: str, addresses: tuple[str, ...]) -> None:
    assert loopback_addresses(host) == addresses


@pytest.mark.parametrize(
    "host",
    [
        *("", "0.0.0.0", "::", "::2", "126.255.255.255", "128.0.0.1", "169.254.169.254", "10.0.0.1"),
        *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "fe80::1"),
        *(
            "127.1",
            "0x7f000001",
            "2130706433",
            "127.0.0.1.example.com",
            "localhost.example.com",
            "example.com",
            "127.0.0.1%lo",
        ),
    ],
)
async def test_what_is_not(host: str) -> None:
    with pytest.raises(LoopbackError):
        await connect_loopback(asyncio.Protocol, host, 1)


async def test_a_name_of_two_addresses_is_tried_to_the_end() -> None:
    async with raw_origin() as origin:
        transport, protocol = await connect_loopback(asyncio.Protocol, "localhost", origin.port)
        assert isinstance(protocol, asyncio.Protocol)
        await origin.link()
        transport.close()


async def test_nobody_listens() -> None:
    with refusing_port() as port, pytest.raises(OSError, match=str(port)):
        await connect_loopback(asyncio.Protocol, "localhost", port)
