"""One serving process from its parent's side: started, told, listened to, and started again when it ends.

Always: the orders of a lane reach a process in the order they were given, and wait for no other lane's; and a new one
has been told the whole state before it accepts. One that does not take an order in time, or refuses it, is
ended: its successor will know what it should.
"""

import asyncio
import contextlib
import json
import random
import signal
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Final, NamedTuple, Protocol

import structlog

from control_client.backoff import pause_seconds
from gateway.processes.link import Answered, LinkError, ask, open_answer, read_lines
from gateway.processes.place import Place
from gateway.processes.reports import LOOK_SECONDS, MAX_LINE_BYTES
from sallyport.net.tasks import TaskSet
from sallyport.net.unix_stream import UnixStream
from sallyport.wire.http1.head import ResponseHead

# Importing a gateway takes a second; a machine at its limits takes ten times that.
START_SECONDS: Final = 60.0
POLL_SECONDS: Final = 0.02
# A plan of the largest size compiles in a second or two; whoever takes longer is stuck.
ORDER_SECONDS: Final = 30.0
# It says every LOOK_SECONDS that it is there. A loop that is busy compiling a plan is late, this is a stuck one.
SILENCE_SECONDS: Final = 30 * LOOK_SECONDS
# A process that ends this often within the span is not going to recover by being started once more.
MAX_ENDS: Final = 10
ENDS_SPAN_SECONDS: Final = 60.0
LONGEST_PAUSE_SECONDS: Final = 5.0
# What a process may take to end beyond the time it has for its drain.
END_SECONDS: Final = 10.0

_log = structlog.get_logger(__name__)


class Lane(Enum):
    """What an order waits behind: those of its own lane.

    What takes something out of service has a second, which is what one large plan may take to compile. So it comes
    ahead of plans: it means the same before a plan and behind it, or has a number for that (gateway.core.plan_turns).
    """

    IN_TURN = "in turn"
    AHEAD = "ahead"  # plans that compile at once and replace others
    AWAY = "away"  # those of them that take something away, of which there are few
    AWAY_LARGE = "away, large"  # and those that take a while to compile
    URGENT = "urgent"  # nothing that compiles


class Order(NamedTuple):
    """A request to a serving process that has to be taken."""

    method: str
    target: str
    body: bytes = b""
    lane: Lane = Lane.IN_TURN


SERVE: Final = Order("POST", "/internal/serve")


class ServingFailed(Exception):
    """A serving process cannot be kept running; status is the last one's, None where it ran but was never ready."""

    def __init__(self, detail: str, status: int | None) -> None:
        super().__init__(detail)
        self.status = status


class Listening(Protocol):
    """Who hears of serving processes."""

    def state(self) -> Iterable[Order]:
        """Return everything a new process has to know."""

    def reported(self, number: int, report: Mapping[str, object]) -> None:
        """A process has told something."""

    def serves(self, number: int) -> None:
        """A process accepts from now on."""

    def gone(self, number: int) -> None:
        """A process has ended; its successor, if there is one, holds nothing yet."""


