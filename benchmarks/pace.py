"""The closed and the open loop for loads that poll by themselves: one thread, no event loop, little work of their own.

`load.py` is an asyncio program and its links cost more than a tunnel's frames do. What is measured is the same here:
a warm-up, a closed loop for cost and throughput, an open one for latency.
"""

import gc
import json
import random
import select
import sys
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from time import perf_counter, process_time, sleep
from typing import Protocol

from benchmarks.accounting import core_busy_seconds, resident_mib, session_cpu_seconds
from benchmarks.answers import LoadError
from benchmarks.load import REST_SECONDS, Tally
from benchmarks.ticks import Ticks

_POLL_SECONDS = 0.05
_SETTLE_SECONDS = 10.0
# Three have two distances to compare.
_LEAST_TICKS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How long, and how fast. Without `closed_seconds` cost is taken in the open loop, at its rate.

    `sessions` are the subject's; without any there is no cost. `core` is where they run.
    """

    sessions: list[int]
    core: int
    warm_seconds: float
    closed_seconds: float
    open_seconds: float
    open_rate: float


class Ways(Protocol):
    """Links or streams, numbered from 0; each carries one request at a time."""

    count: int

    def send(self, way: int) -> None:
        """Send the request, at the latest with the next flush."""

    def flush(self) -> None:
        """Let what was sent go."""

    def poll(self, seconds: float) -> Sequence[int]:
        """Wait at most so long; return the ways whose answer is complete. Raises LoadError."""


class Watch:
    """What a window took: of the wall clock, of the subject, of its core, of this load."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._cpu, self._busy = self._read()
        self._load, self._began_at = process_time(), perf_counter()

    def _read(self) -> tuple[float, float]:
        return sum(map(session_cpu_seconds, self._pace.sessions)), core_busy_seconds(self._pace.core)

    def stop(self, tally: Tally) -> None:
        tally.seconds = perf_counter() - self._began_at
        tally.load_share = (process_time() - self._load) / tally.seconds
        cpu, busy = self._read()
        if self._pace.sessions:
            tally.cpu_seconds = cpu - self._cpu
            tally.foreign_seconds = max(0.0, busy - self._busy - tally.cpu_seconds)


def measure(ways: Ways, pace: Pace) -> Tally:
    """Carry one measurement out; raises LoadError."""
    tally = Tally()
    if pace.sessions:
        tally.resident_mib = sum(map(resident_mib, pace.sessions))
    for way in range(ways.count):
        ways.send(way)
    ways.flush()
    _warm_up(ways, pace.warm_seconds)
    if pace.closed_seconds:
        watch = Watch(pace)
        tally.answered = _closed_loop(ways, pace.closed_seconds)
        watch.stop(tally)
    _collect(ways, set(range(ways.count)))
    sleep(REST_SECONDS)
    watch = Watch(pace)
    tally.latencies_us = _open_loop(ways, pace)
    if not pace.closed_seconds:
        tally.answered = len(tally.latencies_us)
        watch.stop(tally)
    if tally.resident_mib is not None:
        tally.grown_mib = sum(map(resident_mib, pace.sessions)) - tally.resident_mib
    return tally


def measure_once(ways: Ways, pace: Pace) -> Tally:
    """Send one request by every way at the same time; latencies are counted from the first of them."""
    tally, watch = Tally(), Watch(pace)
    began_at = perf_counter()
    for way in range(ways.count):
        ways.send(way)
    ways.flush()
    while tally.answered < ways.count:
        done = ways.poll(_POLL_SECONDS)
        now = perf_counter()
        tally.answered += len(done)
        tally.latencies_us += [(now - began_at) * 1e6] * len(done)
        if now > began_at + _SETTLE_SECONDS:
            raise LoadError(f"{ways.count - tally.answered} requests got no answer")
    watch.stop(tally)
    return tally


def measure_ticks(ways: Ways, ticks: Ticks, pace: Pace) -> Tally:
    """Let events come for as long as both loops would last; latencies are by how much they came out of step."""
    ways.send(0)
    ways.flush()
    _take_ticks(ways, ticks, pace.warm_seconds)
    ticks.forget()
    tally, watch = Tally(), Watch(pace)
    _take_ticks(ways, ticks, pace.closed_seconds + pace.open_seconds)
    watch.stop(tally)
    tally.answered, tally.latencies_us = ticks.count, ticks.jitters_us()
    return tally


