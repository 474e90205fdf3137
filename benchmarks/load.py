"""The load: keep-alive links that send one request over and over and count its answers.

Run by `python -m benchmarks`: one line of JSON per measurement on standard input (`Order`), one line back (`Tally`).
It ends when standard input does.

A measurement has three parts on the same links: a warm-up; a closed loop, in which every link sends its next request
as soon as the last one is answered, for cost and throughput; and an open loop, in which requests arrive at a fixed
mean rate whatever the answers do, for latency. (A closed loop waits for slow answers and so hides their delay.)
"""

import asyncio
import gc
import itertools
import json
import random
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from time import perf_counter, process_time
from typing import cast

import uvloop

from benchmarks.accounting import core_busy_seconds, session_cpu_seconds
from benchmarks.lines import open_stdin
from benchmarks.workloads.workload import is_varied, numbered

_OK = b"HTTP/1.1 200 "
_HEAD_END = b"\r\n\r\n"
_CONNECT_SECONDS = 10.0
_SETTLE_SECONDS = 10.0
# Between the loops: a scheduler lets who had a core for most of a second wait (real-time ones for 50 ms), and that
# would be the latency of the open loop's first requests.
REST_SECONDS = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What to measure. `request` is Latin-1 text of raw bytes; `session` is the subject's, None without a proxy.

    `core` is where the subject runs: what else ran there is measured too.
    """

    port: int
    request: str
    answer_bytes: int
    links: int
    session: int | None
    core: int
    warm_seconds: float
    closed_seconds: float
    open_seconds: float
    open_rate: float


@dataclass(slots=True, kw_only=True)
class Tally:
    """What came of it: `latencies_us` in the open loop, all other figures in the closed one.

    `foreign_seconds`: how long the subject's core was busy with something else, or taken away by a hypervisor.
    `load_share`: the share of a core that the load itself took. `resident_mib`: the subject's memory before it began;
    `grown_mib`: by how much it was more at the end. `resolutions`: how many credentials a control plane was asked for.
    `kib_unused`, `kib_after_burst`: what the subject's memory grew by for each idle tunnel.
    """

    answered: int = 0
    seconds: float = 0.0
    cpu_seconds: float | None = None
    foreign_seconds: float | None = None
    latencies_us: list[float] = field(default_factory=list)
    errors: int = 0
    first_error: str = ""
    load_share: float | None = None
    resident_mib: float | None = None
    grown_mib: float | None = None
    resolutions: int | None = None
    kib_unused: float | None = None
    kib_after_burst: float | None = None


class Load:
    """The state that all links of one measurement share."""

    __slots__ = (
        "answer_bytes",
        "answered",
        "arrived_at",
        "closed_loop",
        "failed",
        "first_error",
        "idle",
        "latencies_us",
        "links",
        "next_request",
    )

    def __init__(self, request: bytes, answer_bytes: int) -> None:
        numbers = itertools.count()
        self.next_request: Callable[[], bytes] = lambda: request
        if is_varied(request):
            self.next_request = lambda: numbered(request, next(numbers))
        self.answer_bytes = answer_bytes
        self.answered = 0
        self.failed = 0
        self.first_error = ""
        self.closed_loop = True
        self.links: list[LoadLink] = []
        self.idle: list[LoadLink] = []
        self.arrived_at: deque[float] = deque()  # requests of the open loop that no link was free for
        self.latencies_us: list[float] = []

    def fail(self, reason: str) -> None:
        self.failed += 1
        self.first_error = self.first_error or reason

    def arrive(self) -> None:
        """Send one request of the open loop, or let it wait: its latency counts from now."""
        now = perf_counter()
        if self.idle:
            self.idle.pop().send(now)
        else:
            self.arrived_at.append(now)

    def rest(self, link: "LoadLink", started_at: float) -> None:
        """Take a link back whose answer is complete, outside the closed loop."""
        if started_at:
            self.latencies_us.append((perf_counter() - started_at) * 1e6)
        if self.arrived_at:
            link.send(self.arrived_at.popleft())
        else:
            self.idle.append(link)


class LoadLink(asyncio.Protocol):
    """One socket. An answer must be 200 with the Content-Length expected; all else ends the link as an error."""

    __slots__ = (
        "_checked",
        "_ended",
        "_held",
        "_left",
        "_load",
        "_next_request",
        "_started_at",
        "_transport",
        "_write",
    )

    def __init__(self, load: Load) -> None:
        self._load = load
        self._next_request = load.next_request
        self._held = b""
        self._left = 0
        self._started_at = 0.0
        self._checked = False
        self._ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
        self._write = self._transport.write
        self._load.links.append(self)

    def send(self, started_at: float = 0.0) -> None:
        """Send the request. `started_at` (perf_counter) marks one whose latency is wanted."""
        self._started_at = started_at
        self._write(self._next_request())

    def data_received(self, data: bytes) -> None:
        load = self._load
        left = self._left
        if left:
            left -= len(data)
        else:
            if self._held:
                data = self._held + data
                self._held = b""
            end = data.find(_HEAD_END)
            if end < 0:
                self._held = data
                return
            if not data.startswith(_OK) or not (self._checked or self._check(data[: end + 2])):
                self._refuse(data)
                return
            left = end + 4 + load.answer_bytes - len(data)
        if left > 0:
            self._left = left
        elif left == 0:
            self._left = 0
            load.answered += 1
            if load.closed_loop:
                self._write(self._next_request())
            else:
                load.rest(self, self._started_at)
        else:
            self._refuse(data[left:])

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._ended:
            self._load.fail(f"a link was closed: {exc or 'end of stream'}")

    def abort(self) -> None:
        self._ended = True
        self._transport.abort()

    def _check(self, head: bytes) -> bool:
        # Once per link: a subject that changed the framing would be counted wrongly, not slowly.
        self._checked = b"\r\ncontent-length: %d\r\n" % self._load.answer_bytes in head.lower()
        return self._checked

    def _refuse(self, data: bytes) -> None:
        self._load.fail(f"unexpected answer: {data[:300]!r}")
        self.abort()


async def measure(order: Order) -> Tally:
    """Carry one order out. Errors are counted in the answer; only a refused connection raises (OSError)."""
    load = Load(order.request.encode("latin-1"), order.answer_bytes)
    try:
        await _connect(load, order)
        return await _run(load, order)
    finally:
        for link in load.links:
            link.abort()


async def _connect(load: Load, order: Order) -> None:
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(_CONNECT_SECONDS):
        for _ in range(order.links):
            await loop.create_connection(lambda: LoadLink(load), "127.0.0.1", order.port)


async def _run(load: Load, order: Order) -> Tally:
    for link in load.links:
        link.send()
    await _warm_up(load, order)

    answered, started_at, (cpu_before, busy_before) = load.answered, perf_counter(), _cpu_seconds(order)
    load_before = process_time()
    await asyncio.sleep(order.closed_seconds)
    (cpu_after, busy_after), ended_at = _cpu_seconds(order), perf_counter()
    tally = Tally(answered=load.answered - answered, seconds=ended_at - started_at)
    tally.load_share = (process_time() - load_before) / tally.seconds
    if order.session is not None:
        tally.cpu_seconds = cpu_after - cpu_before
        tally.foreign_seconds = max(0.0, busy_after - busy_before - tally.cpu_seconds)

    load.closed_loop = False
    await _settle(load)
    await asyncio.sleep(REST_SECONDS)
    await _open_loop(load, order)
    await _settle(load)
    stuck = len(load.links) - len(load.idle) - load.failed
    if stuck > 0:
        load.fail(f"{stuck} requests got no answer")
    tally.latencies_us, tally.errors, tally.first_error = load.latencies_us, load.failed, load.first_error
    return tally


def _cpu_seconds(order: Order) -> tuple[float, float]:
    """Return the time used by the subject, and by everything on its core."""
    if order.session is None:
        return 0.0, 0.0
    return session_cpu_seconds(order.session), core_busy_seconds(order.core)


async def _warm_up(load: Load, order: Order) -> None:
    """Let the closed loop run until there were as many answers as links, and at least so long."""
    await asyncio.sleep(order.warm_seconds)
    deadline = perf_counter() + _SETTLE_SECONDS
    while load.answered + load.failed < len(load.links) and perf_counter() < deadline:  # noqa: ASYNC110 - as below
        await asyncio.sleep(0.01)


async def _settle(load: Load) -> None:
    """Wait until every link that lives is idle."""
    deadline = perf_counter() + _SETTLE_SECONDS
    while len(load.idle) + load.failed < len(load.links) and perf_counter() < deadline:  # noqa: ASYNC110 - an event
        # would have to be checked per answer, inside what is measured
        await asyncio.sleep(0.01)


async def _open_loop(load: Load, order: Order) -> None:
    arrivals = random.Random(1)  # the same arrivals for every subject
    now = perf_counter()
    ends_at, next_at = now + order.open_seconds, now
    while next_at < ends_at:
        next_at += arrivals.expovariate(order.open_rate)
        await asyncio.sleep(max(0.0, next_at - perf_counter()))
        load.arrive()


async def obey() -> None:
    stdin = await open_stdin()
    gc.freeze()
    gc.disable()  # nothing made per request is cyclic; a collection inside a window would be noise
    while line := await stdin.readline():
        try:
            tally = await measure(Order(**json.loads(line)))
        except (OSError, TimeoutError) as error:
            tally = Tally(errors=1, first_error=f"no connection: {error or type(error).__name__}")
        sys.stdout.write(json.dumps(asdict(tally)) + "\n")
        sys.stdout.flush()
        gc.collect()


if __name__ == "__main__":
    uvloop.run(obey())
