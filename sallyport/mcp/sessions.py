"""The sessions with MCP servers that are processes: which there are, which one a request is for, and how each ends.

A session begins with `initialize`, which starts a process of its own, and ends by a DELETE, with its process, after a
time in which nobody asks, or when its owner ends it. Where there is no more room, the session that has been idle
longest gives way to a new one, of the caller that has most of them.
"""

import asyncio
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from sallyport.mcp.exchange import Exchange, McpRequest, Refused
from sallyport.mcp.session import McpSession, Replies
from sallyport.net.child import ChildError
from sallyport.net.line_child import LineChild, StopTimes
from sallyport.net.tasks import TaskSet
from sallyport.problem import Code
from sallyport.wire.json_rpc import Kind, Message, read_message

# Between two events: proxies and clients on the way give up answers that say nothing for a minute.
ALIVE_SECONDS: Final = 15.0

type Start = Callable[[], Awaitable[LineChild]]


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionLimits:
    """How many sessions there may be, each a process, and how long each may take for what."""

    sessions: int
    sessions_of_one: int  # server
    sessions_of_caller: int  # with one server
    requests: int  # of one session, at once
    handshake_seconds: float
    # Nobody asks and nobody listens: a client that went away without a word.
    idle_seconds: float
    # A request is given up when nothing was heard of it for so long; None: never.
    answer_seconds: float | None
    stop: StopTimes


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose a session is: it is found only by the same. `server` is compared, and may be anything."""

    server: object
    caller: str = ""


class _Place:
    """What a session takes up, from before its process is started until that is gone."""

    def __init__(self, owner: Owner, predecessor: "_Place | None") -> None:
        self.id = secrets.token_hex(16)
        self.owner = owner
        self.predecessor = predecessor
        self.begun: asyncio.Future[McpSession] = asyncio.get_running_loop().create_future()
        # Also where nobody waits for it any more.
        self.begun.add_done_callback(lambda begun: begun.exception())
        self.session: McpSession | None = None
        self.task: asyncio.Task[None]
        self.is_up = False  # its server has introduced itself
        self.is_ending = False
        self.is_taken_over = False

    @property
    def is_open(self) -> bool:
        """Whether a client can go on with it."""
        return self.is_up and not self.is_ending and self.session is not None and not self.session.is_over

    @property
    def may_give_way(self) -> bool:
        """Whether it can be had for another session without anything being lost that is under way."""
        return self.is_ending or (self.is_up and self.session is not None and not self.session.is_asked)

    @property
    def rank(self) -> tuple[bool, float]:
        """Who gives way first: one whose client is gone, then the one idle longest."""
        session = self.session
        return (False, 0.0) if session is None else (session.is_listened_to, session.active_at)


class McpSessions:
    """All of them. Always: a place is in `_places` as long as there is, or may be, a process of it."""

    def __init__(self, tasks: TaskSet, limits: SessionLimits) -> None:
        self._tasks = tasks
        self._limits = limits
        self._places: dict[str, _Place] = {}

    async def serve(self, exchange: Exchange, request: McpRequest, owner: Owner, start: Start) -> None:
        """Answer one request; raises Refused. `start` starts the process of a new session, and may raise that too."""
        if request.method in ("GET", "POST") and not request.takes_events:
            raise Refused(406, "not_acceptable", "say Accept: application/json, text/event-stream")
        match request.method:
            case "POST":
                await self._post(exchange, request, owner, start)
            case "GET":
                session = _session(self._found(request, owner))
                await self._events(exchange, session, session.listen())
            case "DELETE":
                self._end(self._found(request, owner))
                await exchange.confirm_end()
            case _:
                raise Refused(405, "method_not_allowed", "use GET, POST, DELETE")

    def end(self, is_over: Callable[[Owner], bool]) -> None:
        """Begin to end the sessions of these owners."""
        for place in tuple(self._places.values()):
            if is_over(place.owner):
                self._end(place)

    async def ended(self, is_over: Callable[[Owner], bool]) -> None:
        """End the sessions of these owners, and wait until their processes are gone."""
        self.end(is_over)
        running = [place.task for place in self._places.values() if is_over(place.owner)]
        if running:
            await asyncio.wait(running)

    # Messages ------------------------------------------------------------------------------------------------------

    async def _post(self, exchange: Exchange, request: McpRequest, owner: Owner, start: Start) -> None:
        message = read_message(request.body)
        if message is None:
            raise Refused.of(Code.INVALID_REQUEST, "the body is not one JSON-RPC message")
        try:
            if request.session_id is None:
                if message.kind is not Kind.REQUEST or message.method != "initialize":
                    raise Refused.of(Code.INVALID_REQUEST, "a session begins with initialize")
                await self._initialize(exchange, message, owner, start)
            else:
                await self._pass_on(exchange, message, _session(self._found(request, owner)))
        except Refused as refused:
            refused.identity = message.id
            raise

    async def _pass_on(self, exchange: Exchange, message: Message, session: McpSession) -> None:
        if message.kind is not Kind.REQUEST:
            await session.tell(message)
            await exchange.accept()
            return
        await self._events(exchange, session, await session.ask(message))

    async def _initialize(self, exchange: Exchange, message: Message, owner: Owner, start: Start) -> None:
        """Start a server and pass on how it introduces itself; one that does not is ended."""
        place = self._begin(owner, start)
        try:
            session = await asyncio.shield(place.begun)
            line, is_error = await self._introduced(session, message)
            place.is_up = not is_error
            await exchange.answer(line, place.id if place.is_up else None)
        except BaseException:
            # Nobody has heard its id, or ever will.
            place.is_up = False
            raise
        finally:
            if not place.is_up:
                self._end(place)

    async def _introduced(self, session: McpSession, message: Message) -> tuple[bytes, bool]:
        """Return what a server answers `initialize`, and whether that is an error; raises Refused."""
        replies = await session.ask(message)
        seconds = self._limits.handshake_seconds
        try:
            async with asyncio.timeout(seconds):
                # What it says before its answer, such as a line for the log, is nobody's yet.
                while (line := await replies.next()) is not None and replies.has_more:
                    pass
        except TimeoutError:
            detail = f"the server did not answer initialize within {seconds:g} s"
            raise Refused.of(Code.UPSTREAM_TIMEOUT, detail) from None
        finally:
            session.forget(replies)
        if session.is_over or line is None:
            raise Refused.of(Code.UPSTREAM_UNREACHABLE, session.end())
        return line, replies.is_error

    async def _events(self, exchange: Exchange, session: McpSession, replies: Replies) -> None:
        """Answer with all that comes for a request, or for whoever listens, as the servers of the SDKs do."""
        try:
            await exchange.begin_events()
            while (line := await self._next(exchange, session, replies)) is not None:
                await exchange.event(line)
            await exchange.end_events()
        finally:
            session.forget(replies)

    async def _next(self, exchange: Exchange, session: McpSession, replies: Replies) -> bytes | None:
        """Return what comes next. Until then whoever waits is told so; a request that waits too long is given up."""
        loop = asyncio.get_running_loop()
        # Who listens waits for nothing in particular.
        patience = None if replies.request is None else self._limits.answer_seconds
        until = None if patience is None else loop.time() + patience
        while True:
            alive = loop.time() + ALIVE_SECONDS
            try:
                async with asyncio.timeout_at(alive if until is None else min(alive, until)):
                    return await replies.next()
            except TimeoutError:
                if until is not None and loop.time() >= until:
                    session.give_up(replies, f"the server did not answer for {patience:g} s")
                    until = None
                else:
                    await exchange.still_here()

    # Sessions ------------------------------------------------------------------------------------------------------

    def _found(self, request: McpRequest, owner: Owner) -> _Place:
        place = None if request.session_id is None else self._places.get(request.session_id)
        if place is None or place.owner != owner or not place.is_open:
            # As the protocol has it for a session that is over: its client begins a new one.
            raise Refused(404, "not_found", "Session not found")
        return place

    def _begin(self, owner: Owner, start: Start) -> _Place:
        """Take a place and begin to start a process; raises Refused."""
        place = _Place(owner, self._room_for(owner))
        self._places[place.id] = place
        place.task = self._tasks.spawn(self._live(place, start), name=f"session {place.id[:8]}")

        def over(_: asyncio.Task[None]) -> None:
            del self._places[place.id]
            if not place.is_taken_over:
                _give_back(place)
            if not place.begun.done():
                place.begun.set_exception(Refused.of(Code.UPSTREAM_UNREACHABLE, "the session was ended"))

        # No part of the task: one that is cancelled before it begins does nothing.
        place.task.add_done_callback(over)
        return place

    def _room_for(self, owner: Owner) -> _Place | None:
        """Have a place given up for a new session where there is none free, and return it; raises Refused."""
        limits = self._limits
        held = [place for place in self._places.values() if not place.is_taken_over]
        of_one = [place for place in held if place.owner.server == owner.server]
        of_caller = [place for place in of_one if place.owner == owner]
        # Each is a part of the next, so that room in the first that is full is room in all.
        crowds = (of_caller, limits.sessions_of_caller), (of_one, limits.sessions_of_one), (held, limits.sessions)
        crowd = next((crowd for crowd, most in crowds if len(crowd) >= most), None)
        if crowd is None:
            return None
        place = _first_to_go(crowd)
        if place is None:
            raise Refused.of(Code.OVERLOADED, f"{len(crowd)} such processes run already, and each has something to do")
        place.is_taken_over = True
        self._end(place)
        return place

    async def _live(self, place: _Place, start: Start) -> None:
        child: LineChild | None = None
        try:
            while (before := place.predecessor) is not None:
                await asyncio.wait({before.task})
                # And whoever that was waiting for, where it has not been to the end.
                place.predecessor = before.predecessor
            child = await start()
            session = place.session = McpSession(
                child, most_requests=self._limits.requests, stop_times=self._limits.stop
            )
            place.begun.set_result(session)
            await self._run(place, session)
        except ChildError as error:
            place.begun.set_exception(Refused.of(Code.UPSTREAM_UNREACHABLE, str(error)))
        except Refused as refused:
            place.begun.set_exception(refused)
        finally:
            if child is not None:
                child.abandon()

    async def _run(self, place: _Place, session: McpSession) -> None:
        idle: asyncio.TimerHandle | None = None

        def watch() -> None:
            nonlocal idle
            if idle is not None:
                idle.cancel()
            idle = asyncio.get_running_loop().call_later(self._limits.idle_seconds, end_if_idle)

        def end_if_idle() -> None:
            if session.is_idle:
                self._end(place)

        session.on_idle = watch
        try:
            await session.run()
        finally:
            if idle is not None:
                idle.cancel()

    def _end(self, place: _Place) -> None:
        if not place.is_ending:
            place.is_ending = True
            # One that is over ends its process already, and is not to leave it half way.
            if place.session is None or not place.session.is_over:
                place.task.cancel()

    def __len__(self) -> int:
        """Return how many there are, those that begin or end included."""
        return len(self._places)

    def __repr__(self) -> str:
        return f"<McpSessions: {len(self._places)}>"


def _session(place: _Place) -> McpSession:
    assert place.session is not None, "one that is up has a session"
    return place.session


def _first_to_go(places: Sequence[_Place]) -> _Place | None:
    """Return one that ends anyway, or else one of the caller that has most of them: nobody pushes out all others."""
    share = Counter(place.owner.caller for place in places)
    return min(
        (place for place in places if place.may_give_way),
        key=lambda place: (not place.is_ending, -share[place.owner.caller], place.rank),
        default=None,
    )


def _give_back(place: _Place) -> None:
    """Have a place be that of whoever is not gone yet, where the one it was for does not wait for that any more."""
    before = place.predecessor
    while before is not None and before.task.done():
        before = before.predecessor
    if before is not None:
        before.is_taken_over = False
