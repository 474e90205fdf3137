"""A whole gateway on the test's own loop, reached through real sockets, its audit records at hand.

For the shells of the gateway: listener, stream, exchange, answer, relay, upstream, app. What needs a process of its
own (signals, environment, memory) is tests/support/gateway_process.py.
"""

import asyncio
import contextlib
import functools
import ssl
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from jwt.algorithms import OKPAlgorithm

from gateway.app import start_gateway
from gateway.audit import AuditLog
from gateway.audit_line import FIELDS, Record
from gateway.config import load_config
from gateway.parts import GatewayParts
from gateway.running import Gateway
from sallyport.net.interception import CaStore, InterceptionContexts
from sallyport_cli.keys import mint, new_private_key, public_pem
from tests.support.gateway_plans import ORGANIZATION, SANDBOX
from tests.support.raw_end import WAIT_SECONDS, RawEnd
from tests.support.tunnel_client import TunnelClient, dial_tunnel

type Settings = Mapping[str, Mapping[str, object]]

signing_key = functools.cache(new_private_key)


def signing_jwk() -> dict[str, object]:
    """Return the public key that the tokens of this module are signed for."""
    return {**OKPAlgorithm.to_jwk(signing_key().public_key(), as_dict=True)}


@functools.cache
def _origin_trust() -> tuple[InterceptionContexts, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        store = CaStore(Path(folder))
        return InterceptionContexts(store), store.authority("origins", _now()).certificate_pem


def origin_context(host: str) -> ssl.SSLContext:
    """Return the server context of a TLS origin that every gateway of this module trusts under this one name."""
    return _origin_trust()[0].server_context("origins", host, _now())


def _now() -> float:
    return time.time_ns() / 1e9


def proxy_token(sandbox_id: str = SANDBOX, *, ttl_seconds: int = 3600, organization_id: str = ORGANIZATION) -> str:
    """Sign a proxy token that every gateway of this module accepts."""
    return signed_token("sallyport-proxy", sandbox_id, ttl_seconds=ttl_seconds, organization_id=organization_id)


def signed_token(
    audience: str,
    sandbox_id: str = SANDBOX,
    *,
    ttl_seconds: int = 3600,
    organization_id: str = ORGANIZATION,
    issuer: str = "sallyport",
) -> str:
    """Sign a token by the key that every gateway of this module trusts."""
    return mint(
        signing_key(),
        sandbox_id=sandbox_id,
        organization_id=organization_id,
        audience=audience,
        issuer=issuer,
        ttl_seconds=ttl_seconds,
        now=_now(),
    ).token


class RecordedAudit(AuditLog):
    """An audit log that also keeps what it was given."""

    def __init__(self) -> None:
        super().__init__("off", 256)
        self.entries: list[dict[str, object]] = []
        self._more = asyncio.Event()

    def record(self, entry: Record) -> None:
        super().record(entry)
        self.entries.append(dict(zip(FIELDS, entry, strict=True)))
        self._more.set()

    async def until(self, count: int) -> list[dict[str, object]]:
        """Wait for so many records; more than that is a fault."""
        async with asyncio.timeout(WAIT_SECONDS):
            while len(self.entries) < count:
                self._more.clear()
                await self._more.wait()
        assert len(self.entries) == count, self.entries
        return self.entries


class GatewayInProcess:
    """A running gateway and the clients of its sandbox."""

    def __init__(self, gateway: Gateway, folder: Path) -> None:
        self.gateway = gateway
        self.audit = RecordedAudit()
        self.token = proxy_token()
        self._folder = folder
        self._clients: list[RawEnd] = []
        self._tunnels: list[TunnelClient] = []
        gateway.parts.audit = self.audit

    @property
    def parts(self) -> GatewayParts:
        return self.gateway.parts

    @property
    def authorization(self) -> bytes:
        """The field line that says whose request it is."""
        return b"Proxy-Authorization: Bearer " + self.token.encode()

    def request(self, target: str, *lines: bytes, method: str = "GET", body: bytes = b"") -> bytes:
        """Return a proxy request for an absolute URL with its Host and token; `lines` follow, framing is theirs."""
        host = target.partition("://")[2].partition("/")[0].partition("?")[0].encode()
        first = f"{method} {target} HTTP/1.1".encode()
        return b"\r\n".join((first, b"Host: " + host, self.authorization, *lines, b"", body))

    async def client(self) -> RawEnd:
        """Open a stream to the explicit listener."""
        client = await RawEnd.dial(self.gateway.proxy.port)
        self._clients.append(client)
        return client

    async def tunnel(self, sandbox_id: str = SANDBOX, *, token: str | None = None) -> TunnelClient:
        """Open a sandboxd's tunnel."""
        assert self.gateway.tunnel is not None
        bearer = token or signed_token("sallyport-tunnel", sandbox_id)
        client = await dial_tunnel(self.parts.clock, self.gateway.tunnel.port, bearer)
        self._tunnels.append(client)
        return client

    async def open_tunnel(self, authority: str) -> RawEnd:
        """CONNECT to host:port and return the stream as it is after the 200."""
        client = await self.client()
        target = authority.encode()
        client.send(b"CONNECT %b HTTP/1.1\r\nHost: %b\r\n%b\r\n\r\n" % (target, target, self.authorization))
        head = await client.head()
        assert head.startswith(b"HTTP/1.1 200 "), head
        return client

    async def intercepted(self, authority: str, server_name: str | None = None) -> RawEnd:
        """CONNECT to a managed host and speak TLS with it, trusting the sandbox's CA and HTTP/1.1 alone."""
        client = await self.open_tunnel(authority)
        ca = self.parts.authorities.authority(SANDBOX, self.parts.clock.wall).certificate_pem
        context = ssl.create_default_context(cadata=ca.decode("ascii"))
        context.set_alpn_protocols(["http/1.1"])
        await client.start_tls(context, server_name or authority.rpartition(":")[0])
        return client

    def set_credential(self, connection_id: str, value: str) -> None:
        """Change what the credential's file holds; the gateway learns of it when it reads again."""
        (self._folder / connection_id).write_text(value)

    def metric(self, sample: str) -> float:
        """Return one sample of the metrics, named with its labels as it is exposed."""
        for line in self.parts.metrics.render().decode().splitlines():
            name, _, value = line.rpartition(" ")
            if name == sample:
                return float(value)
        raise AssertionError(f"no sample {sample}")

    def close_clients(self) -> None:
        for client in self._clients:
            client.writer.transport.abort()
        for tunnel in self._tunnels:
            tunnel.abort()


@contextlib.asynccontextmanager
async def in_process_gateway(
    folder: Path,
    *,
    plan: bytes | None = None,
    credentials: Mapping[str, str] | None = None,
    connect_to: Mapping[str, int] | None = None,
    further: Settings | None = None,
    control: Mapping[str, object] | None = None,
) -> AsyncIterator[GatewayInProcess]:
    """Run a gateway until the block ends. With `control`, settings of that section, it gets keys and credentials there.

    `credentials` are values by connection id, read from files; `connect_to` maps host:port to a port of loopback;
    `further` are sections of the settings, merged over ours.
    """
    key_file = folder / "tokens.pem"
    key_file.write_bytes(public_pem(signing_key()))
    # One root instead of the system's, which take longer to load than a test to run.
    ca_file = folder / "origins.pem"
    ca_file.write_bytes(_origin_trust()[1])
    values = credentials or {}
    for connection_id, value in values.items():
        (folder / connection_id).write_text(value)
    document: dict[str, dict[str, object]] = {
        "listen": {"proxy": "127.0.0.1:0", "tunnel": "127.0.0.1:0", "admin": "127.0.0.1:0"},
        "tokens": {"public_key": str(key_file)},
        "interception": {"ca_dir": "ca"},
        "network": {"allow": ["127.0.0.0/8"]},
        "audit": {"path": "off"},
        "credentials": {connection_id: {"file": str(folder / connection_id)} for connection_id in values},
        "upstream": {
            "ca_file": str(ca_file),
            "connect_to": {here: f"127.0.0.1:{port}" for here, port in (connect_to or {}).items()},
        },
    }
    if control is not None:
        document |= {"control": dict(control), "tokens": {}, "credentials": {}}
    for section, members in (further or {}).items():
        document[section] = document.get(section, {}) | dict(members)
    running = GatewayInProcess(await start_gateway(load_config(document, {}, folder)), folder)
    try:
        if plan is not None:
            running.parts.plans.apply(plan)
        yield running
    finally:
        running.close_clients()
        await running.gateway.close()
