"""One look at something on this machine, by a listener whose every byte the test plays."""

import asyncio
from collections.abc import Awaitable

import pytest

from sallyport.net.probe import ProbeError, probe_http, probe_tcp, probe_websocket
from tests.support.raw_end import RawOrigin, raw_origin
from tests.support.refusing_port import refusing_port


async def play(origin: RawOrigin, probe: Awaitable[None], answer: bytes) -> tuple[str, bytes]:
    """Answer one probe; return why it was not ready ("" when it was) and what it sent."""

    async def ask() -> str:
        try:
            await probe
        except ProbeError as error:
            return str(error)
        return ""

    async with asyncio.TaskGroup() as group:
        asking = group.create_task(ask())
        end = await origin.link()
        head = await end.head()
        end.send(answer)
        if not answer.endswith(b"\r\n\r\n"):
            end.end()
    return asking.result(), head


async def test_tcp() -> None:
    async with raw_origin() as origin:
        await probe_tcp("127.0.0.1", origin.port)
    with refusing_port() as port, pytest.raises(ProbeError, match="nothing accepts"):
        await probe_tcp("localhost", port)


async def test_only_this_machine() -> None:
    for probe in (probe_tcp("192.0.2.1", 1), probe_http("example.com", 1, "/", 200), probe_websocket("::2", 1, "/")):
        with pytest.raises(ProbeError, match=r"127\.0\.0\.0"):
            await probe


@pytest.mark.parametrize(
    ("answer", "issue"),
    [
        (b"HTTP/1.1 204 No Content\r\n\r\n", ""),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "the answer was 200, not 204"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "what answered does not speak HTTP"),
        (b"HTTP/1.1 204 No", "what answered does not speak HTTP"),
        (b"", "what answered does not speak HTTP"),
        (b"x" * 70_000, "what answered does not speak HTTP"),
    ],
)
async def test_http(answer: bytes, issue: str) -> None:
    async with raw_origin() as origin:
        told, head = await play(origin, probe_http("127.0.0.1", origin.port, "/ready?a=b", 204), answer)
        assert told == issue
        assert head.startswith(f"GET /ready?a=b HTTP/1.1\r\nHost: 127.0.0.1:{origin.port}\r\n".encode())


@pytest.mark.parametrize(
    ("answer", "issue"),
    [
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", ""),
        (b"HTTP/1.1 426 Upgrade Required\r\nContent-Length: 0\r\n\r\n", "the handshake was answered 426, not 101"),
    ],
)
async def test_websocket(answer: bytes, issue: str) -> None:
    async with raw_origin() as origin:
        told, head = await play(origin, probe_websocket("127.0.0.1", origin.port, "/"), answer)
        assert told == issue
        assert b"Upgrade: websocket\r\n" in head
        assert b"Sec-WebSocket-Version: 13\r\n" in head


async def test_a_probe_that_is_given_up_closes_its_socket() -> None:
    async with raw_origin() as origin, asyncio.TaskGroup() as group:
        asking = group.create_task(probe_http("127.0.0.1", origin.port, "/", 200))
        end = await origin.link()
        await end.head()
        asking.cancel()
        assert await end.gone() == b""
