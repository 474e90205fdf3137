"""A whole sandboxd on the test's own loop, and programs that use it, through real sockets."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from sandboxd.app import Sandboxd, start_sandboxd
from sandboxd.config import load_config
from tests.support.raw_end import RawEnd
from tests.support.until import until


class SandboxdInProcess:
    """A running sandboxd and the connections that a test made to it."""

    def __init__(self, sandboxd: Sandboxd, folder: Path) -> None:
        self.sandboxd = sandboxd
        self.parts = sandboxd.parts
        self.state = folder / "state"
        self.token_file = folder / "token"
        self._clients: list[RawEnd] = []

    @property
    def port(self) -> int:
        return self.sandboxd.proxy.port

    async def client(self) -> RawEnd:
        """Connect to the proxy."""
        client = await RawEnd.dial(self.port)
        self._clients.append(client)
        return client

    async def ask(self, request: bytes) -> RawEnd:
        """Connect and send some bytes."""
        client = await self.client()
        client.send(request)
        return client

    async def connect(self, authority: str) -> RawEnd:
        """Send a CONNECT."""
        target = authority.encode()
        return await self.ask(b"CONNECT %b HTTP/1.1\r\nHost: %b\r\n\r\n" % (target, target))

    def trust(self, *, alpn: tuple[str, ...] = ("http/1.1",)) -> ssl.SSLContext:
        """Return the context of a program that trusts what the CA file says."""
        context = ssl.create_default_context(cafile=str(self.state / "ca.pem"))
        context.set_alpn_protocols(list(alpn))
        return context

    async def inside(self, authority: str, context: ssl.SSLContext | None = None) -> RawEnd:
        """CONNECT to a managed host and speak TLS with it."""
        client = await self.connect(authority)
        assert (await client.head()).startswith(b"HTTP/1.1 200 ")
        await client.start_tls(context or self.trust(), authority.rpartition(":")[0])
        return client

    async def managed(self, revision: int) -> None:
        """Wait until a managed set is in force."""
        gateway = self.parts.gateway
        await until(lambda: gateway.managed is not None and gateway.managed.revision == revision)

    def close_clients(self) -> None:
        for client in self._clients:
            client.writer.transport.abort()


@contextlib.asynccontextmanager
async def in_process_sandboxd(
    folder: Path, gateway: str, *, token: str = "tunnel-token", settings: Mapping[str, str] | None = None
) -> AsyncIterator[SandboxdInProcess]:
    """Run a sandboxd for a gateway's URL until the block ends; settings are further variables."""
    token_file = folder / "token"
    if not token_file.exists():
        token_file.write_text(token)
    roots = folder / "no-roots.pem"
    roots.touch()
    environ = {
        "SALLYPORT_GATEWAY_URL": gateway,
        "SALLYPORT_TOKEN_FILE": str(token_file),
        "SALLYPORT_STATE_DIR": str(folder / "state"),
        "SALLYPORT_LISTEN": "127.0.0.1:0",
        # A hundred roots would be parsed for Java at every start.
        "SSL_CERT_FILE": str(roots),
        **(settings or {}),
    }
    running = SandboxdInProcess(await start_sandboxd(load_config(environ, folder), environ), folder)
    try:
        yield running
    finally:
        running.close_clients()
        await running.sandboxd.close()
        await asyncio.sleep(0)
