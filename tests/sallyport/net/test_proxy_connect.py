"""CONNECT to an upstream proxy: what is asked, whose transport it becomes, and which answers are none."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sallyport.net.memory import memory_pair
from sallyport.net.proxy_connect import ProxyConnect, ProxyRefused, read_proxy_answer
from sallyport.wire.errors import RemoteProtocolError
from tests.support.transports import End

ASKED = b"CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\nSallyport-Hop: 1\r\n\r\n"


@pytest.mark.parametrize("chunk_bytes", [1, 1 << 16])
async def test_the_marked_connect_is_asked_and_early_bytes_come_first(chunk_bytes: int) -> None:
    wanted, proxy = End(), End()
    asking = ProxyConnect("a.test:443", lambda: wanted)
    memory_pair(asyncio.get_running_loop(), asking, proxy, chunk_bytes=chunk_bytes)
    await proxy.until_received(ASKED)
    assert wanted.events == []
    proxy.transport.write(b"HTTP/1.1 200 Connection established\r\nVia: 1.1 x\r\n\r\nearly")
    assert await asking.answered is wanted
    await wanted.until_received(b"early")
    wanted.transport.write(b"theirs")
    await proxy.until_received(ASKED + b"theirs")
    assert wanted.events == ["made"]


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "407"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "400"),
        (b"SSH-2.0-x\r\n", "does not speak HTTP/1"),
    ],
)
async def test_any_other_answer_fails_and_says_why(answer: bytes, why: str) -> None:
    wanted, proxy = End(), End()
    asking = ProxyConnect("a.test:443", lambda: wanted)
    memory_pair(asyncio.get_running_loop(), asking, proxy)
    proxy.transport.write(answer)
    with pytest.raises(ProxyRefused, match=why):
        async with asyncio.timeout(5):
            await asking.answered
    assert wanted.events == []


async def test_a_proxy_that_goes_away_fails_it() -> None:
    proxy = End()
    asking = ProxyConnect("a.test:443", End)
    memory_pair(asyncio.get_running_loop(), asking, proxy)
    proxy.transport.abort()
    with pytest.raises(ProxyRefused, match="closed without an answer"):
        await asking.answered


@given(st.binary(max_size=200) | st.binary(max_size=60).map(lambda tail: b"HTTP/1.1 200 " + tail + b"\r\n\r\n"))
def test_any_proxy_answer_is_a_value_none_or_remote_protocol_error(received: bytes) -> None:
    try:
        answer = read_proxy_answer(received)
    except RemoteProtocolError:
        return
    if answer is not None:
        status, head_length = answer
        assert 100 <= status < 600
        assert received[:head_length].endswith(b"\r\n\r\n")


def test_a_proxy_s_head_has_a_limit() -> None:
    def head(length: int) -> bytes:
        return b"HTTP/1.1 200 OK\r\nX: " + b"a" * (length - len(b"HTTP/1.1 200 OK\r\nX: "))

    longest = head(16 * 1024) + b"\r\n\r\n"
    assert read_proxy_answer(longest + b"early") == (200, len(longest))
    assert read_proxy_answer(head(16 * 1024)) is None
    for received in (head(16 * 1024 + 1), head(16 * 1024 + 1) + b"\r\n\r\n"):
        with pytest.raises(RemoteProtocolError, match="too long"):
            read_proxy_answer(received)


@pytest.mark.parametrize(
    "head", [b"HTTP/1.1 200 OK\n\n", b"HTTP/1.1 200 OK\r\nbad line\r\n\r\n", b"HTTP/1.1 2000 x\r\n\r\n"]
)
def test_malformed_proxy_head_is_never_a_tunnel(head: bytes) -> None:
    for cut in range(len(head) + 1):
        try:
            answer = read_proxy_answer(head[:cut])
        except RemoteProtocolError:
            continue
        assert answer is None
