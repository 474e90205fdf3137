"""Streams over UNIX sockets, with a path and without."""

import asyncio
import os
import socket
from pathlib import Path

import pytest

from sallyport.net.unix_stream import UnixStream, adopt_unix, connect_name, connect_unix
from tests.support.transports import End
from tests.support.until import until

NAME = f"\0sallyport-test-{os.getpid()}-stream"


async def test_bytes_go_both_ways(tmp_path: Path) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())
        writer.close()

    async with await asyncio.start_unix_server(echo, tmp_path / "s"):
        for end in (UnixStream.close, UnixStream.abort):
            stream = await connect_unix(tmp_path / "s", limit=1024)
            stream.writer.write(b"one\n")
            assert await stream.reader.read() == b"one\n"
            end(stream)
            assert stream.writer.is_closing()


async def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await connect_unix(tmp_path / "s", limit=1024)


@pytest.mark.uvloop
async def test_a_name_without_a_path() -> None:
    with pytest.raises(ConnectionRefusedError):
        await connect_name(End, NAME)
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(NAME)
    listening.listen(0)
    ends: list[End] = []

    def accept() -> End:
        ends.append(End())
        return ends[-1]

    server = await adopt_unix(listening.detach(), accept)
    one = await connect_name(End, NAME)
    await until(lambda: bool(ends) and "made" in ends[0].events)
    one.transport.write(b"up")
    ends[0].transport.write(b"down")
    await ends[0].until_received(b"up")
    await one.until_received(b"down")
    one.transport.close()
    await ends[0].until_event("lost")
    server.close()


async def test_where_too_many_wait_nobody_waits_for_a_place() -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(NAME)
        listening.listen(0)
        first = await connect_name(End, NAME)
        with pytest.raises(BlockingIOError):
            await connect_name(End, NAME)
        first.transport.abort()


async def test_another_kind_of_socket_is_not_adopted() -> None:
    with pytest.raises(OSError, match="no UNIX socket"):
        await adopt_unix(socket.socket().detach(), End)
