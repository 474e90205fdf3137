"""The ways by which a sandbox reaches a running gateway, as raw streams: the explicit listener and a tunnel.

In the tunnel the test itself is the sandboxd, and says of its streams what it likes; or a real one is between.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Protocol

from sallyport.net.clock import Clock
from tests.support.gateway_process import GatewayProcess
from tests.support.raw_end import RawEnd
from tests.support.sandboxd_process import SandboxdProcess, sandboxd_process
from tests.support.tls_by_hand import trusting
from tests.support.tunnel_client import TunnelClient, dial_tunnel

WAYS = ("explicit", "tunnel")
SANDBOXD = "sandboxd"


class Way(Protocol):
    """One way; ca_pem is the authority that signs what a sandbox is shown."""

    name: str
    gateway: GatewayProcess
    ca_pem: bytes

    async def plain(self, request: bytes) -> RawEnd:
        """Send a request in absolute form on a new stream; what says whose it is goes in behind its first line."""

    async def connect(self, request: bytes, declared: str) -> RawEnd:
        """Send a CONNECT on a new stream, and nothing else; declared is what a sandboxd would say of it."""

    async def inside(self, authority: str, server_name: str) -> RawEnd:
        """CONNECT to a managed host, and return the stream on which its requests are sent."""


class ExplicitWay:
    """The explicit listener: a token in each head, and TLS inside a CONNECT."""

    name = "explicit"

    def __init__(self, gateway: GatewayProcess) -> None:
        self.gateway = gateway
        self.ca_pem = gateway.ca_file.read_bytes()
        self._trust = trusting(self.ca_pem, "http/1.1")
        self._ends: list[RawEnd] = []

    async def plain(self, request: bytes) -> RawEnd:
        first, _, rest = request.partition(b"\r\n")
        end = await RawEnd.dial(self.gateway.proxy_port)
        self._ends.append(end)
        end.send(first + b"\r\nProxy-Authorization: Bearer " + self.gateway.token.encode() + b"\r\n" + rest)
        return end

    async def connect(self, request: bytes, declared: str) -> RawEnd:
        return await self.plain(request)

    async def inside(self, authority: str, server_name: str) -> RawEnd:
        end = await self.connect(connect_head(authority), "")
        await established(end)
        await end.start_tls(self._trust, server_name)
        return end

    def abort(self) -> None:
        """Close every stream."""
        for end in self._ends:
            end.writer.transport.abort()


class TunnelWay:
    """A tunnel whose sandboxd is the test's: it says of each stream what it likes."""

    name = "tunnel"

    def __init__(self, gateway: GatewayProcess, client: TunnelClient) -> None:
        self.gateway = gateway
        self.client = client
        self.ca_pem = b""

    async def plain(self, request: bytes) -> RawEnd:
        return self.client.ask(request)

    async def connect(self, request: bytes, declared: str) -> RawEnd:
        return self.client.ask(request, declared)

    async def inside(self, authority: str, server_name: str) -> RawEnd:
        return await self.client.inside(authority)


class SandboxdWay:
    """A real sandboxd: no token in any head, and TLS ends at it."""

    name = SANDBOXD

    def __init__(self, gateway: GatewayProcess, sandboxd: SandboxdProcess) -> None:
        self.gateway = gateway
        self._port = int(sandboxd.proxy_url.rpartition(":")[2])
        self.ca_pem = sandboxd.ca_file.read_bytes()
        self._trust = trusting(self.ca_pem, "http/1.1")
        self._ends: list[RawEnd] = []

    async def plain(self, request: bytes) -> RawEnd:
        end = await RawEnd.dial(self._port)
        self._ends.append(end)
        end.send(request)
        return end

    async def connect(self, request: bytes, declared: str) -> RawEnd:
        return await self.plain(request)

    async def inside(self, authority: str, server_name: str) -> RawEnd:
        end = await self.plain(connect_head(authority))
        await established(end)
        await end.start_tls(self._trust, server_name)
        return end

    def abort(self) -> None:
        """Close every stream."""
        for end in self._ends:
            end.writer.transport.abort()


def connect_head(authority: str) -> bytes:
    """Return the head of a CONNECT as any client writes it."""
    return f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n".encode()


async def established(end: RawEnd) -> None:
    """Read the 200 of a CONNECT."""
    head = await end.head()
    assert head.startswith(b"HTTP/1.1 200 "), head


@contextlib.asynccontextmanager
async def both_ways(gateway: GatewayProcess) -> AsyncIterator[Mapping[str, Way]]:
    """Open both until the block ends."""
    clock = Clock(asyncio.get_running_loop())
    client = await dial_tunnel(clock, gateway.tunnel_port, gateway.mint_token("sallyport-tunnel"))
    explicit = ExplicitWay(gateway)
    try:
        yield {"explicit": explicit, "tunnel": TunnelWay(gateway, client)}
    finally:
        explicit.abort()
        client.abort()
        clock.close()


@contextlib.asynccontextmanager
async def through_sandboxd(gateway: GatewayProcess) -> AsyncIterator[Mapping[str, Way]]:
    """Start a sandboxd until the block ends, and go through it."""
    tokens = {"token": gateway.mint_token("sallyport-tunnel")}
    url = f"ws://127.0.0.1:{gateway.tunnel_port}"
    # A head that never ends is answered while a test still waits.
    process = sandboxd_process(gateway.folder / "sandbox", url, tokens, settings={"SALLYPORT_TIMEOUTS_HEAD": "3s"})
    sandboxd = await asyncio.to_thread(process.__enter__)
    way = SandboxdWay(gateway, sandboxd)
    try:
        yield {way.name: way}
    finally:
        way.abort()
        await asyncio.to_thread(process.__exit__, None, None, None)
