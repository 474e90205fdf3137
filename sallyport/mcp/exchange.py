"""One request of streamable HTTP and the ways to answer it, whatever carries them."""

from dataclasses import dataclass
from typing import Final, Protocol

from sallyport.problem import Code
from sallyport.wire.json_rpc import SERVER_ERROR, error_response

SESSION_FIELD: Final = "mcp-session-id"
# What a caller that does not read may hold up its session for.
WRITE_SECONDS: Final = 30.0


class Refused(Exception):
    """A request that is not carried out; `identity` is its JSON-RPC id where it has one."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.identity: str | None = None

    @classmethod
    def of(cls, code: Code, detail: str) -> "Refused":
        """Refuse with an answer of the data path."""
        return cls(code.status, code.wire, detail)

    def to_json(self) -> bytes:
        """Write it so that an MCP client shows the words: they read JSON-RPC, whatever the status."""
        return error_response(self.identity, SERVER_ERROR, self.detail, {"code": self.code, "status": self.status})


@dataclass(frozen=True, slots=True, kw_only=True)
class McpRequest:
    """What of a request counts."""

    method: str
    session_id: str | None
    accept: str
    body: bytes

    @property
    def takes_events(self) -> bool:
        """Whether it may be answered with events."""
        return any(kind in self.accept.lower() for kind in ("text/event-stream", "text/*", "*/*"))


class Exchange(Protocol):
    """How a request is answered: with one message, with none, or with events until they end.

    Each raises ConnectionError or TimeoutError where nobody reads. Who asked and is gone is noticed by the shell, which
    cancels whatever serves it.
    """

    async def answer(self, line: bytes, session_id: str | None = None) -> None:
        """Answer with one message."""

    async def accept(self) -> None:
        """Answer that a message which wants no answer was taken."""

    async def confirm_end(self) -> None:
        """Answer that the session is over."""

    async def begin_events(self) -> None:
        """Answer with events from here on."""

    async def event(self, line: bytes) -> None:
        """Send a message as an event."""

    async def still_here(self) -> None:
        """Send what no client shows, so that the answer is not given up for being silent."""

    async def end_events(self) -> None:
        """Say that no more events come."""
