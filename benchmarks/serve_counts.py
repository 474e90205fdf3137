"""What one exchange costs the gateway's own code, in counts that no other work on the machine can move.

The parts of a real gateway, one stream of a sandbox and one idle upstream link, their transports in memory: bytes are
handed over as the loop hands them over, and what is written is looked at. No kernel, no loop, no peer.

    python -m benchmarks.serve_counts                 bytecodes and memory of an exchange, where the code is Python
    valgrind --tool=callgrind --callgrind-out-file=/dev/null python -m benchmarks.serve_counts --exchanges 2000

With `--exchanges` it carries so many and no more: the difference between two runs under callgrind, divided by the
difference of their exchanges, is the instructions of one. With `--varied` each request is another (`small_get_varied`);
with `--tls` the stream is an intercepted one, and there is TLS on both sides (`tls_tls`).
"""

import argparse
import asyncio
import contextlib
import ssl
import sys
import tempfile
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import get_ident
from types import CodeType

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from benchmarks.certificates import Certificates, make_certificates
from benchmarks.own import SANDBOX_ID, plan_document, sign_token
from benchmarks.wires import PlainEnd, TlsEnd, Wire
from benchmarks.workloads.small_get import VARIED, WORKLOAD
from benchmarks.workloads.workload import HOST, PLACEHOLDER, Workload, numbered
from gateway.app import start_gateway
from gateway.audit import AuditLog
from gateway.config import load_config
from gateway.core.classify import classify
from gateway.core.decision import Mode
from gateway.core.pool_state import Room
from gateway.core.route_table import PoolKey
from gateway.parts import GatewayParts
from gateway.proxy_listener import SOURCE, ProxyDoorman
from gateway.stream import ServedStream
from gateway.upstream import UpstreamLink
from sallyport.destination import Destination
from sallyport.net.tls import TlsTransport, client_context, server_context
from sallyport.plan.codec import seal

_SECRET = "sk-live-" + "0123456789abcdef" * 3
_WARM_EXCHANGES = 64
# All are made ready whatever is asked for, so that what the other ends do falls out of a difference.
MOST_EXCHANGES = 4000


class CountingError(RuntimeError):
    """The gateway did not do what is to be counted; str() holds what it wrote instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What one exchange costs: instructions of the interpreter, bytes it needs at once, blocks it leaves behind."""

    bytecodes: int
    peak_bytes: int
    kept_blocks: int


