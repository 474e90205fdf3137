"""The set-up of a sandbox that sandboxd stands outside of: documents go to the deputy in it, its statuses come back.

The newest document is kept here until a newer one comes, and every deputy is given it: one that is killed in the midst
of it, or that is not there yet, costs time and no document.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple, cast

from sallyport.net.clock import NEVER, Clock
from sallyport.net.tunnel import Tunnel, TunnelUnavailable
from sallyport.setup import SetupDocument, SetupError, parse_setup
from sandboxd.deputy.door import DeputyDoor
from sandboxd.setup.announcement import NOT_ANNOUNCED, Announcement, read_announcement
from sandboxd.setup.steps import refusal

# So long a document waits for a deputy before it is said that there is none. One that has ended is back in 2 s.
DEPUTY_SECONDS: Final = 10.0
# Statuses go on this often at most, however many a deputy sends: they share the tunnel's pace with what sandboxd says.
STATUS_SECONDS: Final = 0.25
# Of the answer to a document nothing is needed; its head has some fifty bytes, a refusal some hundred.
_MAX_ANSWER_BYTES: Final = 16 * 1024
_STEP: Final = "deputy"
_GONE: Final = "no deputy runs in the sandbox at present to carry this out; it is done when one comes"
_NONE: Final = "no deputy runs in this sandbox, so nothing can be set up in it (docs/sandbox-providers.md)"


class _Document(NamedTuple):
    """A document, and the message that it was announced by."""

    revision: int
    message: Mapping[str, object]
    body: bytes


class DelegatedSetup:
    """The set-up as the gateway's side of sandboxd knows it.

    Without a door, where nobody can come, a document that has something done or reached is refused.
    """

    def __init__(
        self, door: DeputyDoor | None, *, clock: Clock, send_status: Callable[[Mapping[str, object]], None]
    ) -> None:
        self._door = door
        self._clock = clock
        self._send_status = send_status
        self._announced: Announcement | None = None
        self._message: Mapping[str, object] = {}
        self._kept: _Document | None = None
        self._status: Mapping[str, object] | None = None
        self._status_timer: asyncio.TimerHandle | None = None
        self._is_untold = False
        self.deadline_at = self.filed_at = NEVER
        if door is not None:
            door.on_status = self._tell
            door.join(self)

    async def close(self) -> None:
        """Say no more."""
        self._clock.watch(self, NEVER)
        if self._status_timer is not None:
            self._status_timer.cancel()

    # From the gateway ----------------------------------------------------------------------------------------------

    def announce(self, message: Mapping[str, object]) -> None:
        """Take `setup.apply`; raises RemoteProtocolError."""
        self._announced, self._message = read_announcement(message), message

    def announced(self, revision: int) -> Announcement | None:
        """What was announced last, if it is of this revision."""
        known = self._announced
        return known if known is not None and known.revision == revision else None

    def document_received(self, revision: int, body: bytes) -> None:
        """Take an announced document; what becomes of it is told by a status."""
        announced = self.announced(revision)
        if announced is None or not announced.is_of(body):
            self._tell(refusal(revision, [NOT_ANNOUNCED]))
        elif self._door is None:
            self._tell(_without_a_deputy(revision, body))
        else:
            document = _Document(revision, self._message, body)
            if self._kept is None or self._kept.revision <= revision:
                self._kept = document
            self._hand_over(self._door.tunnel, document)

    def tunnel_ready(self) -> None:
        """Say again how things stand: what was sent while there was no tunnel is lost."""
        if self._status is not None:
            self._send_status(self._status)

    # To the deputy -------------------------------------------------------------------------------------------------

    def deputy_came(self) -> None:
        """Give it the newest document; one that it knows changes nothing."""
        if self._door is not None and self._kept is not None:
            self._hand_over(self._door.tunnel, self._kept)

    def deputy_left(self) -> None:
        """Wait for the next one; only a document that is being applied is missed."""
        if self._kept is not None and not self._is_settled(self._kept.revision):
            self._clock.watch(self, self._clock.now + DEPUTY_SECONDS)

    def _hand_over(self, tunnel: Tunnel | None, document: _Document) -> None:
        if tunnel is None:
            self._clock.watch(self, self._clock.now + DEPUTY_SECONDS)
            return
        self._clock.watch(self, NEVER)
        tunnel.send_control(document.message)
        try:
            tunnel.open_stream(_Handing(document.revision, document.body))
        except TunnelUnavailable as error:
            self._tell(refusal(document.revision, [f"the deputy takes no document: {error}"], step=_STEP))

    def expire(self) -> None:
        """No deputy has come."""
        if self._kept is not None:
            self._tell(refusal(self._kept.revision, [_GONE], step=_STEP))

    # Statuses ------------------------------------------------------------------------------------------------------

    def _is_settled(self, revision: int) -> bool:
        status = self._status
        return status is not None and status["revision"] == revision and status["state"] != "applying"

    def _tell(self, status: Mapping[str, object]) -> None:
        self._status = status
        self._is_untold = True
        if self._status_timer is None:
            self._send_untold()

    def _send_untold(self) -> None:
        self._status_timer = None
        if self._is_untold and self._status is not None:
            self._is_untold = False
            self._send_status(self._status)
            self._status_timer = asyncio.get_running_loop().call_later(STATUS_SECONDS, self._send_untold)

    def __repr__(self) -> str:
        kept = "nothing" if self._kept is None else f"revision {self._kept.revision}"
        return f"<DelegatedSetup: {kept}, {self._door or 'no door'}>"


class _Handing(asyncio.Protocol):
    """A stream that brings a deputy one document. What it answers is told by a status."""

    def __init__(self, revision: int, body: bytes) -> None:
        self._revision = revision
        self._body = body
        self._answered_bytes = 0
        self._stream: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._stream = cast(asyncio.Transport, transport)
        self._stream.write(b"CONNECT setup/%d HTTP/1.1\r\nHost: sandbox\r\n\r\n" % self._revision + self._body)
        self._stream.write_eof()

    def data_received(self, data: bytes) -> None:
        self._answered_bytes += len(data)
        if self._answered_bytes > _MAX_ANSWER_BYTES:
            self._stream.abort()


def _without_a_deputy(revision: int, body: bytes) -> Mapping[str, object]:
    """Say what comes of a document where nobody can carry anything out."""
    try:
        document = parse_setup(body)
    except SetupError as error:
        return refusal(revision, [str(issue) for issue in error.issues])
    if _does_something(document):
        return refusal(revision, [_NONE], step=_STEP)
    return {"revision": revision, "state": "applied", "steps": []}


def _does_something(document: SetupDocument) -> bool:
    return bool(document.artifacts or document.workspace_sources or document.runtime_clients or document.mcp_servers)
