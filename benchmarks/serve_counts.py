"""What one exchange costs the gateway's own code, in counts that no other work on the machine can move.

The parts of a real gateway, one stream of a sandbox and one idle upstream link, their transports in memory: bytes are
handed over as the loop hands them over, and what is written is looked at. No kernel, no loop, no peer.

    python -m benchmarks.serve_counts                 bytecodes and memory of an exchange, where the code is Python
    valgrind --tool=callgrind --callgrind-out-file=/dev/null python -m benchmarks.serve_counts --exchanges 2000

With `--exchanges` it carries so many and no more: the difference between two runs under callgrind, divided by the
difference of their exchanges, is the instructions of one. With `--varied` each request is another (`small_get_varied`).
"""

import argparse
import asyncio
import contextlib
import sys
import tempfile
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from threading import get_ident
from types import CodeType

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from benchmarks.own import SANDBOX_ID, plan_document, sign_token
from benchmarks.workloads.small_get import VARIED, WORKLOAD
from benchmarks.workloads.workload import HOST, Workload, numbered
from gateway.app import start_gateway
from gateway.audit import AuditLog
from gateway.config import load_config
from gateway.core.classify import classify
from gateway.core.decision import Mode
from gateway.core.pool_state import Room
from gateway.parts import GatewayParts
from gateway.proxy_listener import SOURCE, ProxyDoorman
from gateway.stream import ServedStream
from gateway.upstream import UpstreamLink
from sallyport.destination import Destination
from sallyport.plan.codec import seal

_SECRET = "sk-live-" + "0123456789abcdef" * 3
_WARM_EXCHANGES = 64


class CountingError(RuntimeError):
    """The gateway did not do what is to be counted; str() holds what it wrote instead."""


class Wire(asyncio.Transport):
    """A transport that keeps what was written last, and delivers nothing by itself."""

    __slots__ = ("has_written", "written")

    def __init__(self) -> None:
        self.written: bytes | bytearray | memoryview = b""
        self.has_written = asyncio.Event()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self.written:
            self.has_written.set()
        self.written = data

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return False

    def abort(self) -> None:
        pass

    def close(self) -> None:
        pass

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What one exchange costs: instructions of the interpreter, bytes it needs at once, blocks it leaves behind."""

    bytecodes: int
    peak_bytes: int
    kept_blocks: int


class Bench:
    """One keep-alive stream and one pooled link of a real gateway."""

    def __init__(self, parts: GatewayParts, token: str, workload: Workload) -> None:
        self._parts = parts
        self._down, self._up = Wire(), Wire()
        self._stream = ServedStream(parts, mode=Mode.PLAIN, source=SOURCE, doorman=ProxyDoorman(parts))
        self._stream.connection_made(self._down)
        self._link = _idle_link(parts, self._up)
        self._request = workload.proxied_request(token)
        self._answer = workload.answer()
        self._body = workload.answer_body

    def requests(self, count: int, first: int = 0) -> list[bytes]:
        """Return so many requests, each a bytes object of its own as those that are read."""
        return [numbered(self._request + b" ", number)[:-1] for number in range(first, first + count)]

    async def warm_up(self) -> None:
        """Have the credential fetched, and everything remembered that is remembered."""
        self._stream.data_received(self.requests(1)[0])
        async with asyncio.timeout(10):
            await self._up.has_written.wait()
        self._link.data_received(self._answer)
        self.carry(self.requests(_WARM_EXCHANGES))

    def carry(self, requests: Iterable[bytes]) -> None:
        """Carry exchanges one after the other, as the loop would; raises CountingError."""
        received, answered, answer = self._stream.data_received, self._link.data_received, self._answer
        for request in requests:
            received(request)
            answered(answer)
        self._check()

    def _check(self) -> None:
        if _SECRET.encode() not in self._up.written or not bytes(self._down.written).endswith(self._body):
            raise CountingError((bytes(self._up.written) + bytes(self._down.written)).decode("latin-1"))

    def count(self) -> Counts:
        """Count one exchange; the exchanges before it have left nothing to be learnt."""
        return Counts(bytecodes=self._bytecodes(), peak_bytes=self._peak_bytes(), kept_blocks=self._kept_blocks())

    def _bytecodes(self) -> int:
        requests = self.requests(2, 1000)
        self.carry(requests[:1])
        return count_bytecodes(lambda: self.carry(requests[1:])) - count_bytecodes(lambda: self.carry(()))

    def _peak_bytes(self) -> int:
        requests = self.requests(2, 1002)
        tracemalloc.start()
        try:
            self.carry(requests[:1])
            before, _ = tracemalloc.get_traced_memory()
            tracemalloc.reset_peak()
            self.carry(requests[1:])
            return tracemalloc.get_traced_memory()[1] - before
        finally:
            tracemalloc.stop()

    def _kept_blocks(self) -> int:
        requests = self.requests(101, 1004)
        self._parts.audit = AuditLog("off", 1)  # a record that waits to be written is kept, and meant to be
        self.carry(requests[:1])
        before = sys.getallocatedblocks()
        self.carry(requests[1:])
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


def _idle_link(parts: GatewayParts, wire: Wire) -> UpstreamLink:
    """Put a link into the pool that nobody had to dial."""
    table = parts.plans.table(SANDBOX_ID)
    if table is None:
        raise CountingError("the sandbox has no plan")
    upstream = classify(table, Destination("http", HOST, 80), "GET", WORKLOAD.path.encode("ascii")).upstream
    if upstream is None:
        raise CountingError("the plan does not let the request pass")
    key = upstream.pool_key
    link = UpstreamLink(parts.upstreams, key)
    if parts.upstreams.state.reserve(key, SANDBOX_ID, link) is not Room.TAKEN:
        raise CountingError("the pool has no room for a link")
    link.connection_made(wire)
    parts.upstreams.release(link)
    return link


@contextlib.asynccontextmanager
async def bench(workload: Workload) -> AsyncIterator[Bench]:
    """Start a gateway on this loop, warm one stream of it up, and end it all with the block."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
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
            made = Bench(gateway.parts, sign_token(key, "sallyport-proxy"), workload)
            await made.warm_up()
            yield made
        finally:
            await gateway.close()


async def _main() -> None:
    reader = argparse.ArgumentParser(prog="python -m benchmarks.serve_counts", description=__doc__.partition("\n")[0])
    reader.add_argument("--exchanges", type=int, help="carry so many, and count nothing")
    reader.add_argument("--varied", action="store_true", help="each request another")
    asked = reader.parse_args()
    async with bench(VARIED if asked.varied else WORKLOAD) as made:
        if asked.exchanges is None:
            print(made.count())
        else:
            made.carry(made.requests(asked.exchanges, 10_000))


if __name__ == "__main__":
    asyncio.run(_main())
