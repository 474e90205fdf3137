"""The sandbox's side of a stream: its transport, what holds its bytes back, and how it ends.

`ServedStream` (gateway/stream.py) adds what the bytes mean. A stream ends in good order: what was written goes out, and
what the sandbox still sends is read for a moment, because closing at once could take the answer with it.
"""

import asyncio
from typing import Final

from gateway.backlog import Backlog
from gateway.core.authority import TargetReader
from gateway.core.decision import Deny, Mode
from gateway.core.errors import refusal
from gateway.core.route_table import RouteTable
from gateway.open_streams import OpenStream
from gateway.parts import GatewayParts
from gateway.record import stream_record
from sallyport.claims import Claims
from sallyport.destination import Destination
from sallyport.net.bulk_turns import BULK
from sallyport.net.clock import NEVER
from sallyport.net.parting import LINGER_BYTES, LINGER_SECONDS
from sallyport.net.tls import unread_bytes
from sallyport.wire.http1.head import RequestHead

# Why a sandbox is not read: it has sent as much of later requests as is kept.
PIPELINE: Final = "pipeline"


class Downstream(asyncio.Protocol, OpenStream):
    """One stream's side toward the sandbox. Always: once it lingers or is detached, no exchange is begun."""

    __slots__ = (
        "_buffer",
        "_discarded",
        "_holds",
        "_is_detached",
        "_is_lingering",
        "backlog",
        "claims",
        "close_after_answer",
        "deadline_at",
        "filed_at",
        "has_ended",
        "is_writing_held",
        "mode",
        "parts",
        "source",
        "targets",
        "transport",
        "who",
    )

    def __init__(
        self,
        parts: GatewayParts,
        *,
        mode: Mode,
        source: str,
        destination: Destination | None,
        claims: Claims | None,
    ) -> None:
        self.parts = parts
        self.mode = mode
        self.source = source
        self.targets = TargetReader(destination)
        self.claims = claims
        self.backlog = parts.backlogs.nobody if claims is None else parts.backlogs.of(claims.sandbox_id)
        self.who = self._describe()
        self.transport: asyncio.Transport
        self.close_after_answer = False
        # Whether the sandbox has yet to take what was written for it; nothing new is begun until it has.
        self.is_writing_held = False
        self.has_ended = False
        self.deadline_at = self.filed_at = NEVER
        self._buffer = b""
        self._holds: set[str] = set()
        self._is_lingering = False
        self._is_detached = False
        self._discarded = 0

    def _describe(self) -> tuple[str | None, str | None, str, str]:
        """Whose requests these are, as audit records say it: organization, sandbox, source, mode."""
        claims = self.claims
        if claims is None:
            return None, None, self.source, self.mode.value
        return claims.organization_id, claims.sandbox_id, self.source, self.mode.value

    # While it is open -------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Write toward the sandbox."""
        self.transport.write(data)

    def hold_reading(self, reason: str) -> None:
        """Read nothing until every reason is gone."""
        if not self._holds:
            self.transport.pause_reading()
        self._holds.add(reason)

    def resume_reading(self, reason: str) -> None:
        """Drop one reason."""
        holds = self._holds
        if reason in holds:
            holds.discard(reason)
            if reason == PIPELINE:
                self.backlog.release((self, PIPELINE))
            if not holds and not self.transport.is_closing():
                self.transport.resume_reading()

    @property
    def is_reading_held(self) -> bool:
        """Whether bytes of the sandbox are kept waiting."""
        return bool(self._holds)

    def take_buffer(self) -> bytes:
        """Take what was read and not used."""
        data, self._buffer = self._buffer, b""
        self.resume_reading(PIPELINE)
        return data

    @property
    def held_bytes(self) -> int:
        """What was read and not used, and what was written and not taken."""
        return len(self._buffer) + unread_bytes(self.transport) + self.transport.get_write_buffer_size()

    # The end ----------------------------------------------------------------------------------------

    def refuse(
        self,
        deny: Deny,
        head: RequestHead | None = None,
        *,
        destination: Destination | None = None,
        table: RouteTable | None = None,
    ) -> None:
        """Answer what cannot become an exchange, record it, and end the stream."""
        parts = self.parts
        method = None if head is None else head.method
        outcome = "denied" if deny.code.status < 500 else "failed"
        fields: dict[str, object] = {
            "requestId": parts.next_request_id(),
            "method": method,
            "decision": "deny",
            "egressRuleId": deny.rule_id,
            "outcome": outcome,
            "status": deny.code.status,
            "code": deny.code.wire,
        }
        self.write(refusal(deny, str(fields["requestId"]), method=method or "", close=True))
        parts.metrics.finished(outcome, self.source, 0.0)
        parts.metrics.denied(deny.code.wire)
        record = stream_record(
            parts,
            source=self.source,
            mode=self.mode,
            claims=self.claims,
            destination=destination or self.targets.destination,
            table=table,
            fields=fields,
        )
        parts.audit.record(record)
        parts.denials.note(record, deny)
        self._end_after_answer(is_request_done=False)

    def _end_after_answer(self, is_request_done: bool) -> None:
        """Close in good order; linger where the sandbox may still be sending."""
        is_all_read = is_request_done and not self._buffer
        self._buffer = b""
        if is_all_read or self.has_ended or not self.transport.can_write_eof():
            self.close()
            return
        self._is_lingering = True
        self._holds.clear()
        self.backlog.release((self, PIPELINE))
        self.transport.write_eof()
        self.transport.resume_reading()
        self.due_in(LINGER_SECONDS)

    def _discard(self, size: int) -> None:
        """Count what is dropped while lingering; too much of it ends the patience."""
        self._discarded += size
        if self._discarded > LINGER_BYTES:
            self.transport.abort()

    def detach(self) -> asyncio.Transport:
        """Give the transport to another protocol; the stream counts as open until forget()."""
        self._is_detached = True
        self.deadline_at = NEVER
        self._leave_backlog()
        return self.transport

    def _leave_backlog(self) -> None:
        self.backlog.release(self)
        self.backlog.release((self, PIPELINE))
        self.backlog.release((self, BULK))
        self.backlog.leave(self)

    def _count_in(self, backlog: Backlog) -> None:
        """Be another sandbox's, or nobody's, with all that is kept."""
        if backlog is self.backlog:
            return
        self._leave_backlog()
        self.backlog = backlog
        if self.is_writing_held:
            backlog.hold(self, self.transport.get_write_buffer_size())
        if PIPELINE in self._holds:
            backlog.hold((self, PIPELINE), len(self._buffer))

    def forget(self) -> None:
        """Leave the index of open streams."""
        self._leave_backlog()
        self.parts.streams.remove(self)

    def close(self) -> None:
        """Close after what was written has gone out; what the sandbox does not take in time is dropped."""
        self.transport.close()
        if self.transport.get_write_buffer_size():
            self.due_in(self.parts.timeouts.answer_body)

    def due_in(self, seconds: float) -> None:
        """Set the deadline, as Clock.watch() does (see UpstreamLink.due_in)."""
        clock = self.parts.clock
        self.deadline_at = at = clock.now + seconds
        if at < self.filed_at:
            clock.file(self, at)

    def expire(self) -> None:
        """A deadline has passed."""
        raise NotImplementedError

    def abort(self) -> None:
        """Close now."""
        self.transport.abort()