def _take_ticks(ways: Ways, ticks: Ticks, seconds: float) -> None:
    now = perf_counter()
    ends_at, deadline = now + seconds, now + seconds + _SETTLE_SECONDS
    while now < ends_at or ticks.count < _LEAST_TICKS:
        ways.poll(_POLL_SECONDS)
        ways.flush()
        now = perf_counter()
        if now > deadline:
            raise LoadError("no events came")


def _warm_up(ways: Ways, seconds: float) -> None:
    """Run the closed loop until every way was answered once, and at least so long."""
    first = set(range(ways.count))
    now = perf_counter()
    ends_at, deadline = now + seconds, now + _SETTLE_SECONDS
    while now < ends_at or first:
        done = ways.poll(_POLL_SECONDS)
        first.difference_update(done)
        for way in done:
            ways.send(way)
        ways.flush()
        now = perf_counter()
        if first and now > deadline:
            raise LoadError(f"{len(first)} requests got no answer")


def _closed_loop(ways: Ways, seconds: float) -> int:
    """Let every way send its next request as soon as its last one is answered; return how many were answered."""
    answered = 0
    ends_at = perf_counter() + seconds
    while perf_counter() < ends_at:
        done = ways.poll(_POLL_SECONDS)
        answered += len(done)
        for way in done:
            ways.send(way)
        ways.flush()
    return answered


def _collect(ways: Ways, open_ways: set[int]) -> None:
    """Wait for the answers that are still out."""
    deadline = perf_counter() + _SETTLE_SECONDS
    while open_ways:
        open_ways.difference_update(ways.poll(_POLL_SECONDS))
        if perf_counter() > deadline:
            raise LoadError(f"{len(open_ways)} requests got no answer")


def _open_loop(ways: Ways, pace: Pace) -> list[float]:
    """Let requests arrive at random moments, whatever the answers do; return how long each took, its wait included."""
    arrivals = random.Random(1)  # the same arrivals for every subject
    idle, waiting = list(range(ways.count)), deque[float]()
    begun_at: dict[int, float] = {}
    latencies: list[float] = []
    next_at = perf_counter()
    ends_at = next_at + pace.open_seconds
    deadline = ends_at + _SETTLE_SECONDS
    while next_at < ends_at or begun_at:
        now = perf_counter()
        while next_at <= now and next_at < ends_at:
            waiting.append(now)  # not next_at: that we woke late is our doing
            next_at += arrivals.expovariate(pace.open_rate)
        while waiting and idle:
            way = idle.pop()
            begun_at[way] = waiting.popleft()
            ways.send(way)
        ways.flush()
        wait = next_at - perf_counter() if next_at < ends_at else _POLL_SECONDS
        for way in ways.poll(max(0.0, wait)):
            latencies.append((perf_counter() - begun_at.pop(way)) * 1e6)
            idle.append(way)
        if now > deadline:
            raise LoadError(f"{len(begun_at)} requests got no answer")
    return latencies


class Poller:
    """epoll whose timeouts are not rounded up to whole milliseconds, as its own are."""

    def __init__(self) -> None:
        self._epoll = select.epoll()

    def add(self, descriptor: int, *, writable: bool = False) -> None:
        """Watch until bytes can be read, or with `writable` until some can be written."""
        self._epoll.register(descriptor, select.EPOLLOUT if writable else select.EPOLLIN)

    def await_reading(self, descriptor: int) -> None:
        """Watch one that was writable for what can be read."""
        self._epoll.modify(descriptor, select.EPOLLIN)

    def poll(self, seconds: float) -> list[tuple[int, int]]:
        if 0 < seconds < _POLL_SECONDS:
            select.select([self._epoll], [], [], seconds)
            seconds = 0
        return self._epoll.poll(seconds)

    def close(self) -> None:
        self._epoll.close()


def obey(carry_out: Callable[[dict[str, object]], Tally]) -> None:
    """Read orders from standard input and write their tallies, one line of JSON each, until input ends."""
    gc.freeze()
    gc.disable()  # nothing made per request is cyclic; a collection inside a window would be noise
    for line in sys.stdin:
        try:
            tally = carry_out(json.loads(line))
        except LoadError as error:
            tally = Tally(errors=1, first_error=str(error))
        except OSError as error:
            tally = Tally(errors=1, first_error=f"no connection: {error or type(error).__name__}")
        sys.stdout.write(json.dumps(asdict(tally)) + "\n")
        sys.stdout.flush()
        gc.collect()
