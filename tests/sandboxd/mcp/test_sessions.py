"""stdio MCP servers by streamable HTTP: real programs, good ones and bad ones."""

import asyncio
import contextlib
import json
import re
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from sallyport.mcp import sessions as engine
from sallyport.net.line_child import StopTimes
from sallyport.setup import McpServer, StdioMcpTransport
from sandboxd.mcp import sessions as module
from sandboxd.mcp.sessions import StdioSessions
from sandboxd.setup.process_log import ProcessLog
from tests.support.mcp_program import FAULTS, PROGRAM
from tests.support.mcp_requests import INITIALIZE, Asked, Json, ask, notification, request
from tests.support.setup_documents import has_content, is_alive, task_set
from tests.support.until import until

pytestmark = pytest.mark.uvloop


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LIMITS", replace(module.LIMITS, stop=StopTimes(exit=0.2, terminate=0.2)))


def server(*faults: str, command: str = sys.executable, server_id: str = "tester", **env: str) -> McpServer:
    assert set(faults) <= set(FAULTS)
    transport = StdioMcpTransport(type="stdio", command=command, args=("-IS", str(PROGRAM), *faults), env=env)
    return McpServer(server_id=server_id, binding_id="bnd_one", name="tester", transport=transport)


class Sandbox:
    """The sessions of a sandbox that declares some servers."""

    def __init__(self, sessions: StdioSessions, declared: list[McpServer]) -> None:
        self.sessions = sessions
        self.declared = declared
        self.ends = 0

    def ask(self, method: str = "POST", message: Json | bytes = b"", *, session: str | None = None) -> Asked:
        return ask(
            lambda stream: self.sessions.serve(stream, self.declared[0], self._ended), method, message, session=session
        )

    def _ended(self) -> None:
        self.ends += 1

    async def begun(self) -> str:
        """Begin a session and return its id."""
        asked = await self.ask(message=INITIALIZE).done()
        assert asked.status == 200, asked.messages
        session = asked.field("Mcp-Session-Id")
        assert session is not None
        told = await self.ask(message=notification("notifications/initialized"), session=session).done()
        assert told.status == 202
        return session

    @property
    def count(self) -> int:
        return int(re.findall(r"\d+", repr(self.sessions))[0])


@contextlib.asynccontextmanager
async def sandbox(tmp_path: Path, *declared: McpServer) -> AsyncIterator[Sandbox]:
    async with task_set() as tasks:
        there = list(declared)
        sessions = StdioSessions(
            tasks,
            declared=lambda: there,
            environment=lambda env: {"PATH": "/usr/bin:/bin", **(env or {})},
            log=lambda server: ProcessLog(tmp_path / "logs" / f"{server.server_id}.log"),
        )
        try:
            yield Sandbox(sessions, there)
        finally:
            await sessions.close()
            assert repr(sessions) == "<StdioSessions: 0>"


async def test_a_session_from_begin_to_end(tmp_path: Path) -> None:
    async with sandbox(tmp_path, server("banner", TOKEN="declared")) as there:
        session = await there.begun()
        listed = await there.ask(message=request("tools/list"), session=session).done()
        assert (listed.status, listed.field("Content-Type")) == (200, "text/event-stream")
        assert [tool["name"] for tool in listed.messages[0]["result"]["tools"]][:2] == ["echo", "crash"]
        called = await there.ask(message=request("tools/call", 2, name="whoami"), session=session).done()
        assert json.loads(called.messages[0]["result"]["content"][0]["text"])["TOKEN"] == "declared"
        assert there.count == 1
        assert (await there.ask("DELETE", session=session).done()).status == 200
        await until(lambda: there.count == 0)
        over = await there.ask(message=request("ping"), session=session).done()
        assert (over.status, over.error) == (404, "Session not found")
        assert there.ends == 6
    assert (tmp_path / "logs/tester.log").read_text() == "Welcome to the server!\n"


async def test_progress_comes_as_events_before_the_response(tmp_path: Path) -> None:
    async with sandbox(tmp_path, server()) as there:
        session = await there.begun()
        call = request("tools/call", 3, name="grow", _meta={"progressToken": "t"})
        asked = await there.ask(message=call, session=session).done()
        assert asked.field("Content-Type") == "text/event-stream"
        assert [each.get("method", each.get("id")) for each in asked.messages] == ["notifications/progress"] * 3 + [3]


async def test_a_process_for_each_client(tmp_path: Path) -> None:
    async with sandbox(tmp_path, server()) as there:
        one, two = await there.begun(), await there.begun()
        assert one != two
        assert there.count == 2
        crash = await there.ask(message=request("tools/call", name="crash"), session=one).done()
        assert crash.error == "the server exited with code 4: I was told to crash"
        await until(lambda: there.count == 1)
        assert (await there.ask(message=request("ping"), session=two).done()).status == 200


@pytest.mark.parametrize(
    ("faults", "status", "code", "words"),
    [
        (("crash-now",), 502, "upstream_unreachable", "the server exited with code 3: cannot open the database"),
        (("hang",), 504, "upstream_timeout", "the server did not answer initialize within 0.4 s"),
        (
            ("garbage",),
            502,
            "upstream_unreachable",
            "the server was ended: it printed more than 1000 lines that are no messages",
        ),
        (
            ("endless-line",),
            502,
            "upstream_unreachable",
            "the server was ended: it printed a line of more than 4194304 bytes",
        ),
    ],
)
async def test_a_server_that_does_not_begin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, faults: tuple[str, ...], status: int, code: str, words: str
) -> None:
    if faults == ("hang",):
        monkeypatch.setattr(module, "LIMITS", replace(module.LIMITS, handshake_seconds=0.4))
    async with sandbox(tmp_path, server(*faults)) as there:
        asked = await there.ask(message=INITIALIZE).done()
        assert (asked.status, asked.field("X-Sallyport-Error"), asked.error) == (status, code, words)
        await until(lambda: there.count == 0)


