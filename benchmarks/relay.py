"""A blind relay: `python -m benchmarks.relay PORT NEXT` takes connections and passes their bytes on, both ways.

What any path of two hops costs that understands nothing; two of them in a row are what the whole chain is held against.
"""

import asyncio
import sys
from typing import cast

import uvloop


class Relay(asyncio.Protocol):
    """One side of a connection; `other` is the opposite one."""

    def __init__(self, other: "Relay | None" = None, next_port: int = 0) -> None:
        self._other = other
        self._next_port = next_port
        self._held: list[bytes] = []  # came before there was somewhere to send it
        self._dialling: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
        self._write = self.transport.write
        if self._other is not None:
            self._other.meet(self)
            return
        loop = asyncio.get_running_loop()
        self._dialling = loop.create_task(self._dial(loop))

    async def _dial(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            await loop.create_connection(lambda: Relay(self), "127.0.0.1", self._next_port)
        except OSError:
            self.transport.abort()

    def meet(self, other: "Relay") -> None:
        """Know the opposite side, and begin."""
        self._other = other
        if self._held:
            other._write(b"".join(self._held))
            self._held.clear()

    def data_received(self, data: bytes) -> None:
        if self._other is None:
            self._held.append(data)
        else:
            self._other._write(data)

    def pause_writing(self) -> None:
        if self._other is not None:
            self._other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self._other is not None:
            self._other.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._other is not None:
            self._other.transport.close()


async def serve(port: int, next_port: int) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Relay(next_port=next_port), "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), int(sys.argv[2])))