class Bench:
    """One keep-alive stream and one pooled link of a real gateway; with trust it is intercepted, and TLS on both."""

    def __init__(self, parts: GatewayParts, token: str, workload: Workload, trust: Certificates | None) -> None:
        self._parts = parts
        self._down, self._up = Wire(), Wire()
        self._sandbox: PlainEnd = PlainEnd()
        self._origin: PlainEnd = PlainEnd()
        self._answer = workload.answer()
        self._body = workload.answer_body
        key = _pool_key(parts, "http" if trust is None else "https")
        link = UpstreamLink(parts.upstreams, key)
        if trust is None:
            stream = ServedStream(parts, mode=Mode.PLAIN, source=SOURCE, doorman=ProxyDoorman(parts))
            stream.connection_made(self._down)
            link.connection_made(self._up)
            self._received, self._answered = stream.data_received, link.data_received
            self._request = workload.proxied_request(token)
        else:
            claims = parts.tokens.verify(token, parts.clock.wall)
            stream = ServedStream(
                parts, mode=Mode.INTERCEPTED, source=SOURCE, destination=Destination("https", HOST, 443), claims=claims
            )
            sandbox_tls, self._sandbox = _tls_of_sandbox(parts, stream, self._down)
            origin_tls, self._origin = _tls_of_origin(trust, link, self._up)
            self._received, self._answered = sandbox_tls.data_received, origin_tls.data_received
            self._request = workload.direct_request(PLACEHOLDER)
        _put_into_pool(parts, link)
        self._sizes = (0, 0)

    def exchanges(self, count: int, first: int = 0) -> list[tuple[bytes, bytes]]:
        """Return so many requests with their answers, each a bytes object of its own as those that are read.

        Where they are encrypted they are good once, in this order.
        """
        seal_request, seal_answer = self._sandbox.sealed, self._origin.sealed
        requests = [numbered(self._request + b" ", number)[:-1] for number in range(first, first + count)]
        return [(seal_request(request), seal_answer(self._answer)) for request in requests]

    async def warm_up(self) -> None:
        """Have the credential fetched, and everything remembered that is remembered; raises CountingError."""
        for number, (request, answer) in enumerate(self.exchanges(_WARM_EXCHANGES)):
            self._received(request)
            if number == 0:
                async with asyncio.timeout(10):
                    await self._up.has_written.wait()
            self._answered(answer)
            up, down = self._origin.opened(bytes(self._up.written)), self._sandbox.opened(bytes(self._down.written))
            if _SECRET.encode() not in up or not down.endswith(self._body):
                raise CountingError((up + down).decode("latin-1"))
        self._sizes = self._written_sizes()

    def carry(self, exchanges: Iterable[tuple[bytes, bytes]]) -> None:
        """Carry exchanges one after the other, as the loop would; raises CountingError.

        The last has to write as much as that of the warm-up did, which was read whole: to read costs, and is not ours.
        """
        received, answered = self._received, self._answered
        for request, answer in exchanges:
            received(request)
            answered(answer)
        if self._written_sizes() != self._sizes:
            raise CountingError(f"{self._written_sizes()} bytes, not {self._sizes}: {bytes(self._down.written)!r}")

    def _written_sizes(self) -> tuple[int, int]:
        return len(self._up.written), len(self._down.written)

    def count(self) -> Counts:
        """Count one exchange; the exchanges before it have left nothing to be learnt."""
        return Counts(bytecodes=self._bytecodes(), peak_bytes=self._peak_bytes(), kept_blocks=self._kept_blocks())

    def _bytecodes(self) -> int:
        first, second = self.exchanges(2, 1000)
        self.carry([first])
        return count_bytecodes(lambda: self.carry([second])) - count_bytecodes(lambda: self.carry(()))

    def _peak_bytes(self) -> int:
        first, second = self.exchanges(2, 1002)
        tracemalloc.start()
        try:
            self.carry([first])
            before, _ = tracemalloc.get_traced_memory()
            tracemalloc.reset_peak()
            self.carry([second])
            return tracemalloc.get_traced_memory()[1] - before
        finally:
            tracemalloc.stop()

    def _kept_blocks(self) -> int:
        exchanges = self.exchanges(101, 1004)
        self._parts.audit = AuditLog("off", 1)  # a record that waits to be written is kept, and meant to be
        self.carry(exchanges[:1])
        before = sys.getallocatedblocks()
        self.carry(exchanges[1:])
        return round((sys.getallocatedblocks() - before) / 100)


def count_bytecodes(act: Callable[[], object]) -> int:
    """Count the instructions that the interpreter carries out for act(), all of its callees included."""
    seen, here = 0, get_ident()

    def on_instruction(_code: CodeType, _offset: int) -> None:
        nonlocal seen
        seen += get_ident() == here  # the audit log has a thread of its own

    monitoring = sys.monitoring
    tool, event = monitoring.PROFILER_ID, monitoring.events.INSTRUCTION
    monitoring.use_tool_id(tool, "serve counts")
    try:
        monitoring.register_callback(tool, event, on_instruction)
        monitoring.set_events(tool, event)
        act()
        monitoring.set_events(tool, 0)
    finally:
        monitoring.free_tool_id(tool)
    return seen


def _pool_key(parts: GatewayParts, scheme: str) -> PoolKey:
    table = parts.plans.table(SANDBOX_ID)
    if table is None:
        raise CountingError("the sandbox has no plan")
    path = WORKLOAD.path.encode("ascii")
    upstream = classify(table, Destination(scheme, HOST, 443 if scheme == "https" else 80), "GET", path).upstream
    if upstream is None:
        raise CountingError("the plan does not let the request pass")
    return upstream.pool_key


