"""A sandbox that floods: `python -m tests.support.flood KIND PROXY_PORT TUNNEL_PORT`, two tokens on standard input.

Says `flooding` once it is at it, and goes on until it is killed. What is refused or cut is begun anew.
"""

import asyncio
import itertools
import random
import struct
import sys
from collections.abc import Awaitable, Callable
from typing import Final

from sallyport.net.websocket_upgrade import upgrade_request
from sallyport.wire import websocket
from sallyport.wire.yamux.frames import DATA, PING, RST, SYN, WINDOW_UPDATE, frame_header

HOST: Final = b"api.flood.test"
STREAMS: Final = 1000
LINKED: Final = {"slow_bodies": 200, "shared_slow_bodies": 300}
BUSY: Final = 8
MASK: Final = b"mask"

type Opened = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Flood:
    """What every kind needs."""

    def __init__(self, proxy_port: int, tunnel_port: int, proxy_token: str, tunnel_token: str) -> None:
        self._proxy_port = proxy_port
        self._tunnel_port = tunnel_port
        self._tunnel_token = tunnel_token
        self.own = b"Proxy-Authorization: Bearer " + proxy_token.encode() + b"\r\n"

    def get(self, target: bytes, more: bytes = b"") -> bytes:
        return b"GET http://%b%b HTTP/1.1\r\nHost: %b\r\n%b%b\r\n" % (HOST, target, HOST, self.own, more)

    async def dial(self) -> Opened:
        return await asyncio.open_connection("127.0.0.1", self._proxy_port)

    async def tunnel(self) -> Opened:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._tunnel_port)
        writer.write(upgrade_request("gateway.test", token=self._tunnel_token)[0])
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 "), head
        return reader, writer

    # Many that do little

    async def half_open(self) -> None:
        reader, _ = await self.dial()
        await reader.read()

    async def slow_heads(self) -> None:
        await self._trickle(self.get(b"/", b"X-Filler: " + b"x" * 4000))

    async def slow_bodies(self) -> None:
        head = self.get(b"/upload", b"Content-Length: 100000\r\n").replace(b"GET", b"POST", 1)
        await self._trickle(bytes(100_000), head)

    async def shared_slow_bodies(self) -> None:
        await self.slow_bodies()

    async def _trickle(self, data: bytes, head: bytes = b"") -> None:
        reader, writer = await self.dial()
        writer.write(head)
        for byte in data:
            if reader.at_eof() or writer.is_closing():
                return
            writer.write(bytes((byte,)))
            await asyncio.sleep(0.2 + random.random() / 10)

    async def interceptions(self) -> None:
        reader, writer = await self.dial()
        writer.write(b"CONNECT %b:443 HTTP/1.1\r\nHost: %b:443\r\n%b\r\n" % (HOST, HOST, self.own))
        await reader.readuntil(b"\r\n\r\n")
        await reader.read()

    # Few that do much

    async def heads(self) -> None:
        reader, writer = await self.dial()
        writer.write(self.get(b"/%00"))
        await reader.read()
        writer.close()

    async def pipelined(self) -> None:
        await self._pour(*await self.dial(), itertools.repeat(self.get(b"/%00").replace(b"/%00", b"/..") * 100))

    async def headers(self) -> None:
        fields = b"".join(b"X-Field-%d: %b\r\n" % (number, b"v" * 400) for number in range(120))
        await self._pour(*await self.dial(), itertools.repeat(self.get(b"/..", fields) * 4))

    async def connects(self) -> None:
        reader, writer = await self.dial()
        writer.write(b"CONNECT no.test:443 HTTP/1.1\r\nHost: no.test:443\r\n%b\r\n" % self.own)
        await reader.read()
        writer.close()

    async def _pour(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, parts: "itertools.repeat[bytes]"
    ) -> None:
        async def drop() -> None:
            while await reader.read(1 << 20):
                pass

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(drop(), name="drop answers")
            for part in parts:
                writer.write(part)
                await writer.drain()

    # In a tunnel

    async def tunnel_streams(self) -> None:
        def opened(number: int) -> bytes:
            return frame_header(DATA, SYN, number, 0) + frame_header(WINDOW_UPDATE, RST, number, 0)

        await self._frames(lambda turn: b"".join(opened(2 * (turn * 500 + n) + 1) for n in range(500)))

    async def tunnel_resets(self) -> None:
        head = b"GET http://%b/.. HTTP/1.1\r\nSallyport-Stream: plain; revision=1\r\nHost: %b\r\n\r\n" % (HOST, HOST)

        def asked(number: int) -> bytes:
            whole = frame_header(DATA, SYN, number, len(head)) + head
            return whole + frame_header(WINDOW_UPDATE, RST, number, 0)

        await self._frames(lambda turn: b"".join(asked(2 * (turn * 100 + n) + 1) for n in range(100)))

    async def tunnel_pings(self) -> None:
        await self._frames(lambda turn: frame_header(PING, SYN, 0, turn) * 1000)

    async def tunnel_frames(self) -> None:
        head = b"POST http://%b/upload HTTP/1.1\r\nSallyport-Stream: plain; revision=1\r\nHost: %b\r\n" % (HOST, HOST)
        head += b"Content-Length: 200000\r\n\r\n"
        byte = frame_header(DATA, 0, 1, 1) + b"x"

        def frames(turn: int) -> bytes:
            start = frame_header(DATA, SYN, 1, len(head)) + head if turn == 0 else b""
            return start + byte * 4000 if turn < 50 else b""

        await self._frames(frames)

    async def tunnel_controls(self) -> None:
        reader, writer = await self.tunnel()
        status = b'{"type": "setup.status", "revision": 1, "state": "%b", "steps": []}' % (b"x" * 30_000)
        await self._pour(reader, writer, itertools.repeat(websocket.message(websocket.TEXT, status, MASK)))

    async def _frames(self, frames: Callable[[int], bytes]) -> None:
        reader, writer = await self.tunnel()

        async def drop() -> None:
            while await reader.read(1 << 20):
                pass
            raise ConnectionResetError("the gateway has ended it")

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(drop(), name="drop answers")
            for turn in itertools.count():
                data = frames(turn)
                if not data:
                    break
                for at in range(0, len(data), 60_000):
                    writer.write(websocket.message(websocket.BINARY, data[at : at + 60_000], MASK))
                await writer.drain()


async def keep_at(work: Callable[[], Awaitable[None]]) -> None:
    """Begin anew whenever it is ended."""
    while True:
        try:
            await work()
        except* (OSError, EOFError, AssertionError, struct.error):
            await asyncio.sleep(0.05)


async def main(kind: str, proxy_port: int, tunnel_port: int) -> None:
    proxy_token, tunnel_token = sys.stdin.readline().split()
    flood = Flood(proxy_port, tunnel_port, proxy_token, tunnel_token)
    work: Callable[[], Awaitable[None]] = getattr(flood, kind)
    many = kind in ("half_open", "slow_heads", "interceptions")
    linked = kind in LINKED
    count = STREAMS if many else LINKED[kind] if linked else 1 if kind.startswith("tunnel_") else BUSY
    async with asyncio.TaskGroup() as tasks:
        for number in range(count):
            tasks.create_task(keep_at(work), name=f"{kind} {number}")
        await asyncio.sleep(1 if many or linked else 0.2)
        print("flooding", flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
