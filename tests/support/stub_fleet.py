"""A fleet of stubs: the parent's side for real, light programs in the place of gateways."""

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from gateway.denials import Denials
from gateway.processes.fleet import Fleet, SharedPlans
from gateway.processes.place import Place
from gateway.processes.serving_process import ServingProcess
from sallyport.net.tasks import TaskSet
from tests.support import serving_stub

PATIENCE_SECONDS = 20.0
# Nothing but the standard library, so that it starts at once.
COMMAND = (sys.executable, "-S", "-E", "-P", str(Path(serving_stub.__file__)))


async def eventually(condition: Callable[[], bool]) -> None:
    """Wait for what happens in another process."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():  # noqa: ASYNC110  another process cannot set an event
            await asyncio.sleep(0.005)


class StubFleet:
    """A fleet and what its processes were ordered."""

    def __init__(self, folder: Path, workers: int) -> None:
        self.folder = folder
        self.failures: list[BaseException] = []
        self.tasks = TaskSet(lambda _, error: self.failures.append(error))
        self.plans = SharedPlans(max_sandboxes=10, max_plan_bytes=2**21)
        self.denials = Denials()
        self.fleet = Fleet(
            self.plans,
            self.tasks,
            denials=self.denials,
            max_credential_revocations=2,
            now=lambda: time.time_ns() / 1e9,
        )
        self.fleet.processes = [self._process(number) for number in range(1, workers + 1)]
        self.running: list[asyncio.Task[None]] = []

    def _process(self, number: int) -> ServingProcess:
        def command(path: Path) -> tuple[tuple[str, ...], Place]:
            place = Place(
                number=number,
                proxy=(),
                tunnel=(),
                admin_socket=path,
                audit_lock=self.folder / "lock",
                settings_folder=self.folder,
                parent_addresses=(("127.0.0.1", 9900),),
            )
            return (*COMMAND, str(self.folder), "--serving-process", place.to_text()), place

        return ServingProcess(number, command, self.folder, self.fleet, self.tasks)

    def write(self, name: str, text: str) -> None:
        """Write a file that the stubs look at, whole: they look all the time."""
        made = self.folder / f".{name}"
        made.write_text(text)
        made.replace(self.folder / name)

    def orders(self, number: int = 1, *, pid: int | None = None) -> list[str]:
        """Return what a process was asked so far, as `METHOD /path body`."""
        path = self.folder / "orders"
        lines = [line.split(" ", 2) for line in path.read_text().splitlines()] if path.exists() else []
        return [rest.rstrip() for who, at, rest in lines if int(who) == number and pid in (None, int(at))]

    def asked(self, number: int = 1) -> list[str]:
        """Return the same as `METHOD /path`."""
        return [" ".join(line.split(" ")[:2]) for line in self.orders(number)]

    def start(self) -> None:
        """Start every process."""
        self.running = [
            self.tasks.spawn(process.run(), name=f"process {process.number}") for process in self.fleet.processes
        ]

    async def serving(self) -> None:
        """Wait until all serve."""
        await eventually(lambda: self.fleet.is_serving or bool(self.failures))
        assert self.failures == []

    async def close(self) -> None:
        """End every process."""
        for process in self.fleet.processes:
            process.end()
        if self.running:
            await asyncio.wait(self.running)
        await self.tasks.close()


@contextlib.asynccontextmanager
async def stub_fleet(folder: Path, workers: int = 2) -> AsyncIterator[StubFleet]:
    """Make a fleet, not yet started, and end it with the block."""
    stubs = StubFleet(folder, workers)
    try:
        yield stubs
    finally:
        await stubs.close()
