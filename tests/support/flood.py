"""A sandbox that floods: `python -m tests.support.flood KIND WAY PROXY_PORT TUNNEL_PORT`, two tokens on standard input.

Says `flooding` once it is at it, and goes on until it is killed. What is refused or cut is begun anew. By the way
`tunnel` what is a connection to the explicit listener is a stream of one tunnel; `frames` writes a tunnel by hand.
"""

import asyncio
import itertools
import random
import ssl
import struct
import sys
from collections.abc import Awaitable, Callable
from typing import Final

from sallyport.net.clock import Clock
from sallyport.net.tunnel import TunnelUnavailable
from sallyport.net.websocket_upgrade import upgrade_request
from sallyport.wire import websocket
from sallyport.wire.yamux.frames import DATA, PING, RST, SYN, WINDOW_UPDATE, frame_header
from tests.support.key_updates import KeyUpdatingClient
from tests.support.tunnel_client import TunnelClient, dial_tunnel

HOST: Final = b"api.flood.test"
OPEN_HOST: Final = b"open.flood.test"
CREDENTIAL: Final = "flood-credential-5ca1ab1e"  # of HOST; what is opaque brings it along itself
# How many at once; of what is not named here, one where it writes frames, else BUSY.
COUNTS: Final = {
    "half_open": 1000,
    "slow_heads": 1000,
    "interceptions": 1000,
    "idle": 1200,  # more than a sandbox may have
    "passthroughs_kept": 600,
    "slow_bodies": 200,
    "shared_slow_bodies": 300,  # more than a pool key has links
    "slow_readers": 200,
    "slow_opaque_readers": 200,
    "stuck_readers": 1000,
    "stuck_opaque_readers": 1000,
    "slow_tls_readers": 200,
    "stuck_tls_readers": 300,  # each costs a handshake on either side before it is stuck
    "stuck_sockets": 60,
    "long_heads": 100,
    "tiny_chunks": 100,
}
BUSY: Final = 8
MASK: Final = b"mask"
BULK_BYTES: Final = 100_000_000
UPGRADE: Final = (
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
SMALL_FRAMES: Final = websocket.message(websocket.TEXT, b"x", MASK) * 8000
PINGS: Final = websocket.message(websocket.PING, b"", MASK) * 8000

type Opened = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Flood:
    """What every kind needs."""

    def __init__(self, way: str, proxy_port: int, tunnel_port: int, proxy_token: str, tunnel_token: str) -> None:
        self._way = way
        self._proxy_port = proxy_port
        self._tunnel_port = tunnel_port
        self._tunnel_token = tunnel_token
        self._proxy_token = proxy_token.encode()
        self._tunnel: TunnelClient | None = None
        self._dialling = asyncio.Lock()
        self._trust = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._trust.check_hostname = False
        self._trust.verify_mode = ssl.CERT_NONE  # a flood does not look whom it floods
        self._trust.set_alpn_protocols(["http/1.1"])

    def own(self, mode: str = "plain") -> bytes:
        """What a head says of its sender."""
        if self._way == "explicit":
            return b"Proxy-Authorization: Bearer " + self._proxy_token + b"\r\n"
        return f"Sallyport-Stream: {mode}; revision=1\r\n".encode()

    def get(self, target: bytes, more: bytes = b"", *, own: bytes | None = None) -> bytes:
        own = self.own() if own is None else own
        return b"GET http://%b%b HTTP/1.1\r\n%bHost: %b\r\n%b\r\n" % (HOST, target, own, HOST, more)

    def asking(self, target: bytes, more: bytes = b"") -> bytes:
        """Many requests of one connection; a stream's first head alone declares."""
        later = self.get(target, more, own=self.own() if self._way == "explicit" else b"")
        return self.get(target, more) + later * 99

    def connect_to(self, host: bytes, mode: str) -> bytes:
        return b"CONNECT %b:443 HTTP/1.1\r\n%bHost: %b:443\r\n\r\n" % (host, self.own(mode), host)

    async def dial(self) -> Opened:
        if self._way == "explicit":
            return await asyncio.open_connection("127.0.0.1", self._proxy_port)
        async with self._dialling:
            if self._tunnel is None or not self._tunnel.tunnel.is_open:
                clock = Clock(asyncio.get_running_loop())
                self._tunnel = await dial_tunnel(clock, self._tunnel_port, self._tunnel_token)
            return self._tunnel.open_pair()

    async def inside(self) -> Opened:
        """Return a stream of requests to HOST where TLS has ended; in a tunnel sandboxd would have ended it."""
        reader, writer = await self.dial()
        writer.write(self.connect_to(HOST, "intercepted"))
        await reader.readuntil(b"\r\n\r\n")
        if self._way == "explicit":
            await writer.start_tls(self._trust, server_hostname=HOST.decode())
        return reader, writer

    async def socket(self, target: bytes) -> Opened:
        """Return a WebSocket of HOST, its 101 read."""
        reader, writer = await self.inside()
        writer.write(b"GET %b HTTP/1.1\r\nHost: %b\r\n%b\r\n" % (target, HOST, UPGRADE))
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        return reader, writer

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

    async def idle(self) -> None:
        reader, writer = await self.dial()
        writer.write(self.get(b"/"))
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

    async def slow_readers(self) -> None:
        """Take a little of a long answer now and then."""
        reader, writer = await self.dial()
        writer.write(self.get(b"/bytes/%d" % BULK_BYTES))
        await self._read_slowly(reader, writer)

    async def slow_opaque_readers(self) -> None:
        """The same in opaque bytes."""
        reader, writer = await self.dial()
        writer.write(self.connect_to(OPEN_HOST, "passthrough"))
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"GET /bytes/{BULK_BYTES} HTTP/1.1\r\nAuthorization: Bearer {CREDENTIAL}\r\n\r\n".encode())
        await self._read_slowly(reader, writer)

    async def stuck_readers(self) -> None:
        """Take nothing of a long answer."""
        reader, writer = await self.dial()
        writer.transport.pause_reading()  # type: ignore[attr-defined]  # a socket's or a stream's, both can
        writer.write(self.get(b"/bytes/%d" % BULK_BYTES))
        await self._read_nothing(reader, writer)

    async def stuck_opaque_readers(self) -> None:
        """The same in opaque bytes."""
        reader, writer = await self.dial()
        writer.write(self.connect_to(OPEN_HOST, "passthrough"))
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(f"GET /bytes/{BULK_BYTES} HTTP/1.1\r\nAuthorization: Bearer {CREDENTIAL}\r\n\r\n".encode())
        await self._read_nothing(reader, writer)

    async def slow_tls_readers(self) -> None:
        """The first again, where TLS has ended, with an origin that speaks it too."""
        reader, writer = await self.inside()
        writer.write(b"GET /bytes/%d HTTP/1.1\r\nHost: %b\r\n\r\n" % (BULK_BYTES, HOST))
        await self._read_slowly(reader, writer)

    async def stuck_tls_readers(self) -> None:
        """The same, of which nothing is taken."""
        reader, writer = await self.inside()
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(b"GET /bytes/%d HTTP/1.1\r\nHost: %b\r\n\r\n" % (BULK_BYTES, HOST))
        await self._read_nothing(reader, writer)

    async def stuck_sockets(self) -> None:
        """Take nothing of a WebSocket on which small frames come without end."""
        reader, writer = await self.socket(b"/socket/frames")
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await self._read_nothing(reader, writer)

    async def _read_nothing(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while not (reader.at_eof() or writer.is_closing()):  # noqa: ASYNC110  nobody tells a reader that is paused
            await asyncio.sleep(1)
        raise ConnectionResetError

    async def _read_slowly(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while not (reader.at_eof() or writer.is_closing()):
            writer.transport.pause_reading()  # type: ignore[attr-defined]  # a socket's or a stream's, both can
            await asyncio.sleep(0.2 + random.random() / 10)
            writer.transport.resume_reading()  # type: ignore[attr-defined]
            await reader.read(64 * 1024)
        raise ConnectionResetError

    async def interceptions(self) -> None:
        reader, writer = await self.dial()
        writer.write(self.connect_to(HOST, "intercepted"))
        await reader.readuntil(b"\r\n\r\n")
        await reader.read()

    async def passthroughs_kept(self) -> None:
        reader, writer = await self.dial()
        writer.write(self.connect_to(OPEN_HOST, "passthrough"))
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"GET / HTTP/1.1\r\n")  # opaque, and not all that its server waits for
        await reader.read()

    # Few that do much

    async def tls_handshakes(self) -> None:
        """Each whole, and left."""
        _, writer = await self.inside()
        writer.transport.abort()

    async def socket_frames(self) -> None:
        """Small ones, both ways."""
        await self._pour(*await self.socket(b"/socket/frames"), SMALL_FRAMES)

    async def socket_fragments(self) -> None:
        """Of messages that never end: what may begin a secret is held."""
        await self._pour(*await self.socket(b"/socket/fragments"), SMALL_FRAMES)

    async def socket_pings(self) -> None:
        """Pings, both ways."""
        await self._pour(*await self.socket(b"/socket/pings"), PINGS)

    async def heads(self) -> None:
        reader, writer = await self.dial()
        writer.write(self.get(b"/%00"))
        await reader.readuntil(b"\r\n\r\n")
        writer.close()

    async def pipelined(self) -> None:
        reader, writer = await self.dial()
        await self._pour(reader, writer, self.asking(b"/.."))

    async def long_heads(self) -> None:
        """As long as may be, and dear: each escape is one that need not be."""
        reader, writer = await self.dial()
        writer.write(self.get(b"/" + b"%7e%40" * 10_000 + b"/.."))
        await reader.readuntil(b"\r\n\r\n")
        writer.close()

    async def tiny_chunks(self) -> None:
        """Bodies in chunks of a byte each."""
        reader, writer = await self.dial()
        writer.write(self.get(b"/upload", b"Transfer-Encoding: chunked\r\n").replace(b"GET", b"POST", 1))
        await self._pour(reader, writer, b"1\r\nx\r\n" * 10_000)

    async def tls_tiny_records(self) -> None:
        """A body in records of a byte each."""
        reader, writer = await self.inside()
        writer.write(b"POST /upload HTTP/1.1\r\nHost: %b\r\nContent-Length: %d\r\n\r\n" % (HOST, BULK_BYTES))
        while not (reader.at_eof() or writer.is_closing()):
            for _ in range(2000):
                writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0)  # drain() does not wait while there is room
        raise ConnectionResetError

    async def tls_key_updates(self) -> None:
        """Records that bring nothing and ask for as many; until it is ended for them."""
        reader, writer = await self.dial()
        writer.write(self.connect_to(HOST, "intercepted"))
        await reader.readuntil(b"\r\n\r\n")
        client = KeyUpdatingClient()
        try:
            writer.write(client.shake())
            while not client.is_up:
                client.feed(await reader.read(64 * 1024))
                writer.write(client.shake())
            await self._pour(reader, writer, client.key_updates(5000))
        finally:
            client.close()

    async def headers(self) -> None:
        fields = b"".join(b"X-Field-%d: %b\r\n" % (number, b"v" * 400) for number in range(120))
        reader, writer = await self.dial()
        await self._pour(reader, writer, self.asking(b"/..", fields))

    async def connects(self) -> None:
        reader, writer = await self.dial()
        writer.write(self.connect_to(b"no.test", "passthrough"))
        await reader.read()
        writer.close()

    async def passthroughs(self) -> None:
        """Each dialled, answered and left."""
        reader, writer = await self.dial()
        writer.write(self.connect_to(OPEN_HOST, "passthrough"))
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.abort()

    async def resets(self) -> None:
        """Of a request that was sent, or for which a link was being dialled."""
        _, writer = await self.dial()
        writer.write(self.get(b"/"))
        await asyncio.sleep(0.002)
        writer.transport.abort()

    async def _pour(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, part: bytes) -> None:
        """Write this, and then its last head again and again."""

        async def drop() -> None:
            while await reader.read(1 << 20):
                pass
            raise ConnectionResetError("the gateway has ended it")

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(drop(), name="drop answers")
            writer.write(part)
            later = part[part.rindex(b"GET ") :] * 100 if part.startswith(b"GET ") else part
            while True:
                await writer.drain()
                writer.write(later)

    async def tunnels(self) -> None:
        """Each opened and left, one after the other."""
        _, writer = await self.tunnel()
        writer.transport.abort()

    # Frames

    async def tunnel_streams(self) -> None:
        def opened(number: int) -> bytes:
            return frame_header(DATA, SYN, number, 0) + frame_header(WINDOW_UPDATE, RST, number, 0)

        await self._frames(lambda turn: b"".join(opened(2 * (turn * 500 + n) + 1) for n in range(500)))

    async def tunnel_resets(self) -> None:
        """Of requests that are refused."""
        await self._reset(self.get(b"/.."))

    async def tunnel_resets_dialled(self) -> None:
        """Of requests that were sent, or for which a link was being dialled."""
        await self._reset(self.get(b"/"), after_seconds=0.002)

    async def tunnel_resets_opaque(self) -> None:
        """Of CONNECTs for which a link was being dialled."""
        await self._reset(self.connect_to(OPEN_HOST, "passthrough"), after_seconds=0.002)

    async def _reset(self, head: bytes, *, after_seconds: float = 0.0) -> None:
        """Ask on as many streams as wait to be accepted, and reset them at once or a moment later."""

        def turn(at: int) -> bytes:
            numbers = range(at // 2 * 100 + 1, at // 2 * 100 + 101, 2)
            if at % 2:
                return b"".join(frame_header(WINDOW_UPDATE, RST, number, 0) for number in numbers)
            return b"".join(frame_header(DATA, SYN, number, len(head)) + head for number in numbers)

        await self._frames(turn, after_seconds)

    async def tunnel_pings(self) -> None:
        await self._frames(lambda turn: frame_header(PING, SYN, 0, turn) * 1000)

    async def tunnel_frames(self) -> None:
        head = self.get(b"/upload", b"Content-Length: 200000\r\n").replace(b"GET", b"POST", 1)
        byte = frame_header(DATA, 0, 1, 1) + b"x"

        def frames(turn: int) -> bytes:
            start = frame_header(DATA, SYN, 1, len(head)) + head if turn == 0 else b""
            return start + byte * 4000 if turn < 50 else b""

        await self._frames(frames)

    async def tunnel_controls(self) -> None:
        reader, writer = await self.tunnel()
        status = b'{"type": "setup.status", "revision": 1, "state": "%b", "steps": []}' % (b"x" * 30_000)
        await self._pour(reader, writer, websocket.message(websocket.TEXT, status, MASK))

    async def _frames(self, frames: Callable[[int], bytes], pause_seconds: float = 0.0) -> None:
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
                await asyncio.sleep(pause_seconds)


async def keep_at(work: Callable[[], Awaitable[None]]) -> None:
    """Begin anew whenever it is ended."""
    while True:
        try:
            await work()
        except* (OSError, EOFError, AssertionError, struct.error, TunnelUnavailable):
            await asyncio.sleep(0.05)


async def main(kind: str, way: str, proxy_port: int, tunnel_port: int) -> None:
    proxy_token, tunnel_token = sys.stdin.readline().split()
    flood = Flood(way, proxy_port, tunnel_port, proxy_token, tunnel_token)
    work: Callable[[], Awaitable[None]] = getattr(flood, kind)
    count = COUNTS.get(kind, 1 if way == "frames" else BUSY)
    async with asyncio.TaskGroup() as tasks:
        for number in range(count):
            tasks.create_task(keep_at(work), name=f"{kind} {number}")
        await asyncio.sleep(1 if kind in COUNTS else 0.2)
        print("flooding", flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
