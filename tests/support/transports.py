"""Both ends of a byte stream for tests: a protocol that records, and pairs over TCP, memory and TLS."""

import asyncio
import datetime
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import cast

from sallyport.net.bulk_turns import BulkTurns
from sallyport.net.interception import CaStore, InterceptionContexts
from sallyport.net.memory import memory_pair
from sallyport.net.tls import TlsTransport
from tests.support.raw_end import WAIT_SECONDS


class End(asyncio.Protocol):
    """A protocol that records what its transport tells it."""

    def __init__(self, *, keeps_half_open: bool = False, on_data: Callable[["End"], None] | None = None) -> None:
        self.keeps_half_open = keeps_half_open
        self.on_data = on_data
        self.received = bytearray()
        self.deliveries = 0
        self.events: list[str] = []  # in order: made, pause, resume, eof, lost
        self.error: Exception | None = None
        self._changed = asyncio.Event()
        self._transport: asyncio.Transport | None = None

    @property
    def transport(self) -> asyncio.Transport:
        assert self._transport is not None, "not connected"
        return self._transport

    async def until(self, condition: Callable[["End"], bool]) -> None:
        """Wait until what was recorded satisfies a condition; fails after WAIT_SECONDS."""
        async with asyncio.timeout(WAIT_SECONDS):
            while not condition(self):
                self._changed.clear()
                await self._changed.wait()

    async def until_received(self, expected: bytes) -> None:
        await self.until(lambda end: len(end.received) >= len(expected) or "lost" in end.events)
        assert self.received == expected

    async def until_delivery(self, number: int) -> None:
        await self.until(lambda end: end.deliveries >= number)

    async def until_event(self, event: str) -> None:
        await self.until(lambda end: event in end.events)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._note("made")

    def data_received(self, data: bytes) -> None:
        self.received += data
        self.deliveries += 1
        self._changed.set()
        if self.on_data is not None:
            self.on_data(self)

    def eof_received(self) -> bool:
        self._note("eof")
        return self.keeps_half_open

    def connection_lost(self, exc: Exception | None) -> None:
        self.error = exc
        self._note("lost")

    def pause_writing(self) -> None:
        self._note("pause")

    def resume_writing(self) -> None:
        self._note("resume")

    def _note(self, event: str) -> None:
        self.events.append(event)
        self._changed.set()


class TlsTrust:
    """A server and a client context that trust each other for one host, made by the sandbox's own authority."""

    HOST = "api.test"

    def __init__(self, ca_dir: Path) -> None:
        now = datetime.datetime.now(datetime.UTC).timestamp()
        store = CaStore(ca_dir)
        self.server = InterceptionContexts(store).server_context("sbx_1", self.HOST, now)
        self.ca_pem = store.authority("sbx_1", now).certificate_pem.decode("ascii")

    def client(self, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
        context = ssl.create_default_context(cadata=self.ca_pem)
        context.maximum_version = version
        context.set_alpn_protocols(["http/1.1"])
        return context


async def tcp_pair(a: asyncio.Protocol, b: asyncio.Protocol) -> None:
    """Join two protocols by a socket over loopback; both have had `connection_made` on return."""
    loop = asyncio.get_running_loop()
    accepted = loop.create_future()

    class Accepting(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            cast("asyncio.Transport", transport).set_protocol(b)
            b.connection_made(transport)
            accepted.set_result(None)

    server = await loop.create_server(Accepting, "127.0.0.1", 0)
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            await loop.create_connection(lambda: a, *server.sockets[0].getsockname())
            await accepted
    finally:
        server.close()


class Handshake:
    """The lower end of a TLS pair: makes the TlsTransport when it is connected, and tells how that went."""

    def __init__(
        self,
        upper: asyncio.Protocol,
        context: ssl.SSLContext,
        *,
        server_side: bool,
        server_hostname: str | None = None,
        session: ssl.SSLSession | None = None,
        on_handshake: Callable[[], None] = lambda: None,
        turns: BulkTurns | None = None,
    ) -> None:
        self.on_handshake = on_handshake
        self.calls: list[Exception | None] = []
        self.done = asyncio.Event()
        self.tls: TlsTransport | None = None
        handshake = self

        class Lower(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                handshake.tls = TlsTransport(
                    cast("asyncio.Transport", transport),
                    upper,
                    context,
                    server_side=server_side,
                    server_hostname=server_hostname,
                    session=session,
                    on_handshake=handshake._told,
                    turns=turns,
                )
                # Later, as a listener does that reads the ClientHello first.
                asyncio.get_running_loop().call_soon(handshake.tls.start)

        self.lower = Lower()

    def _told(self, error: Exception | None) -> None:
        self.calls.append(error)
        self.done.set()
        self.on_handshake()


async def tls_pair(a: asyncio.Protocol, b: asyncio.Protocol, trust: TlsTrust, *, over_tcp: bool) -> None:
    """Join two protocols by TLS; `a` is the client. Both have had `connection_made` on return."""
    client = Handshake(a, trust.client(), server_side=False, server_hostname=trust.HOST)
    server = Handshake(b, trust.server, server_side=True)
    if over_tcp:
        await tcp_pair(client.lower, server.lower)
    else:
        memory_pair(asyncio.get_running_loop(), client.lower, server.lower)
    async with asyncio.timeout(WAIT_SECONDS):
        await client.done.wait()
        await server.done.wait()
    assert (client.calls, server.calls) == ([None], [None])