class ServingProcess:
    """One of the serving processes, whatever its process id is at the moment."""

    def __init__(
        self,
        number: int,
        command: Callable[[Path], tuple[Sequence[str], Place]],
        folder: Path,
        listening: Listening,
        tasks: TaskSet,
    ) -> None:
        """command returns what to run for a process whose admin socket is to be at a path, and its place."""
        self.number = number
        self._command = command
        self._folder = folder
        self._listening = listening
        self._tasks = tasks
        self._process: asyncio.subprocess.Process | None = None
        self._started = 0
        self._ends: list[float] = []
        self._is_ending = asyncio.Event()
        # Open while a process takes orders; None while there is none that could.
        self._lanes: Mapping[Lane, _Orders] | None = None
        self.socket: Path | None = None
        self.is_serving = False
        self.deaths = 0  # how often it was started again
        self.first_serves = asyncio.Event()

    def tell(self, order: Order) -> Awaitable[Answered | None]:
        """Give an order; what is returned may be awaited or dropped. None: the process has gone, the next will know."""
        return _nobody() if self._lanes is None else self._lanes[order.lane].put(order)

    async def ask(self, method: str, target: str, body: bytes = b"") -> Answered:
        """Ask for something that is no order; raises LinkError."""
        if self.socket is None:
            raise LinkError("the process is being started")
        return await ask(self.socket, method, target, body)

    @property
    def process_id(self) -> int | None:
        """The id of the process there is now."""
        return None if self._process is None else self._process.pid

    # Its life ---------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Keep a process running until end(); raises ServingFailed."""
        while not self._is_ending.is_set():
            status = await self._live()
            if self._is_ending.is_set():
                return
            if not self.first_serves.is_set():
                raise ServingFailed(f"serving process {self.number} ended with status {status} at its start", status)
            await self._pause(status)

    def hang_up(self) -> None:
        """Pass a SIGHUP on."""
        if self._process is not None and self.is_serving:
            self._signal(self._process.send_signal, signal.SIGHUP)

    def end(self) -> None:
        """Let it drain and start no other."""
        self._is_ending.set()
        if self._process is not None:
            self._signal(self._process.terminate)

    def kill(self) -> None:
        """End it now."""
        if self._process is not None:
            self._signal(self._process.kill)

    def _signal(self, send: Callable[..., None], *arguments: int) -> None:
        with contextlib.suppress(ProcessLookupError):  # it has ended by itself
            send(*arguments)

    async def _pause(self, status: int) -> None:
        self.deaths += 1
        now = asyncio.get_running_loop().time()
        self._ends = [*(end for end in self._ends if now - end < ENDS_SPAN_SECONDS), now]
        if len(self._ends) >= MAX_ENDS:
            detail = f"serving process {self.number} ended {MAX_ENDS} times within {ENDS_SPAN_SECONDS:g} s"
            raise ServingFailed(detail, None)
        # The first time at once: connections wait for it.
        attempt = len(self._ends) - 1
        pause = pause_seconds(attempt, random.random(), most_seconds=LONGEST_PAUSE_SECONDS) if attempt else 0.0
        _log.error("serving_process_ended", number=self.number, status=status, again_after=round(pause, 3))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await self._is_ending.wait()

    async def _live(self) -> int:
        """Run one process from its start to its end; return its exit status."""
        self._started += 1
        path = self._folder / f"{self.number}-{self._started}.sock"
        command, place = self._command(path)
        process = self._process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,  # its end tells it that this process has gone
            pass_fds=(*place.proxy, *place.tunnel),
            start_new_session=True,  # a Ctrl-C is for the parent, which lets them end in order
        )
        if self._is_ending.is_set():
            self._signal(process.terminate)  # end() has come while it was started
        care = self._tasks.spawn(self._care(path, process), name=f"care of serving process {self.number}")
        try:
            status = await process.wait()
            _log.info("serving_process_gone", number=self.number, pid=process.pid, status=status)
            return status
        finally:
            care.cancel()
            self._process = self.socket = None
            self.is_serving = False
            for orders in () if self._lanes is None else self._lanes.values():
                orders.abandon()
            self._lanes = None
            self._listening.gone(self.number)
            path.unlink(missing_ok=True)

    async def _care(self, path: Path, process: asyncio.subprocess.Process) -> None:
        """Tell a new process everything, then what comes up, and hear what it says; end it where that fails."""
        try:
            stream, head = await self._connect(path)
            try:
                self._lanes = lanes = {lane: _Orders() for lane in Lane}
                # Nothing is awaited between these: what changes from here on comes behind what is true now.
                for order in self._listening.state():
                    lanes[Lane.IN_TURN].put(order)
                serving = lanes[Lane.IN_TURN].put(SERVE)
                self.socket = path
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._hear(stream, head), name="reports")
                    for lane, orders in lanes.items():
                        tasks.create_task(orders.deliver(path), name=f"orders: {lane.value}")
                    tasks.create_task(self._note_serving(serving, process), name="first orders")
            finally:
                stream.abort()
        except* (LinkError, TimeoutError) as errors:
            reasons = [str(error) or type(error).__name__ for error in errors.exceptions]
            if process.returncode is None and not self._is_ending.is_set():
                _log.error("serving_process_lost", number=self.number, pid=process.pid, reasons=reasons)
        finally:
            # One that drains goes away by itself; any other is of no use without this.
            if process.returncode is None and not self._is_ending.is_set():
                self._signal(process.kill)

    async def _connect(self, path: Path) -> tuple[UnixStream, ResponseHead]:
        async with asyncio.timeout(START_SECONDS):
            while True:
                with contextlib.suppress(LinkError):  # it is not there yet
                    return await open_answer(path, "GET", "/internal/reports")
                await asyncio.sleep(POLL_SECONDS)

    async def _note_serving(self, serving: Awaitable[Answered | None], process: asyncio.subprocess.Process) -> None:
        await serving
        self.is_serving = True
        self.first_serves.set()
        _log.info("serving_process_ready", number=self.number, pid=process.pid)
        self._listening.serves(self.number)

    async def _hear(self, stream: UnixStream, head: ResponseHead) -> None:
        async with contextlib.aclosing(read_lines(stream, head, most_line_bytes=MAX_LINE_BYTES)) as lines:
            while True:
                async with asyncio.timeout(SILENCE_SECONDS):
                    line = await anext(lines, None)
                if line is None:
                    raise LinkError("its reports have ended")
                if line:
                    self._listening.reported(self.number, json.loads(line))

    def __repr__(self) -> str:
        state = "serving" if self.is_serving else "ending" if self._is_ending.is_set() else "starting"
        return f"<ServingProcess {self.number} {state}>"


class _Orders:
    """The orders of one lane, taken one after the other. Bounded by time: who does not take one is ended."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[Order, asyncio.Future[Answered | None]]] = deque()
        self._news = asyncio.Event()

    def put(self, order: Order) -> asyncio.Future[Answered | None]:
        done: asyncio.Future[Answered | None] = asyncio.get_running_loop().create_future()
        self._waiting.append((order, done))
        self._news.set()
        return done

    async def deliver(self, path: Path) -> None:
        """Give orders until cancelled; raises LinkError, or TimeoutError."""
        while True:
            while self._waiting:
                order, done = self._waiting[0]
                async with asyncio.timeout(ORDER_SECONDS):
                    answered = await ask(path, order.method, order.target, order.body)
                if answered.status >= 300:
                    raise LinkError(f"{order.method} {order.target} was answered {answered.status}")
                self._waiting.popleft()
                if not done.done():
                    done.set_result(answered)
            self._news.clear()
            await self._news.wait()

    def abandon(self) -> None:
        """Nobody takes these any more."""
        for _, done in self._waiting:
            if not done.done():
                done.set_result(None)
        self._waiting.clear()


async def _nobody() -> None:
    """Stand for the answer of a process that is not there."""
