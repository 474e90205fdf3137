"""Which process a request is for, who gives way to whom, and that nobody leaves a process behind: real programs."""

import asyncio
import contextlib
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from sallyport.mcp import sessions as module
from sallyport.mcp.exchange import Refused
from sallyport.mcp.sessions import McpSessions, Owner, SessionLimits
from sallyport.net.child import start_child
from sallyport.net.line_child import LineChild, StopTimes
from sallyport.net.tasks import TaskSet
from tests.support.mcp_exchanges import Caller, KeptExchange, gone
from tests.support.mcp_program import FAULTS, PROGRAM
from tests.support.mcp_requests import INITIALIZE, notification, request
from tests.support.setup_documents import is_alive, task_set
from tests.support.until import until

pytestmark = pytest.mark.uvloop

LIMITS = SessionLimits(
    sessions=8,
    sessions_of_one=8,
    sessions_of_caller=8,
    requests=8,
    handshake_seconds=10.0,
    idle_seconds=60.0,
    answer_seconds=None,
    stop=StopTimes(exit=0.2, terminate=0.2),
)
PING = request("ping", 7)
# With the fault `mute-pages` it is not answered.
HANGS = request("tools/list", 5)
NOT_FOUND = "404 Session not found"


class Place:
    """Some sessions and the processes that were started for them."""

    def __init__(self, tasks: TaskSet, limits: SessionLimits) -> None:
        self.sessions = McpSessions(tasks, limits)
        self.started: list[LineChild] = []
        self.tasks = tasks

    def caller(self, *faults: str, server: str = "one", name: str = "me") -> Caller:
        """Return who asks a server that has these faults."""
        assert set(faults) <= set(FAULTS)
        return Caller(self.sessions, self.tasks, Owner(server, name), lambda: self._start(faults))

    async def _start(self, faults: tuple[str, ...]) -> LineChild:
        child = await start_child(
            self.tasks,
            lambda: LineChild(lambda data: None, 100_000),
            (sys.executable, "-IS", str(PROGRAM), *faults),
            env={"PATH": "/usr/bin:/bin"},
            cwd=None,
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.started.append(child)
        return child

    @property
    def alive(self) -> int:
        """How many of the processes run."""
        return sum(is_alive(child.pid) for child in self.started)


@contextlib.asynccontextmanager
async def place(**changes: object) -> AsyncIterator[Place]:
    """Yield an empty one; no process of it may be left in the end."""
    limits = replace(LIMITS, **changes)  # type: ignore[arg-type]  # each is of the type that the limit of that name is
    async with task_set() as tasks:
        there = Place(tasks, limits)
        try:
            yield there
        finally:
            await there.sessions.ended(lambda owner: True)
            assert (repr(there.sessions), there.alive) == ("<McpSessions: 0>", 0)


async def test_a_session_from_begin_to_end() -> None:
    async with place() as there:
        me = there.caller()
        session = await me.begun()
        assert (await me.ask(message=notification("notifications/initialized"), session=session)).is_over
        answered = await me.ask(message=PING, session=session)
        assert answered.messages == [{"jsonrpc": "2.0", "id": 7, "result": {}}]
        assert (await me.ask("DELETE", session=session)).is_over
        assert await me.refusal(message=PING, session=session) == NOT_FOUND
        await until(lambda: there.alive == 0)


@pytest.mark.parametrize(("server", "name"), [("one", "you"), ("two", "me")])
async def test_a_session_is_found_by_its_owner_alone(server: str, name: str) -> None:
    async with place() as there:
        session = await there.caller().begun()
        other = there.caller(server=server, name=name)
        for method, message in (("POST", PING), ("GET", None), ("DELETE", None)):
            assert await other.refusal(method, message, session=session) == NOT_FOUND
        assert await there.caller().refusal(message=PING, session=session) == "answered"


async def test_one_whose_process_ended_is_over() -> None:
    async with place() as there:
        me = there.caller()
        session = await me.begun()
        crashed = await me.ask(message=request("tools/call", 2, name="crash"), session=session)
        assert crashed.messages[-1]["error"]["message"] == "the server exited with code 4"
        assert await me.refusal(message=PING, session=session) == NOT_FOUND
        assert await me.begun() != session


@pytest.mark.parametrize("limit", ["sessions", "sessions_of_one", "sessions_of_caller"])
async def test_the_one_that_has_been_idle_longest_gives_way(limit: str) -> None:
    async with place(**{limit: 3}) as there:
        me = there.caller("mute-pages")
        first, second, third = [await me.begun() for _ in range(3)]
        await me.ask(message=PING, session=first)
        asked, busy = me.begin_to_ask(message=HANGS, session=second)
        await asked.began_events.wait()
        fourth = await me.begun()
        assert await me.refusal(message=PING, session=third) == NOT_FOUND
        await until(lambda: there.alive == 3)
        for session in (first, second, fourth):
            assert await me.refusal(message=PING, session=session) == "answered"
        await gone(busy)


async def test_who_has_something_to_do_does_not_give_way() -> None:
    async with place(sessions=2) as there:
        me = there.caller("mute-pages")
        tasks = [me.begin_to_ask(message=HANGS, session=await me.begun()) for _ in range(2)]
        for exchange, _ in tasks:
            await exchange.began_events.wait()
        words = "503 2 such processes run already, and each has something to do"
        assert await me.refusal(message=INITIALIZE) == words
        # Whoever asked has gone: then it has nothing to do.
        await gone(tasks[0][1])
        await me.begun()
        await gone(tasks[1][1])


async def test_who_is_listened_to_gives_way_after_those_that_nobody_listens_to() -> None:
    async with place(sessions=2) as there:
        me = there.caller()
        listened, other = await me.begun(), await me.begun()
        listening, task = me.begin_to_ask("GET", session=listened)
        await listening.began_events.wait()
        await me.ask(message=PING, session=other)
        third = await me.begun()
        assert await me.refusal(message=PING, session=other) == NOT_FOUND
        assert not task.done()
        also, busy = me.begin_to_ask("GET", session=third)
        await also.began_events.wait()
        await me.begun()
        # Its stream ends, and its client begins anew.
        await task
        assert listening.is_over
        await gone(busy)


async def test_a_server_in_demand_takes_no_place_of_others_while_it_has_its_own() -> None:
    async with place(sessions=3, sessions_of_one=2) as there:
        one, two = there.caller(), there.caller(server="two")
        first, second, other = await one.begun(), await one.begun(), await two.begun()
        third = await one.begun()
        assert await one.refusal(message=PING, session=first) == NOT_FOUND
        for caller, session in ((two, other), (one, second), (one, third)):
            assert await caller.refusal(message=PING, session=session) == "answered"
        # And where there is no place at all, anybody's; that of the first is one until its process has ended.
        await until(lambda: there.alive == 3)
        await there.caller(server="three").begun()
        assert await two.refusal(message=PING, session=other) == NOT_FOUND


async def test_who_has_most_gives_way_first() -> None:
    async with place(sessions=3) as there:
        one, many = there.caller(), there.caller(name="many")
        oldest = await one.begun()
        first, second = [await many.begun() for _ in range(2)]
        await there.caller(name="new").begun()
        assert await many.refusal(message=PING, session=first) == NOT_FOUND
        # Where all have the same, it is again the one that has been idle longest.
        await many.refusal(message=PING, session=second)
        await there.caller(name="newer").begun()
        assert await one.refusal(message=PING, session=oldest) == NOT_FOUND


async def test_a_caller_has_its_share_of_a_server_and_no_more() -> None:
    async with place(sessions_of_caller=1) as there:
        other = await there.caller(name="you").begun()
        me = there.caller("mute-pages")
        mine = await me.begun()
        elsewhere = await there.caller("mute-pages", server="two").begun()
        asked, busy = me.begin_to_ask(message=HANGS, session=mine)
        await asked.began_events.wait()
        words = "503 1 such processes run already, and each has something to do"
        assert await me.refusal(message=INITIALIZE) == words
        await gone(busy)
        await me.begun()
        assert await me.refusal(message=PING, session=mine) == NOT_FOUND
        assert await there.caller(name="you").refusal(message=PING, session=other) == "answered"
        assert await there.caller(server="two").refusal(message=PING, session=elsewhere) == "answered"


async def test_there_are_never_more_processes_than_places() -> None:
    """One that gives way is waited for, be it deaf; those that end count until they have."""
    async with place(sessions=2) as there:
        me = there.caller("deaf-to-term")
        most = 0

        async def begin() -> None:
            nonlocal most
            for _ in range(3):
                with contextlib.suppress(Refused):
                    await me.begun()
                most = max(most, there.alive)

        async with asyncio.TaskGroup() as group:
            for _ in range(4):
                group.create_task(begin())
        assert most == 2
        assert len(there.started) > 2


async def test_who_goes_while_another_gives_way_gives_the_place_back() -> None:
    async with place(sessions=1, handshake_seconds=5.0) as there:
        me = there.caller("deaf-to-term")
        await me.begun()
        for _ in range(3):
            _, begins = me.begin_to_ask(message=INITIALIZE)
            await asyncio.sleep(0)
            await gone(begins)
        await me.begun()
        assert there.alive == 1


async def test_who_goes_before_the_answer_leaves_no_process() -> None:
    async with place() as there:
        _, begins = there.caller("hang").begin_to_ask(message=INITIALIZE)
        await until(lambda: there.alive == 1)
        await gone(begins)
        await until(lambda: there.alive == 0)


async def test_who_does_not_read_the_answer_leaves_no_process() -> None:
    async with place() as there:
        exchange = KeptExchange()
        exchange.breaks = True
        with pytest.raises(ConnectionResetError):
            await there.caller().ask(message=INITIALIZE, exchange=exchange)
        await until(lambda: len(there.started) == 1 and there.alive == 0)


async def test_one_that_nobody_asks_or_listens_to_ends() -> None:
    async with place(idle_seconds=0.3) as there:
        me = there.caller()
        session = await me.begun()
        _, listening = me.begin_to_ask("GET", session=session)
        await asyncio.sleep(0.5)
        assert there.alive == 1
        await gone(listening)
        await until(lambda: there.alive == 0)


async def test_an_answer_that_does_not_come_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ALIVE_SECONDS", 0.01)
    async with place(answer_seconds=0.35) as there:
        me = there.caller("mute-pages")
        session = await me.begun()
        asked = await me.ask(message=HANGS, session=session)
        assert asked.messages[0]["error"]["message"] == "the server did not answer for 0.35 s"
        assert asked.signs_of_life >= 2
        assert await me.refusal(message=HANGS | {"id": 6}, session=session) == "answered"


async def test_the_sessions_of_one_server_can_be_ended() -> None:
    async with place() as there:
        one, two = there.caller(), there.caller(server="two")
        ended, kept = await one.begun(), await two.begun()
        begins = there.tasks.spawn(there.caller("hang").refusal(message=INITIALIZE), name="begin")
        await until(lambda: there.alive == 3)
        await there.sessions.ended(lambda owner: owner.server == "one")
        assert (there.alive, await begins) == (1, "502 the session was ended")
        assert await one.refusal(message=PING, session=ended) == NOT_FOUND
        assert await two.refusal(message=PING, session=kept) == "answered"


async def test_a_process_that_cannot_be_started_is_told() -> None:
    async with place() as there:

        async def start() -> LineChild:
            raise Refused(503, "not_running", "it does not run")

        caller = Caller(there.sessions, there.tasks, Owner("one"), start)
        assert await caller.refusal(message=INITIALIZE) == "503 it does not run"


@pytest.mark.parametrize(
    ("method", "message", "refusal"),
    [
        ("POST", None, "400 the body is not one JSON-RPC message"),
        ("POST", PING, "400 a session begins with initialize"),
        ("PUT", None, "405 use GET, POST, DELETE"),
    ],
)
async def test_what_is_no_request_of_a_session(method: str, message: dict[str, object] | None, refusal: str) -> None:
    async with place() as there:
        assert await there.caller().refusal(method, message) == refusal
        with pytest.raises(Refused, match="say Accept: application/json, text/event-stream"):
            await there.caller().ask(message=INITIALIZE, accept="application/json")
        assert there.started == []


@pytest.mark.parametrize("fault", ["crash-now", "garbage", "endless-line", "refuse"])
async def test_a_bad_program_leaves_nothing(fault: str) -> None:
    async with place() as there:
        await there.caller(fault).refusal(message=INITIALIZE)
        await until(lambda: len(there.started) == 1 and there.alive == 0)


@pytest.mark.parametrize("fault", ["garbage", "endless-line"])
async def test_a_program_that_is_heard_no_more_has_the_time_to_end(fault: str) -> None:
    """It holds its place until it is gone, and what ends it is no SIGKILL: nobody asked for one so early."""
    async with place(stop=StopTimes(exit=0.2, terminate=20.0)) as there:
        await there.caller(fault).refusal(message=INITIALIZE)
        await until(lambda: len(there.sessions) == 0)
        assert [child.exited.done() and child.exited.result() for child in there.started] == [-signal.SIGTERM]
