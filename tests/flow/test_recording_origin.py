"""The recording origin judges others, so it is tested itself: each rule refuses what it must and nothing more."""

import asyncio
import ssl
from pathlib import Path

import pytest

from demo.certificates import write_origin_files
from tests.support.origin import OK, Answer, On, RecordingOrigin, Then, recording_origin
from tests.support.strict_http import Malformed, read_all

HOST = b"Host: a.test\r\n"
CHUNKED = b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("data", "bodies"),
    [
        (b"GET / HTTP/1.1\r\n" + HOST + b"\r\n", [b""]),
        (b"GET / HTTP/1.1\r\n" + HOST + b"\r\nGET /2 HTTP/1.1\r\n" + HOST + b"\r\n", [b"", b""]),
        (
            b"PUT / HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\n" + HOST + b"\r\n",
            [b"abc", b""],
        ),
        (CHUNKED + b"3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\n\r\n", [b"abc0123456789"]),
        (CHUNKED + b"0\r\nX-Sum: 1\r\n\r\n", [b""]),
        (b"GET / HTTP/1.1\r\n" + HOST + b"X: caf\xe9\t!\r\n\r\n", [b""]),
    ],
)
def test_well_formed_requests_are_read(data: bytes, bodies: list[bytes]) -> None:
    reading = read_all(data)
    assert [request.body for request in reading.requests] == bodies
    assert reading.unfinished is None
    assert reading.rest == b""


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.0\r\n" + HOST + b"\r\n",
        b"GET /\r\n\r\n",
        b"\r\nGET / HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET  / HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET /\x01 HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + HOST + HOST + b"\r\n",
        b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + HOST + b"X: a\r\n b\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + HOST + b"X: a\nY: b\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + HOST + b"X: a\rY: b\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + HOST + b"X: \x00\r\n\r\n",
        b"PUT / HTTP/1.1\r\n" + HOST + b"Content-Length: +3\r\n\r\nabc",
        b"PUT / HTTP/1.1\r\n" + HOST + b"Content-Length: 3, 3\r\n\r\nabc",
        b"PUT / HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
        b"PUT / HTTP/1.1\r\n" + HOST + b"Content_Length: 3\r\n\r\nabc",
        b"PUT / HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"PUT / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        b"PUT / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        CHUNKED + b"3\r\nabcX\r\n0\r\n\r\n",
        CHUNKED + b"3 \r\nabc\r\n0\r\n\r\n",
        CHUNKED + b"0x3\r\nabc\r\n0\r\n\r\n",
        CHUNKED + b"0\r\nContent-Length: 9\r\n\r\n",
    ],
)  # fmt: skip
def test_what_two_readers_could_read_differently_is_a_fault(data: bytes) -> None:
    with pytest.raises(Malformed):
        read_all(data)


def test_unfinished_bodies_and_heads_are_told_apart() -> None:
    short = read_all(b"PUT / HTTP/1.1\r\n" + HOST + b"Content-Length: 9\r\n\r\nabc")
    assert short.unfinished is not None
    assert [head.target for head in short.heads()] == ["/"]
    cut = read_all(b"GET / HTTP/1.1\r\n" + HOST)
    assert cut.heads() == []
    assert cut.rest.startswith(b"GET /")


async def exchange(origin: RecordingOrigin, data: bytes, *, until: bytes = b"") -> bytes:
    """Send bytes on a link of their own; read to the end of file, or until an answer ends with `until`."""
    reader, writer = await asyncio.open_connection("127.0.0.1", origin.port)
    writer.write(data)
    answer = await (reader.readuntil(until) if until else reader.read())
    writer.close()
    return answer


async def test_each_whole_request_is_answered_and_recorded() -> None:
    async with recording_origin() as origin:
        data = b"GET /1 HTTP/1.1\r\n" + HOST + b"\r\nGET /2 HTTP/1.1\r\n" + HOST + b"\r\n"
        assert await exchange(origin, data, until=OK + OK) == OK + OK
        await origin.wait_for_requests(2)
        assert [str(request) for request in origin.requests] == ["GET /1", "GET /2"]
        assert origin.received == data


async def test_bytes_it_cannot_read_stay_recorded_and_end_the_link() -> None:
    async with recording_origin() as origin:
        answer = await exchange(origin, b"GET / HTTP/1.1\r\nX: 1\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert origin.links[0].fault == "not exactly one Host"
        assert repr(origin.links[0]) == "<Link 0 sni=None: 0 requests, not exactly one Host>"


async def test_scripts_answer_early_slowly_and_as_raw_bytes() -> None:
    async with recording_origin() as origin:
        gate = asyncio.Event()
        switch = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"
        origin.answers["/early"] = Answer(parts=(b"HTTP/1.1 413 No\r\n\r\n",), on=On.HEAD, then=Then.CLOSE)
        origin.answers["/slow"] = Answer(parts=(b"one", gate, b"two"), then=Then.CLOSE)
        origin.answers["/raw"] = Answer(parts=(switch,), then=Then.RAW)
        early = await exchange(origin, b"PUT /early HTTP/1.1\r\n" + HOST + b"Content-Length: 9\r\n\r\nabc")
        assert early == b"HTTP/1.1 413 No\r\n\r\n"
        async with asyncio.TaskGroup() as tasks:
            slow = tasks.create_task(exchange(origin, b"GET /slow HTTP/1.1\r\n" + HOST + b"\r\n"))
            await origin.wait_for_bytes(b"/slow")
            gate.set()
        assert slow.result() == b"onetwo"
        raw = await exchange(origin, b"GET /raw HTTP/1.1\r\n" + HOST + b"\r\n\x00\xff", until=b"\x00\xff")
        assert raw == switch + b"\x00\xff"


async def test_an_abort_is_seen_as_a_reset() -> None:
    async with recording_origin() as origin:
        origin.answers["/"] = Answer(parts=(b"HTTP/1.1 200 OK\r\n",), then=Then.ABORT)
        with pytest.raises(ConnectionResetError):
            await exchange(origin, b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")


async def test_tls_links_carry_their_server_name(tmp_path: Path) -> None:
    files = write_origin_files(tmp_path, ["*.a.test"])
    trust = ssl.create_default_context(cafile=files.ca_file)
    async with recording_origin(files.server_context()) as origin:
        reader, writer = await asyncio.open_connection("127.0.0.1", origin.port, ssl=trust, server_hostname="x.a.test")
        writer.write(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
        assert await reader.readexactly(len(OK)) == OK
        writer.close()
        await writer.wait_closed()
        assert [len(link.requests) for link in origin.links_for("x.a.test")] == [1]