async def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    async with sandbox(tmp_path, server(command="no-such-program")) as there:
        asked = await there.ask(message=INITIALIZE).done()
        assert (asked.status, asked.error) == (502, "there is no program no-such-program")


async def test_one_that_refuses_has_no_session(tmp_path: Path) -> None:
    async with sandbox(tmp_path, server("refuse")) as there:
        asked = await there.ask(message=INITIALIZE).done()
        assert (asked.status, asked.error, asked.field("Mcp-Session-Id")) == (200, "not today", None)
        await until(lambda: there.count == 0)


async def test_a_client_that_goes_while_it_begins_leaves_nothing(tmp_path: Path) -> None:
    async with sandbox(tmp_path, server("linger", "hang", PIDS=str(tmp_path / "pids"))) as there:
        asked = there.ask(message=INITIALIZE)
        await until(lambda: has_content(tmp_path / "pids"))
        asked.transport.abort()
        await until(lambda: there.count == 0)


async def test_what_a_server_says_by_itself_comes_to_who_listens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "ALIVE_SECONDS", 0.05)
    async with sandbox(tmp_path, server()) as there:
        session = await there.begun()
        listening = there.ask("GET", session=session)
        await until(lambda: listening.status == 200)
        twice = await there.ask("GET", session=session).done()
        assert (twice.status, twice.error) == (409, "this session has a listening stream already")
        call = request("tools/call", name="grow", _meta={"progressToken": "t"})
        assert (await there.ask(message=call, session=session).done()).status == 200
        await until(lambda: b": \n\n" in listening.body)
        await there.ask(message=request("tools/call", 2, name="crash"), session=session).done()
        await listening.done()
        assert listening.messages == []


async def test_a_call_that_is_given_up(tmp_path: Path) -> None:
    async with sandbox(tmp_path, server("mute-pages")) as there:
        session = await there.begun()
        asked = there.ask(message=request("tools/list", 5), session=session)
        await until(lambda: asked.field("Content-Type") == "text/event-stream")
        await there.ask(message=notification("notifications/cancelled", requestId=5), session=session).done()
        await asked.done()
        assert asked.error == "the request was cancelled"


@pytest.mark.parametrize(
    ("method", "message", "status", "words"),
    [
        ("POST", b"no message", 400, "the body is not one JSON-RPC message"),
        ("POST", request("tools/list"), 400, "a session begins with initialize"),
        ("POST", notification("notifications/initialized"), 400, "a session begins with initialize"),
        ("GET", b"", 404, "Session not found"),
        ("DELETE", b"", 404, "Session not found"),
        ("PUT", b"", 405, "use GET, POST, DELETE"),
    ],
)
async def test_without_a_session(tmp_path: Path, method: str, message: Json | bytes, status: int, words: str) -> None:
    async with sandbox(tmp_path, server()) as there:
        asked = await there.ask(method, message).done()
        assert (asked.status, asked.error) == (status, words)
        assert there.count == 0


async def test_a_session_is_its_server_s_alone(tmp_path: Path) -> None:
    async with sandbox(tmp_path, server(), server(server_id="other")) as there:
        session = await there.begun()
        there.declared.reverse()
        assert (await there.ask(message=request("ping"), session=session).done()).status == 404
        there.declared.reverse()
        assert (await there.ask(message=request("ping"), session=session).done()).status == 200


async def test_a_server_that_is_declared_anew_begins_anew(tmp_path: Path) -> None:
    async with sandbox(tmp_path, server()) as there:
        session = await there.begun()
        there.declared[0] = server("banner")
        assert (await there.ask(message=request("ping"), session=session).done()).status == 404
        await until(lambda: there.count == 0)


async def test_at_the_limit_an_idle_one_gives_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LIMITS", replace(module.LIMITS, sessions=1))
    async with sandbox(tmp_path, server("mute-pages")) as there:
        first, second = await there.begun(), await there.begun()
        assert (await there.ask(message=request("ping"), session=first).done()).status == 404
        there.ask(message=request("tools/list", 5), session=second)
        refused = await there.ask(message=INITIALIZE).done()
        words = "1 such processes run already, and each has something to do"
        assert (refused.status, refused.error) == (503, words)


async def test_a_client_that_went_away_without_a_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LIMITS", replace(module.LIMITS, idle_seconds=0.3))
    async with sandbox(tmp_path, server()) as there:
        session = await there.begun()
        listening = there.ask("GET", session=session)
        await until(lambda: listening.status == 200)
        await asyncio.sleep(0.5)
        assert there.count == 1  # who listens is there
        listening.transport.abort()
        await until(lambda: there.count == 0)


async def test_the_whole_group_goes_with_the_session(tmp_path: Path) -> None:
    async with sandbox(tmp_path, server("linger", PIDS=str(tmp_path / "pids"))) as there:
        session = await there.begun()
        assert has_content(tmp_path / "pids")
        await there.ask("DELETE", session=session).done()
        await until(lambda: there.count == 0)
    assert not is_alive(int((tmp_path / "pids").read_text()))
