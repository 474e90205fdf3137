"""Two tunnels under seeded schedules: whatever both sides do, in whatever pieces it travels, no byte goes astray.

A failure names its seed; `run_schedule(seed)` plays it again, turn for turn.
"""

import asyncio
import gc
import random
from collections.abc import Callable
from typing import cast

import pytest

from sallyport.net import tunnel as tunnel_module
from sallyport.net import tunnel_stream as tunnel_stream_module
from sallyport.net.tunnel import Tunnel, TunnelUnavailable
from sallyport.net.tunnel_limits import TunnelLimits
from sallyport.net.tunnel_stream import TunnelStream
from sallyport.wire import websocket
from sallyport.wire.yamux.stream import MuxStream
from tests.support.tunnels import Owner, TunnelPair
from tests.support.virtual_time import VirtualLoop

FAST, FULL = 100, 2_000
STEPS = 80
# How many bytes a delivery carries, and how much one write holds: what is carried byte by byte is kept short.
CHUNKS = ((1, 150), (7, 1_000), (100, 10_000), (1_500, 60_000), (16_384, 300_000), (262_144, 600_000))


@pytest.fixture(autouse=True)
def exact_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Round trips are measured in the schedule's time too, so that windows grow the same way each time."""
    for module in (tunnel_module, tunnel_stream_module):
        monkeypatch.setattr(module, "read_clock", lambda: asyncio.get_running_loop().time())


class SimEnd(asyncio.Protocol):
    """One end of one stream: what it wrote, what it got, and how it ended. Its bytes say whose they are."""

    def __init__(self, name: str, rng: random.Random) -> None:
        self.name = name
        self._rng = random.Random(name)
        self._mood = rng
        self.keeps_half_open = rng.random() < 0.5
        self.pauses_itself = rng.random() < 0.2
        self.stream = cast(TunnelStream, None)
        self.sent = bytearray()
        self.received = bytearray()
        self.made = self.lost = self.ended = 0
        self.error: Exception | None = None
        self.has_ended_writing = self.has_closed = self.has_aborted = self.is_held = False

    @property
    def number(self) -> int:
        """The id of a stream that was opened here; 0 for one that was accepted."""
        return 0 if " of " in self.name else self.stream.mux.id

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert self.made == 0
        self.made += 1
        self.stream = cast(TunnelStream, transport)

    def data_received(self, data: bytes) -> None:
        assert data
        assert self.made == 1
        assert self.lost == self.ended == 0, "bytes after the end"
        assert self.stream.is_reading(), "bytes while paused"
        self.received += data
        if self.pauses_itself and self._mood.random() < 0.3:
            self.stream.pause_reading()

    def eof_received(self) -> bool:
        assert self.lost == self.ended == 0
        self.ended += 1
        if not self.keeps_half_open:
            self.has_closed = True
        return self.keeps_half_open

    def connection_lost(self, exc: Exception | None) -> None:
        assert self.made == 1
        assert self.lost == 0, "lost twice"
        self.lost += 1
        self.error = exc

    def pause_writing(self) -> None:
        assert not self.is_held
        self.is_held = True

    def resume_writing(self) -> None:
        assert self.is_held
        self.is_held = False
        if self._mood.random() < 0.5:
            self.write(self._mood.randrange(1, 500))

    def write(self, size: int) -> None:
        if not (self.stream.is_closing() or self.has_ended_writing):
            data = self._rng.randbytes(size)
            self.stream.write(data)
            self.sent += data

    def end_writing(self) -> None:
        if not self.stream.is_closing():
            self.stream.write_eof()
            self.has_ended_writing = True

    def close(self) -> None:
        self.stream.close()
        self.has_closed = True

    def abort(self) -> None:
        self.stream.abort()
        self.has_aborted = True


class SimOwner(Owner):
    """Gives each stream that arrives an end of its own, and finds the end that opened it."""

    def __init__(self, schedule: "Schedule", name: str, other: str) -> None:
        super().__init__()
        self._schedule = schedule
        self._name = name
        self._other = other

    def stream_opened(self, stream: TunnelStream) -> asyncio.Protocol:
        ends = self._schedule.ends
        number = stream.mux.id
        opener = next(end for end in ends.values() if end.name.startswith(self._other) and end.number == number)
        end = SimEnd(f"{self._name} of {opener.name}", self._schedule.rng)
        ends[end.name] = end
        self._schedule.pairs.append((opener, end))
        return end


