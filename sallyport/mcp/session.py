"""One client's session with an MCP server that is a process: messages go in as lines and come out to whom they are for.

A response belongs to the request of its id, progress to the request of its token. What the server says by itself goes
to the stream that listens for it, or else to the request that has waited longest, or is kept until there is one.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

from sallyport.mcp.exchange import WRITE_SECONDS, Refused
from sallyport.net.clock import read_clock
from sallyport.net.line_child import LineChild, StopTimes
from sallyport.problem import Code
from sallyport.wire.json_rpc import SERVER_ERROR, Kind, Message, error_response, read_message

# Messages that wait for a caller to read them, or so many bytes of them; then the server waits too, and after
# WRITE_SECONDS the caller is let go.
MAX_WAITING_MESSAGES: Final = 64
MAX_WAITING_BYTES: Final = 1024 * 1024
# What a server says by itself while nobody listens; then the oldest is forgotten.
MAX_KEPT_MESSAGES: Final = 64
MAX_KEPT_BYTES: Final = 1024 * 1024
# A server that does not read what it is asked for so long hangs.
INPUT_SECONDS: Final = 30.0
# Between the end of its output and its own.
EXIT_SECONDS: Final = 1.0


class Replies:
    """What comes for one request, or for whoever listens. `next` returns None when nothing more will."""

    def __init__(self, request: Message | None, kept: Iterable[bytes] = ()) -> None:
        self.request = request
        self._lines: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._bytes = 0
        self._has_room = asyncio.Event()
        self._has_room.set()
        for line in kept:
            self._add(line)
        self._is_complete = False
        self.is_error = False

    async def put(self, line: bytes) -> None:
        """Add a message; raises TimeoutError where nobody reads for long."""
        async with asyncio.timeout(WRITE_SECONDS):
            await self._has_room.wait()
        self._add(line)
        if self._lines.qsize() >= MAX_WAITING_MESSAGES or self._bytes >= MAX_WAITING_BYTES:
            self._has_room.clear()

    def complete(self, line: bytes | None = None, *, is_error: bool = False) -> None:
        """Add the last message, where there is one."""
        if not self._is_complete:
            self._is_complete, self.is_error = True, is_error
            if line is not None:
                self._add(line)
            self._lines.put_nowait(None)

    async def next(self) -> bytes | None:
        """Return the next message."""
        line = await self._lines.get()
        self._bytes -= 0 if line is None else len(line)
        self._has_room.set()
        return line

    @property
    def has_more(self) -> bool:
        """Whether there is, or may come, something behind what `next` returned last."""
        return not self._is_complete or self._lines.qsize() > 1

    def close(self) -> None:
        """Nobody reads any more."""
        self._has_room.set()

    def _add(self, line: bytes) -> None:
        self._lines.put_nowait(line)
        self._bytes += len(line)


class McpSession:
    """A session. `run` it in a task; it is over when that is. Always: each of `_waiting` is found under its id."""

    def __init__(self, child: LineChild, *, most_requests: int, stop_times: StopTimes) -> None:
        self._child = child
        self._most_requests = most_requests
        self._stop_times = stop_times
        self._waiting: dict[str, Replies] = {}
        self._listener: Replies | None = None
        self._kept: deque[bytes] = deque()
        self._kept_bytes = 0
        self.on_idle: Callable[[], None] = lambda: None
        # When a client last said something, or had its answer. Not by the loop's clock: that of uvloop counts
        # milliseconds, and what comes in one of them has an order too.
        self.active_at = read_clock()
        self.is_over = False
        self._was_ended = False  # by its owner, and not by its server

    async def run(self) -> None:
        """Hand out what the server says until it ends or this is cancelled; then the process is ended."""
        try:
            while (line := await self._child.next_line()) is not None:
                message = read_message(line)
                if message is None:
                    self._child.note_garbage(line)
                else:
                    await self._hand_out(message)
            # From here on nothing can be answered, and what is not sent is not cut.
            self.is_over = True
            if self._child.misbehaved is None:
                # Its exit code says more than that it fell silent.
                await asyncio.wait({self._child.exited}, timeout=EXIT_SECONDS)
        finally:
            self._was_ended = not self.is_over
            self.is_over = True
            for replies in (*self._waiting.values(), *([self._listener] if self._listener else [])):
                replies.complete(self._lost(replies.request))
            await self._child.stop(self._stop_times)

    # From the client -----------------------------------------------------------------------------------------------

    async def tell(self, message: Message) -> None:
        """Send what wants no answer; raises Refused."""
        await self._send(message)
        given_up = None if message.cancels is None else self._waiting.get(message.cancels)
        if given_up is not None:
            self.give_up(given_up, "the request was cancelled")

    async def ask(self, message: Message) -> Replies:
        """Send a request and return where its answer comes; raises Refused. `forget` that at the end."""
        assert message.id is not None, "a request has an id"
        if message.id in self._waiting:
            raise Refused.of(Code.INVALID_REQUEST, "a request of this id waits already")
        if len(self._waiting) >= self._most_requests:
            raise Refused.of(Code.OVERLOADED, f"{self._most_requests} requests wait already")
        replies = self._waiting[message.id] = Replies(message)
        try:
            await self._send(message)
        except BaseException:
            self.forget(replies)
            raise
        return replies

    def listen(self) -> Replies:
        """Return where that comes which the server says by itself; raises Refused. `forget` it at the end."""
        if self._listener is not None:
            raise Refused(409, "conflict", "this session has a listening stream already")
        replies = self._listener = Replies(None, self._kept)
        self._kept.clear()
        self._kept_bytes = 0
        return replies

    def give_up(self, replies: Replies, why: str) -> None:
        """Answer a request in the server's place; what that says to it later is nobody's."""
        if replies.request is not None:
            replies.complete(error_response(replies.request.id, SERVER_ERROR, why))
        self.forget(replies)

    def forget(self, replies: Replies) -> None:
        """Whoever asked has its answer, or is gone."""
        replies.close()
        self.active_at = read_clock()
        if self._listener is replies:
            self._listener = None
        elif replies.request is not None and self._waiting.get(replies.request.id or "") is replies:
            del self._waiting[replies.request.id or ""]
        if self.is_idle:
            self.on_idle()

    @property
    def is_asked(self) -> bool:
        """Whether somebody waits for an answer."""
        return bool(self._waiting)

    @property
    def is_listened_to(self) -> bool:
        """Whether somebody listens for what the server says by itself."""
        return self._listener is not None

    @property
    def is_idle(self) -> bool:
        """Whether nobody waits and nobody listens."""
        return not self._waiting and self._listener is None

    async def _send(self, message: Message) -> None:
        if self.is_over:
            raise Refused.of(Code.UPSTREAM_UNREACHABLE, self.end())
        self.active_at = read_clock()
        try:
            async with asyncio.timeout(INPUT_SECONDS):
                await self._child.send_line(message.line)
        except TimeoutError:
            raise Refused.of(Code.UPSTREAM_TIMEOUT, f"the server did not read for {INPUT_SECONDS:g} s") from None

    # From the server -----------------------------------------------------------------------------------------------

    async def _hand_out(self, message: Message) -> None:
        if message.kind is Kind.RESPONSE:
            replies = self._waiting.pop(message.id or "", None)
            if replies is not None:
                replies.complete(message.line, is_error=message.is_error)
            return
        replies = self._receiver(message)
        if replies is None:
            self._keep(message.line)
            return
        try:
            await replies.put(message.line)
        except TimeoutError:
            self.forget(replies)
            replies.complete()

    def _receiver(self, message: Message) -> Replies | None:
        if message.progress_token is not None:
            for replies in self._waiting.values():
                if replies.request is not None and replies.request.progress_token == message.progress_token:
                    return replies
        return self._listener or next(iter(self._waiting.values()), None)

    def _keep(self, line: bytes) -> None:
        self._kept.append(line)
        self._kept_bytes += len(line)
        while len(self._kept) > MAX_KEPT_MESSAGES or self._kept_bytes > MAX_KEPT_BYTES:
            self._kept_bytes -= len(self._kept.popleft())

    def end(self) -> str:
        """Say in words how the server ended."""
        if self._child.misbehaved is not None:
            return f"the server was ended: {self._child.misbehaved}"
        exited = self._child.exited
        if self._was_ended:
            return "the session was ended"
        if not exited.done():
            return "the server closed its output"
        code, line = exited.result(), self._child.last_words()
        how = f"exited with code {code}" if code >= 0 else f"was ended by signal {-code}"
        return f"the server {how}" + (f": {line}" if line else "")

    def _lost(self, request: Message | None) -> bytes | None:
        return None if request is None else error_response(request.id, SERVER_ERROR, self.end())

    def __repr__(self) -> str:
        return f"<McpSession: {len(self._waiting)} waiting, {self._child}>"
