"""A relay between sandboxd and the gateway that reads along: what crosses the tunnel is counted and searched.

Both ends are on loopback, so the tunnel is plain WebSocket here. What it carries is taken out of its frames, because
what sandboxd sends is masked in them (RFC 6455 section 5.3).
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from sallyport.wire.errors import RemoteProtocolError
from sallyport.wire.http1.scan import HEAD_END
from sallyport.wire.websocket import MessageReader

CHUNK_BYTES = 64 * 1024
# A demonstration carries a few hundred KB; a tap that is forgotten does not fill the memory.
MAX_KEPT_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Crossed:
    """What went one way: WebSocket messages and the bytes in them."""

    messages: int
    size: int

    def since(self, before: "Crossed") -> "Crossed":
        """Return what was added since."""
        return Crossed(messages=self.messages - before.messages, size=self.size - before.size)


class Direction:
    """One way through the tunnel, over all tunnels of a run. `kept` is everything that went it."""

    def __init__(self) -> None:
        self.messages = 0
        self.kept = bytearray()

    def crossed(self) -> Crossed:
        """Return the counts so far."""
        return Crossed(messages=self.messages, size=len(self.kept))

    def binary_received(self, data: bytes) -> None:
        """Take a message of frames."""
        self.messages += 1
        self.keep(data)

    def text_received(self, data: bytes) -> None:
        """Take a control document."""
        self.binary_received(data)

    def ping_received(self, payload: bytes) -> None:
        """Pass over a WebSocket ping."""

    def close_received(self, code: int | None, reason: str) -> None:
        """Keep why a tunnel ended."""
        self.keep(reason.encode())

    def keep(self, data: bytes) -> None:
        """Keep bytes, up to a limit."""
        if len(self.kept) + len(data) > MAX_KEPT_BYTES:
            raise RuntimeError("the tap has kept more than it may")
        self.kept += data


class Tap:
    """A listening tap. up is toward the gateway, down toward the sandbox."""

    def __init__(self) -> None:
        self.port = 0
        self.up = Direction()
        self.down = Direction()

    def everything(self) -> bytes:
        """Return all bytes of both ways."""
        return bytes(self.up.kept) + bytes(self.down.kept)


@asynccontextmanager
async def tapping(host: str, port: int) -> AsyncIterator[Tap]:
    """Relay between a free loopback port and a gateway's tunnel listener until the block ends."""
    tap = Tap()
    async with asyncio.TaskGroup() as relays:

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            relays.create_task(_relay(tap, reader, writer, host, port), name="tap")

        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        tap.port = server.sockets[0].getsockname()[1]
        try:
            yield tap
        finally:
            # Both ends were stopped before the tap; what is left of a relay ends with its sockets.
            server.close()
            server.close_clients()


async def _relay(tap: Tap, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, port: int) -> None:
    """Relay one connection until both ways have ended."""
    try:
        far_reader, far_writer = await asyncio.open_connection(host, port)
    except OSError:
        writer.close()
        return
    async with asyncio.TaskGroup() as ways:
        ways.create_task(_pump(reader, far_writer, tap.up, is_from_client=True), name="tap up")
        ways.create_task(_pump(far_reader, writer, tap.down, is_from_client=False), name="tap down")
    for end in (writer, far_writer):
        end.close()


async def _pump(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, direction: Direction, *, is_from_client: bool
) -> None:
    """Pass bytes on, and their end, and read along."""
    # Seen from the sandboxd's side the peer is a server, and the other way round.
    frames = MessageReader(direction, is_client=not is_from_client)
    head: bytes | None = b""
    try:
        while chunk := await reader.read(CHUNK_BYTES):
            writer.write(chunk)
            if head is not None:
                head += chunk
                before, end, chunk = head.partition(HEAD_END)
                if not end:
                    continue
                direction.keep(before)
                head = None
            frames.feed(chunk)
            await writer.drain()
        writer.write_eof()
    except (OSError, RemoteProtocolError):
        writer.close()  # a tunnel that was cut