class Schedule:
    """One seeded run."""

    def __init__(self, seed: int) -> None:
        self.rng = rng = random.Random(seed)
        chunk, self.most_written = rng.choice(CHUNKS)
        self.ends: dict[str, SimEnd] = {}
        self.pairs: list[tuple[SimEnd, SimEnd]] = []
        self.opened = 0
        self.is_tight = rng.random() < 0.2  # the budget may end streams
        limits = TunnelLimits(
            max_streams=rng.choice([3, 10, 1024]),
            accept_backlog=rng.choice([1, 3, 64]),
            max_window_bytes=rng.choice([262_144, 1_048_576, 4_194_304]),
        )
        self.pair = TunnelPair(
            sandbox=SimOwner(self, "sandbox", "gateway"),
            gateway=SimOwner(self, "gateway", "sandbox"),
            limits=limits,
            chunk_bytes=chunk,
            budget_bytes=400_000 if self.is_tight else 64 * 1024 * 1024,
        )
        self.tunnels = {"sandbox": self.pair.sandbox, "gateway": self.pair.gateway}
        self.is_lost = False

    async def run(self) -> None:
        steps: list[tuple[Callable[[], None], int]] = [
            (self._open, 5),
            (self._write, 12),
            (lambda: self._some().end_writing(), 1),
            (lambda: self._some().close(), 2),
            (lambda: self._some().abort(), 1),
            (lambda: self._some().stream.pause_reading(), 3),
            (lambda: self._some().stream.resume_reading(), 4),
        ]
        loses = self.rng.random() < 0.3
        for _ in range(STEPS):
            (step,) = self.rng.choices([each for each, _ in steps], [weight for _, weight in steps])
            if self.ends or step == self._open:
                step()
            for _ in range(self.rng.choice([0, 0, 1, 2, 5, 30])):
                await asyncio.sleep(0)
            if self.rng.random() < 0.05:
                await asyncio.sleep(self.rng.choice([0.1, 5, 20, 70]))
            if loses and self.rng.random() < 0.03:
                self._lose()
                break
        await self._finish()

    def _open(self) -> None:
        side = self.rng.choice(list(self.tunnels))
        self.opened += 1
        end = SimEnd(f"{side} {self.opened}", self.rng)
        try:
            self.tunnels[side].open_stream(end)
        except TunnelUnavailable:
            assert not self.tunnels[side].can_open
            return
        self.ends[end.name] = end

    def _write(self) -> None:
        self._some().write(self.rng.choice([1, 200, self.rng.randrange(1, self.most_written)]))

    def _some(self) -> SimEnd:
        return self.rng.choice(list(self.ends.values()))

    def _lose(self) -> None:
        self.is_lost = True
        side = self.rng.choice(list(self.tunnels.values()))
        way: Callable[[], None] = self.rng.choice(
            [side.abort, side.transport.abort, side.transport.close, lambda: side.close(websocket.DRAINING, "drain")]
        )
        way()

    async def _finish(self) -> None:
        # Nothing may depend on more than that: whoever was paused reads again, and all that could move has moved.
        for end in self.ends.values():
            end.pauses_itself = False
            end.stream.resume_reading()
        await asyncio.sleep(1)
        if not self.is_lost:
            self._check_that_nothing_is_stuck()
            for end in list(self.ends.values()):
                end.close()
            await asyncio.sleep(1)
            assert [tunnel.stream_count for tunnel in self.tunnels.values()] == [0, 0]
            self._check_books()
            self.pair.gateway.close(websocket.DRAINING, "drain")
        await asyncio.sleep(5)
        self._check_ends()
        self._check_books()

    def _check_that_nothing_is_stuck(self) -> None:
        for one, other in self.pairs:
            for writer, reader in ((one, other), (other, one)):
                if not (writer.lost or writer.has_aborted or reader.lost or reader.has_closed):
                    assert reader.received == writer.sent, f"{writer.name} to {reader.name}"
                    assert bool(reader.ended) == (writer.has_ended_writing or writer.has_closed)

    def _check_ends(self) -> None:
        accepted = {one.name for one, _ in self.pairs}
        for end in self.ends.values():
            assert (end.made, end.lost) == (1, 1), end.name
            if " of " not in end.name and end.name not in accepted:
                assert not end.received
        for one, other in self.pairs:
            for writer, reader in ((one, other), (other, one)):
                assert writer.sent.startswith(reader.received), f"{writer.name} to {reader.name}"
                if reader.ended:
                    assert writer.sent == reader.received, f"{writer.name} to {reader.name}"
                    assert writer.has_ended_writing or writer.has_closed
        for owner in (self.pair.sandbox_owner, self.pair.gateway_owner):
            assert len(owner.losses) == 1

    def _check_books(self) -> None:
        for budget in (self.pair.sandbox_budget, self.pair.gateway_budget):
            assert repr(budget) == f"<BufferBudget 0 of {budget.limit} bytes held by 0 streams>"
            assert not budget._withheld
        for tunnel in self.tunnels.values():
            _check_session(tunnel)


