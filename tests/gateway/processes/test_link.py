"""Requests to a serving process: whole answers, lines as they come, and a process that goes in the middle."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.processes import link
from gateway.processes.link import LinkError, ask, open_answer, read_lines


@contextlib.asynccontextmanager
async def answering(path: Path, answer: bytes) -> AsyncIterator[list[bytes]]:
    """Answer each connection with these bytes and close it."""
    heard: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.readuntil(b"\r\n\r\n"))
        length = heard[-1].partition(b"Content-Length: ")[2].partition(b"\r\n")[0]
        heard[-1] += await reader.readexactly(int(length))
        writer.write(answer)
        writer.close()

    server = await asyncio.start_unix_server(serve, path)
    async with server:
        yield heard


async def test_a_whole_answer(tmp_path: Path) -> None:
    path = tmp_path / "s"
    answer = b"HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    async with answering(path, answer) as heard:
        assert await ask(path, "PUT", "/x", b"body") == (200, b"abc")
    assert heard == [b"PUT /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nbody"]


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200",
        b"noise\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 200\r\n\r\n" + b"x" * 200,
    ],
)
async def test_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: bytes) -> None:
    monkeypatch.setattr(link, "MAX_ANSWER_BYTES", 100)
    path = tmp_path / "s"
    async with answering(path, answer):
        with pytest.raises(LinkError):
            await ask(path, "GET", "/x")


async def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(LinkError, match="No such file"):
        await ask(tmp_path / "s", "GET", "/x")


async def test_lines_come_whole_and_have_a_limit(tmp_path: Path) -> None:
    path = tmp_path / "s"
    async with answering(path, b"HTTP/1.1 200 OK\r\n\r\none\n\ntwo\nlonger than that"):
        stream, head = await open_answer(path, "GET", "/lines")
        lines = read_lines(stream, head, most_line_bytes=10)
        with pytest.raises(LinkError, match="a line without an end"):
            await anext(lines)
        stream.abort()


async def test_an_answer_that_ends_with_its_connection(tmp_path: Path) -> None:
    path = tmp_path / "s"
    async with answering(path, b"HTTP/1.1 200 OK\r\n\r\none\ntwo\n"):
        stream, head = await open_answer(path, "GET", "/lines")
        assert [line async for line in read_lines(stream, head, most_line_bytes=10)] == [b"one", b"two"]
        stream.abort()
