"""The two ways into a gateway, asked alike: its explicit listener, and a tunnel."""

import asyncio
import contextlib
import re
import ssl
from collections.abc import AsyncIterator
from typing import Final, NamedTuple

from sallyport.net.clock import Clock
from tests.support.gateway_plans import SANDBOX
from tests.support.gateway_process import GatewayProcess
from tests.support.in_process import GatewayInProcess, signed_token
from tests.support.raw_end import RawEnd
from tests.support.tunnel_client import TunnelClient, dial_tunnel

SIDES: Final = ("explicit", "tunnel")
PLAIN: Final = "plain"
PASSTHROUGH: Final = "passthrough"
INTERCEPTED: Final = "intercepted"
# What is sent inside an intercepted CONNECT is no TLS: its requests are http:// ones (A1).
CLEARTEXT: Final = "intercepted, in the clear"


class Told(NamedTuple):
    """The status of an answer, and the code of one that the gateway made itself, else ""."""

    status: int
    code: str


REFUSED_ADDRESS: Final = Told(403, "address_refused")


class Side:
    """One of the two, for one sandbox with a plan of revision 1. Each request has a stream of its own."""

    def __init__(self, proxy_port: int, token: str, tunnel: TunnelClient | None) -> None:
        self._proxy_port = proxy_port
        self._token = token.encode()
        self._tunnel = tunnel
        self._ends: list[RawEnd] = []

    async def send(self, head: bytes, mode: str = PLAIN) -> RawEnd:
        """Send a head, whole; a tunnel's stream declares the mode."""
        if self._tunnel is not None:
            declared = f"{mode.partition(',')[0]}; revision=1"
            return self._tunnel.ask(head, f"{declared}; cleartext" if mode == CLEARTEXT else declared)
        end = await RawEnd.dial(self._proxy_port)
        self._ends.append(end)
        end.send(head[:-2] + b"Proxy-Authorization: Bearer " + self._token + b"\r\n\r\n")
        return end

    async def told(
        self, target: bytes, host: bytes, *, method: bytes = b"GET", mode: str = PLAIN, inside: bytes = b""
    ) -> Told:
        """Send a head and read that of its answer; where a CONNECT was admitted, of the answer to what goes inside."""
        end = await self.send(b"%b %b HTTP/1.1\r\nHost: %b\r\n\r\n" % (method, target, host), mode)
        try:
            head = await end.head()
            if inside and head.startswith(b"HTTP/1.1 200 "):
                end.send(inside)
                head = await end.head()
        finally:
            end.writer.transport.abort()
        return _told(head)

    async def get(self, authority: str) -> Told:
        """Ask for a URL in absolute form."""
        return await self.told(f"http://{authority}/".encode(), authority.encode())

    async def connect(self, authority: str) -> Told:
        """Ask for opaque bytes."""
        return await self.told(authority.encode(), authority.encode(), method=b"CONNECT", mode=PASSTHROUGH)

    async def get_inside(self, authority: str) -> Told:
        """Ask for a CONNECT to a managed host, and for a URL in it, in the clear."""
        name = authority.encode()
        request = b"GET / HTTP/1.1\r\nHost: %b\r\n\r\n" % name
        return await self.told(name, name, method=b"CONNECT", mode=CLEARTEXT, inside=request)

    async def get_by_tls(self, authority: str, context: ssl.SSLContext) -> Told:
        """Ask for a CONNECT to a managed host, and for a URL by TLS in it; in a tunnel TLS has ended before."""
        name = authority.encode()
        end = await self.send(b"CONNECT %b HTTP/1.1\r\nHost: %b\r\n\r\n" % (name, name), INTERCEPTED)
        try:
            assert (await end.head()).startswith(b"HTTP/1.1 200 ")
            if self._tunnel is None:
                await end.start_tls(context, authority.rpartition(":")[0].strip("[]"))
            end.send(b"GET / HTTP/1.1\r\nHost: %b\r\n\r\n" % name)
            return _told(await end.head())
        finally:
            end.writer.transport.abort()

    def close(self) -> None:
        for end in self._ends:
            end.writer.transport.abort()
        if self._tunnel is not None:
            self._tunnel.abort()


def _told(head: bytes) -> Told:
    code = re.search(rb"\r\nX-Sallyport-Error: ([a-z_]+)\r\n", head)
    return Told(int(head.split(b" ")[1]), "" if code is None else code[1].decode())


@contextlib.asynccontextmanager
async def side_of(
    gateway: GatewayProcess | GatewayInProcess, name: str, *, sandbox_id: str = SANDBOX
) -> AsyncIterator[Side]:
    """Open one of SIDES of a running gateway."""
    mint = gateway.mint_token if isinstance(gateway, GatewayProcess) else signed_token
    if isinstance(gateway, GatewayProcess):
        proxy, tunnel = gateway.proxy_port, gateway.tunnel_port
    else:
        assert gateway.gateway.tunnel is not None
        proxy, tunnel = gateway.gateway.proxy.port, gateway.gateway.tunnel.port
    clock = Clock(asyncio.get_running_loop())
    client = None
    if name == "tunnel":
        client = await dial_tunnel(clock, tunnel, mint("sallyport-tunnel", sandbox_id=sandbox_id))
    side = Side(proxy, mint("sallyport-proxy", sandbox_id=sandbox_id), client)
    try:
        yield side
    finally:
        side.close()
        clock.close()