def _put_into_pool(parts: GatewayParts, link: UpstreamLink) -> None:
    """Let exchanges find a link that nobody had to dial."""
    if parts.upstreams.state.reserve(link.key, SANDBOX_ID, link) is not Room.TAKEN:
        raise CountingError("the pool has no room for a link")
    parts.upstreams.release(link)


def _tls_of_sandbox(parts: GatewayParts, stream: ServedStream, wire: Wire) -> tuple[TlsTransport, TlsEnd]:
    """End TLS as an interception does, and shake hands with a process of the sandbox."""
    wall = parts.clock.wall
    trusted = parts.authorities.authority(SANDBOX_ID, wall).certificate_pem.decode("ascii")
    end = TlsEnd(ssl.create_default_context(cadata=trusted), server_side=False, server_hostname=HOST)
    context = parts.interception.server_context(SANDBOX_ID, HOST, wall)
    tls = TlsTransport(wire, stream, context, server_side=True, on_handshake=_agreed)
    end.shake_hands(tls, wire)
    return tls, end


def _tls_of_origin(trust: Certificates, link: UpstreamLink, wire: Wire) -> tuple[TlsTransport, TlsEnd]:
    """Shake hands with the origin, as a link does that is dialled."""
    context = client_context(str(trust.ca))
    end = TlsEnd(server_context(str(trust.leaf), str(trust.leaf_key)), server_side=True)
    tls = TlsTransport(wire, link, context, server_side=False, server_hostname=HOST, on_handshake=_agreed)
    end.shake_hands(tls, wire)
    return tls, end


def _agreed(error: Exception | None) -> None:
    if error is not None:
        raise CountingError(f"the TLS handshake failed: {error}")


@contextlib.asynccontextmanager
async def bench(workload: Workload, *, is_tls: bool = False) -> AsyncIterator[Bench]:
    """Start a gateway on this loop, warm one stream of it up, and end it all with the block."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        trust = make_certificates(folder, HOST, datetime.now(UTC).timestamp())
        key = Ed25519PrivateKey.generate()
        (folder / "public.pem").write_bytes(
            key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        )
        (folder / "secret").write_text(_SECRET)
        (folder / "plan.json").write_bytes(seal(plan_document(HOST)))
        config = load_config(
            {
                "listen": {"proxy": "127.0.0.1:0", "tunnel": "off", "admin": "127.0.0.1:0"},
                "plans": ["plan.json"],
                "credentials": {"con_bench": {"file": "secret"}},
                "tokens": {"public_key": "public.pem"},
                "interception": {"ca_dir": "ca"},
                "network": {"allow": ["127.0.0.0/8"]},
                "audit": {"path": "audit.jsonl"},
            },
            {},
            folder,
        )
        gateway = await start_gateway(config)
        try:
            made = Bench(gateway.parts, sign_token(key, "sallyport-proxy"), workload, trust if is_tls else None)
            await made.warm_up()
            yield made
        finally:
            await gateway.close()


async def _main() -> None:
    reader = argparse.ArgumentParser(prog="python -m benchmarks.serve_counts", description=__doc__.partition("\n")[0])
    reader.add_argument("--exchanges", type=int, help=f"carry so many, {MOST_EXCHANGES} at most, and count nothing")
    reader.add_argument("--varied", action="store_true", help="each request another")
    reader.add_argument("--tls", action="store_true", help="TLS on both sides")
    asked = reader.parse_args()
    async with bench(VARIED if asked.varied else WORKLOAD, is_tls=asked.tls) as made:
        if asked.exchanges is None:
            print(made.count())
        else:
            made.carry(made.exchanges(MOST_EXCHANGES, 10_000)[: asked.exchanges])


if __name__ == "__main__":
    asyncio.run(_main())
