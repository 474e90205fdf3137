"""One try to have a server run: what is told of it, and why it is said to have ended. Real programs."""

import asyncio
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from sallyport.mcp.sessions import McpSessions, SessionLimits
from sallyport.net.line_child import StopTimes
from sallyport.net.tls import client_context
from tests.support.mcp_program import FAULTS, PROGRAM
from tests.support.setup_documents import task_set
from tests.support.until import until
from worker.integrations.attempt import Attempt, told
from worker.integrations.launch import Launch, Surroundings
from worker.integrations.mcp_session import Handshake
from worker.integrations.parts import Parts, ServerLimits, ServerTimes
from worker.integrations.server_log import ServerLog
from worker.integrations.store import IntegrationStore

pytestmark = pytest.mark.uvloop

STOP = StopTimes(exit=0.2, terminate=0.2)
TIMES = ServerTimes(handshake=10.0, call=10.0, ping=10.0, stop=STOP, first_restart=1.0, longest_restart=1.0, stable=1.0)
LIMITS = ServerLimits(crashes=1, tools=100, calls=10, message_bytes=100_000, log_lines=100, log_line_bytes=1000)
SESSIONS = SessionLimits(
    sessions=1,
    sessions_of_one=1,
    sessions_of_caller=1,
    requests=1,
    handshake_seconds=1.0,
    idle_seconds=1.0,
    answer_seconds=None,
    stop=STOP,
)


class Told:
    """An owner that keeps what it hears."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.found: Handshake | None = None

    def began_to_run(self, attempt: Attempt, found: Handshake) -> None:
        assert attempt.session is not None
        self.heard.append("runs")
        self.found = found

    def lost(self, attempt: Attempt) -> None:
        assert attempt.session is None
        self.heard.append("lost")

    def tools_changed(self) -> None:
        self.heard.append("tools")


async def tried(
    folder: Path, *faults: str, stop_at_once: bool = False, exit_seconds: float = STOP.exit
) -> tuple[Told, Attempt, ServerLog]:
    """Try the program with these faults; it is asked to stop once it runs."""
    assert set(faults) <= set(FAULTS)
    owner, log = Told(), ServerLog(most_lines=100, most_line_bytes=1000)
    launch = Launch(args=(sys.executable, "-IS", str(PROGRAM), *faults), env={}, cwd=folder, hidden=())
    async with task_set() as tasks:
        parts = Parts(
            store=IntegrationStore(folder, "mark", -1),
            tasks=tasks,
            sessions=McpSessions(tasks, SESSIONS),
            around=Surroundings(environ={}, credentials_dir=None, outbound=None),
            times=replace(TIMES, stop=replace(STOP, exit=exit_seconds)),
            limits=LIMITS,
            trust=client_context(None),
            wall=lambda: 0.0,
        )
        stop_asked: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        attempt = Attempt(owner, "tester", parts, log, stop_asked)
        running = tasks.spawn(attempt.run(lambda: launch, "mark.tester"), name="try")
        await until(lambda: stop_at_once or attempt.got_to_run or running.done())
        stop_asked.set_result(None)
        await running
    return owner, attempt, log


async def test_one_that_is_asked_to_stop(tmp_path: Path) -> None:
    owner, attempt, _ = await tried(tmp_path, exit_seconds=10.0)  # it ends by itself, however long that takes
    assert (owner.heard[0], owner.heard[-1], attempt.reason) == ("runs", "lost", None)
    assert owner.found is not None
    assert "crash" in [tool["name"] for tool in owner.found.tools]
    assert attempt.exit == {"code": 0, "signal": None, "at": "1970-01-01T00:00:00Z"}
    assert (repr(attempt), attempt.running_since > 0) == ("<Attempt tester not running>", True)


async def test_one_that_is_asked_to_stop_before_it_runs(tmp_path: Path) -> None:
    owner, attempt, _ = await tried(tmp_path, "hang", stop_at_once=True)
    assert (set(owner.heard), attempt.got_to_run, attempt.reason) == ({"lost"}, False, None)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("crash-now", "it exited with code 3"),
        ("refuse", "the handshake failed: not today"),
        ("endless-line", "it printed a line of more than 100000 bytes"),
    ],
)
async def test_one_that_does_not_come_to_run(tmp_path: Path, fault: str, reason: str) -> None:
    owner, attempt, log = await tried(tmp_path, fault)
    assert (set(owner.heard), attempt.got_to_run, attempt.reason) == ({"lost"}, False, reason)
    assert attempt.log_from == 0
    assert log.written >= (fault == "crash-now")


async def test_what_is_told_of_an_error() -> None:
    assert told(ExceptionGroup("some", [ExceptionGroup("of them", [ValueError("why")])])) == "why"
    assert told(TimeoutError()) == "TimeoutError"
