"""The tap passes everything on, reads what is masked, and counts."""

import asyncio

from demo.tap import Crossed, tapping
from sallyport.wire.websocket import BINARY, TEXT, message

UP_HEAD = b"GET /v1/tunnel HTTP/1.1\r\nAuthorization: Bearer t\r\n\r\n"
DOWN_HEAD = b"HTTP/1.1 101 Switching Protocols\r\n\r\n"


async def test_both_ways_are_passed_on_read_and_counted() -> None:
    received = bytearray()

    async def gateway(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.extend(await reader.readuntil(b"\r\n\r\n"))
        writer.write(DOWN_HEAD + message(TEXT, b'{"type":"drain"}', None))
        received.extend(await reader.read())
        writer.write(message(BINARY, b"answer", None))
        writer.close()

    server = await asyncio.start_server(gateway, "127.0.0.1", 0)
    async with server, tapping("127.0.0.1", server.sockets[0].getsockname()[1]) as tap:
        reader, writer = await asyncio.open_connection("127.0.0.1", tap.port)
        frame = message(BINARY, b"a request", b"\x01\x02\x03\x04")
        writer.write(UP_HEAD + frame[:5])
        down = await reader.readexactly(len(DOWN_HEAD))
        writer.write(frame[5:])
        writer.write_eof()
        rest = await reader.read()
        writer.close()
        await writer.wait_closed()
    assert bytes(received) == UP_HEAD + frame
    assert down + rest == DOWN_HEAD + message(TEXT, b'{"type":"drain"}', None) + message(BINARY, b"answer", None)
    assert b"a request" in tap.everything()
    assert b"a request" not in received  # it was masked on the wire
    assert b'{"type":"drain"}' in bytes(tap.down.kept)
    assert (tap.up.messages, tap.down.messages) == (1, 2)


async def test_a_gateway_that_is_away_ends_the_connection() -> None:
    async with tapping("127.0.0.1", 1) as tap:
        reader, writer = await asyncio.open_connection("127.0.0.1", tap.port)
        assert await reader.read() == b""
        writer.close()


def test_counts_are_told_by_difference() -> None:
    assert Crossed(messages=5, size=70).since(Crossed(messages=2, size=30)) == Crossed(messages=3, size=40)