def _check_session(tunnel: Tunnel) -> None:
    session = tunnel.session
    assert repr(session) == "<Session 0 streams, 0 waiting, 0 writing>"
    assert not session.sending._updating
    assert session._unacknowledged == session.sending.owed_acks == 0 or not tunnel.is_open
    assert not tunnel._orphans


def run_schedule(seed: int) -> None:
    """Play one schedule."""
    problems: list[str] = []

    async def play() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: problems.append(repr(context.get("exception", context))))
        schedule = Schedule(seed)
        try:
            await schedule.run()
        finally:
            schedule.pair.clock.close()

    try:
        with asyncio.Runner(loop_factory=VirtualLoop, debug=False) as runner:
            runner.run(play())
        assert problems == []
    except BaseException as error:
        error.add_note(f"seed {seed}")
        raise


def seeds(first: int, end: int, per_test: int) -> list[range]:
    return [range(start, start + per_test) for start in range(first, end, per_test)]


@pytest.mark.parametrize("some", seeds(0, FAST, 20), ids=str)
def test_schedules(some: range) -> None:
    for seed in some:
        run_schedule(seed)


@pytest.mark.full
@pytest.mark.parametrize("some", seeds(FAST, FULL, 100), ids=str)
def test_more_schedules(some: range) -> None:
    for seed in some:
        run_schedule(seed)


def test_a_schedule_is_the_same_each_time() -> None:
    outcomes: list[list[bytes]] = []

    async def play() -> None:
        schedule = Schedule(11)
        await schedule.run()
        schedule.pair.clock.close()
        outcomes.append([bytes(end.received) for end in schedule.ends.values()])

    for _ in range(2):
        with asyncio.Runner(loop_factory=VirtualLoop, debug=False) as runner:
            runner.run(play())
    assert outcomes[0] == outcomes[1]
    assert any(outcomes[0])


def test_a_failure_names_its_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    real = SimEnd.data_received

    def doubles(self: SimEnd, data: bytes) -> None:
        real(self, data)
        self.received += data[:1]

    monkeypatch.setattr(SimEnd, "data_received", doubles)
    with pytest.raises(AssertionError) as failed:
        run_schedule(3)
    assert failed.value.__notes__ == ["seed 3"]


def test_ended_streams_are_not_kept_alive() -> None:
    async def play() -> None:
        pair = TunnelPair(gateway=Owner(accept=asyncio.Protocol))
        for number in range(20):
            end = SimEnd(str(number), random.Random(number))
            pair.sandbox.open_stream(end)
            end.write(70_000)
            await asyncio.sleep(0.1)
            (end.close if number % 2 else end.abort)()
            await asyncio.sleep(0.1)
            pair.gateway_owner.streams.pop().close()
            pair.gateway_owner.accepted.clear()
            await asyncio.sleep(0.1)
        del end
        gc.collect()
        assert [each for each in gc.get_objects() if isinstance(each, TunnelStream | SimEnd | MuxStream)] == []
        pair.clock.close()

    with asyncio.Runner(loop_factory=VirtualLoop, debug=False) as runner:
        runner.run(play())
