"""The gateway's end of tunnels, played by a test: what it answers, sends and opens is what the test says."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, cast

from sallyport.net.buffer_budget import BufferBudget
from sallyport.net.clock import Clock
from sallyport.net.tunnel import Tunnel
from sallyport.net.tunnel_stream import TunnelStream
from sallyport.net.websocket_upgrade import accept_upgrade
from sallyport.wire.http1.codec import parse_request
from sallyport.wire.http1.scan import HEAD_END
from tests.support.raw_end import WAIT_SECONDS
from tests.support.transports import End

ADMITTED = b"HTTP/1.1 200 OK\r\n\r\n"


def refusal(status: int, code: str, body: bytes = b"{}") -> bytes:
    """Write an answer of the gateway as it looks on a stream."""
    head = b"HTTP/1.1 %d No\r\nContent-Type: application/problem+json\r\nContent-Length: %d\r\n" % (status, len(body))
    return head + b"X-Sallyport-Error: %b\r\nConnection: close\r\n\r\n%b" % (code.encode(), body)


class ScriptedTunnel:
    """One tunnel of sandboxd, seen from the gateway. `streams` are those it opened, `control` what it said."""

    def __init__(self, gateway: "ScriptedGateway", token: str) -> None:
        self.token = token
        self.control: list[dict[str, Any]] = []
        self.ends: list[tuple[int | None, str]] = []
        self._streams: asyncio.Queue[End] = asyncio.Queue()
        self._changed = asyncio.Event()
        self.tunnel = Tunnel(self, is_client=False, clock=gateway.clock, budget=gateway.budget)

    async def stream(self) -> End:
        """Return the next stream that sandboxd opened, once its head is there."""
        async with asyncio.timeout(WAIT_SECONDS):
            end = await self._streams.get()
        await end.until(lambda end: HEAD_END in end.received)
        return end

    def has_streams(self) -> bool:
        """Say whether a stream waits to be looked at."""
        return not self._streams.empty()

    def say(self, kind: str, **fields: object) -> None:
        """Send one control message."""
        self.tunnel.send_control({"type": kind, **fields})

    def manage(self, revision: int, *patterns: str, ports: tuple[int, ...] = (443, 80)) -> None:
        """Send a managed set."""
        hosts = [{"pattern": pattern, "ports": list(ports)} for pattern in patterns]
        self.say("interception.set", revision=revision, hosts=hosts)

    async def heard(self, kind: str, count: int = 1) -> dict[str, Any]:
        """Wait for so many control messages of a kind, and return the last of them."""
        async with asyncio.timeout(WAIT_SECONDS):
            while len(found := [each for each in self.control if each["type"] == kind]) < count:
                self._changed.clear()
                await self._changed.wait()
        return found[count - 1]

    async def ended(self) -> tuple[int | None, str]:
        """Wait for the end of the tunnel."""
        async with asyncio.timeout(WAIT_SECONDS):
            while not self.ends:
                self._changed.clear()
                await self._changed.wait()
        return self.ends[0]

    def stream_opened(self, stream: TunnelStream) -> asyncio.Protocol:
        end = End(keeps_half_open=True)
        self._streams.put_nowait(end)
        return end

    def control_received(self, text: bytes) -> None:
        self.control.append(json.loads(text))
        self._changed.set()

    def tunnel_lost(self, code: int | None, reason: str) -> None:
        self.ends.append((code, reason))
        self._changed.set()


class ScriptedGateway:
    """A tunnel listener. `door` answers an upgrade: None admits, bytes are sent instead and the socket closed."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.budget = BufferBudget()
        self.port = 0
        self.door: Callable[[str], bytes | None] = lambda token: None
        self.tokens: list[str] = []
        self.tunnels: list[ScriptedTunnel] = []
        self._arrived: asyncio.Queue[ScriptedTunnel] = asyncio.Queue()
        self._server: asyncio.Server | None = None
        self._sockets: set[asyncio.Transport] = set()

    async def tunnel(self) -> ScriptedTunnel:
        """Return the next tunnel that was opened."""
        async with asyncio.timeout(WAIT_SECONDS):
            return await self._arrived.get()

    async def listen(self) -> None:
        """Accept at the same port as before, or at a free one."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Door(self), "127.0.0.1", self.port, reuse_address=True)
        self.port = self._server.sockets[0].getsockname()[1]

    async def vanish(self) -> None:
        """End as a killed process does: nobody listens, every socket is cut."""
        if self._server is not None:
            self._server.close()
        for transport in tuple(self._sockets):
            transport.abort()
        await asyncio.sleep(0)

    def connected(self, transport: asyncio.Transport) -> None:
        self._sockets.add(transport)

    def upgraded(self, transport: asyncio.Transport, head: bytes, early: bytes) -> None:
        """Answer one upgrade."""
        request = parse_request(head)
        token = next(line for line in request.lines if line.lower().startswith(b"authorization:")).decode()
        token = token.rpartition(" ")[2]
        self.tokens.append(token)
        answer = self.door(token)
        if answer is not None:
            transport.write(answer)
            transport.close()
            return
        transport.write(accept_upgrade(request))
        scripted = ScriptedTunnel(self, token)
        self.tunnels.append(scripted)
        scripted.tunnel.start(transport, early)
        self._arrived.put_nowait(scripted)


class _Door(asyncio.Protocol):
    def __init__(self, gateway: ScriptedGateway) -> None:
        self._gateway = gateway
        self._received = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._gateway.connected(self._transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, separator, rest = self._received.partition(HEAD_END)
        if separator:
            self._gateway.upgraded(self._transport, head, rest)


@contextlib.asynccontextmanager
async def scripted_gateway() -> AsyncIterator[ScriptedGateway]:
    """Listen on a free port until the block ends."""
    clock = Clock(asyncio.get_running_loop())
    gateway = ScriptedGateway(clock)
    await gateway.listen()
    try:
        yield gateway
    finally:
        await gateway.vanish()
        clock.close()


def fields_of(head: bytes) -> Mapping[bytes, bytes]:
    """Return the fields of a head by their lower-case names."""
    lines = head.partition(HEAD_END)[0].split(b"\r\n")[1:]
    return {name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}
