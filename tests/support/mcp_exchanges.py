"""Requests to sessions and their answers, without anything that carries them."""

import asyncio
import contextlib
import json
from typing import Any

from sallyport.mcp.exchange import McpRequest, Refused
from sallyport.mcp.sessions import McpSessions, Owner, Start
from sallyport.net.tasks import TaskSet
from tests.support.mcp_requests import ACCEPT, INITIALIZE, Json


class KeptExchange:
    """Keeps what it is answered."""

    def __init__(self) -> None:
        self.messages: list[Any] = []
        self.session_id: str | None = None
        self.began_events = asyncio.Event()
        self.is_over = False
        self.signs_of_life = 0
        self.breaks = False  # nobody is there to read

    async def answer(self, line: bytes, session_id: str | None = None) -> None:
        self.messages.append(json.loads(line))
        self.session_id = session_id
        if self.breaks:
            raise ConnectionResetError
        self.is_over = True

    async def accept(self) -> None:
        self.is_over = True

    async def confirm_end(self) -> None:
        self.is_over = True

    async def begin_events(self) -> None:
        self.began_events.set()

    async def event(self, line: bytes) -> None:
        self.messages.append(json.loads(line))

    async def still_here(self) -> None:
        self.signs_of_life += 1

    async def end_events(self) -> None:
        self.is_over = True


class Caller:
    """Who asks some sessions about one server."""

    def __init__(self, sessions: McpSessions, tasks: TaskSet, owner: Owner, start: Start) -> None:
        self._sessions = sessions
        self._tasks = tasks
        self._owner = owner
        self._start = start

    async def ask(
        self,
        method: str = "POST",
        message: Json | None = None,
        *,
        session: str | None = None,
        exchange: KeptExchange | None = None,
        accept: str = ACCEPT,
    ) -> KeptExchange:
        """Have one request answered; raises Refused."""
        asked = exchange or KeptExchange()
        body = b"" if message is None else json.dumps(message).encode()
        request = McpRequest(method=method, session_id=session, accept=accept, body=body)
        await self._sessions.serve(asked, request, self._owner, self._start)
        return asked

    async def begun(self) -> str:
        """Begin a session and return its id; raises Refused."""
        session = (await self.ask(message=INITIALIZE)).session_id
        assert session is not None
        return session

    def begin_to_ask(
        self, method: str = "POST", message: Json | None = None, *, session: str | None = None
    ) -> tuple[KeptExchange, asyncio.Task[KeptExchange]]:
        """Ask in a task, which may be cancelled: then whoever asked is gone."""
        exchange = KeptExchange()
        asking = self.ask(method, message, session=session, exchange=exchange)
        return exchange, self._tasks.spawn(asking, name="ask")

    async def refusal(self, method: str = "POST", message: Json | None = None, *, session: str | None = None) -> str:
        """Return the status and words that a request is refused with, or that it is not."""
        try:
            await self.ask(method, message, session=session)
        except Refused as refused:
            return f"{refused.status} {refused}"
        return "answered"


async def gone(task: "asyncio.Task[KeptExchange]") -> None:
    """Let whoever asks go."""
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
