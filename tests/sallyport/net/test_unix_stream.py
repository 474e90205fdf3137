"""A stream over a socket that has a path."""

import asyncio
from pathlib import Path

import pytest

from sallyport.net.unix_stream import UnixStream, connect_unix


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
