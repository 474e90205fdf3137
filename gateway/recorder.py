"""The tap of `sallyport flows record`: finished exchanges, redacted, for one recorder outside the gateway.

While nobody records, an exchange pays one look at `Recorder.capture`, which is None. While somebody does, what passes
is noted in memory, up to limits, and the rest of the work (redaction, JSON) is done on a thread, for whoever reads the
recording (gateway/admin/flows.py). Nothing here waits: a recorder that is slow, stuck or gone costs drops, which are
counted, and never delays an exchange.
"""

from collections import deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, NamedTuple

import orjson
import structlog

from gateway.audit import Outcome
from gateway.audit_line import FIELDS, Record
from gateway.core.redact import RawBody, RawExchange, Redactor, SentHead
from sallyport.net.clock import read_clock

if TYPE_CHECKING:
    from gateway.serve import Exchange

# Finished exchanges that wait for the recorder: more than a tenth of a second of 30,000 requests a second, and it is
# asked every twentieth.
MAX_WAITING: Final = 4096
# Heads and bodies held for the recorder, of open exchanges and of those that wait. Past it bodies are cut, then
# exchanges dropped.
MAX_HELD_BYTES: Final = 64 * 1024 * 1024
# What a recorder may ask for of each body. A line of a recording holds two, and up to six bytes for each of theirs.
MAX_BODY_BYTES: Final = 1024 * 1024

_OUTCOME: Final = FIELDS.index("outcome")
_SANDBOX: Final = FIELDS.index("sandboxId")
_UNFINISHED: Final = frozenset({Outcome.FAILED.value, Outcome.CANCELLED.value})

_log = structlog.get_logger(__name__)


class RecorderBusy(Exception):
    """Somebody records already."""


class FinishedExchange(NamedTuple):
    """An exchange that waits to be redacted, its audit record and its instants in seconds from its beginning."""

    number: int
    raw: RawExchange
    record: Record
    sent_after: float | None
    answered_after: float | None
    held_bytes: int

    def __repr__(self) -> str:
        return f"<FinishedExchange {self.number}>"


class Recorder:
    """Who records, if anybody. One per process; used from its event loop.

    Always: held_bytes is what open captures and waiting exchanges hold, at most MAX_HELD_BYTES and one head.
    """

    # What notes a new exchange, given its head as it came; None while nobody records.
    capture: "Callable[[bytes], Capture] | None" = None

    def __init__(self) -> None:
        self.held_bytes = 0
        self.recording: Recording | None = None

    def begin(self, *, sandbox_id: str | None, max_body_bytes: int) -> "Recording":
        """Record from now on, every exchange or those of one sandbox; raises RecorderBusy. end() ends it."""
        if self.recording is not None:
            raise RecorderBusy
        self.recording = recording = Recording(self, sandbox_id=sandbox_id, max_body_bytes=max_body_bytes)
        self.capture = lambda head: Capture(recording, head)
        return recording

    def close(self) -> None:
        """End what is being recorded; for the end of the gateway."""
        if self.recording is not None:
            self.recording.end()

    def __repr__(self) -> str:
        return f"<Recorder: {self.recording!r}, {self.held_bytes} bytes held>"


class Recording:
    """One recording: what has finished and waits to be read.

    recorded counts what was read, dropped what was lost on the way; together with what waits they are every exchange
    that began and finished while it was on.
    """

    def __init__(self, recorder: Recorder, *, sandbox_id: str | None, max_body_bytes: int) -> None:
        self.sandbox_id = sandbox_id
        self.max_body_bytes = max_body_bytes
        self.recorder = recorder
        self.recorded = 0
        # Two counts, because each thread may add to its own only.
        self._overflowed = self._unreadable = 0
        self.has_ended = False
        self._number = 0
        self._waiting: deque[FinishedExchange] = deque()
        self._redactor = Redactor()

    def asks_for(self, sandbox_id: object) -> bool:
        """Whether the exchanges of a sandbox are recorded; None is nobody's."""
        return self.sandbox_id is None or sandbox_id == self.sandbox_id

    def offer(self, capture: "Capture", exchange: "Exchange", record: Record) -> None:
        """Take a finished exchange, or count it as dropped. Hot path, while recording."""
        if self.has_ended or not self.asks_for(record[_SANDBOX]):
            capture.let_go()
            return
        self._number += 1
        if capture.is_lost or len(self._waiting) >= MAX_WAITING:
            self._overflowed += 1
            capture.let_go()
            return
        self._waiting.append(
            FinishedExchange(
                self._number,
                capture.raw(exchange, is_whole=record[_OUTCOME] not in _UNFINISHED),
                record,
                capture.sent_after,
                capture.answered_after,
                capture.held_bytes,
            )
        )

    def take(self, count: int) -> Sequence[FinishedExchange]:
        """Return the exchanges that have waited longest, at most count."""
        batch = [self._waiting.popleft() for _ in range(min(count, len(self._waiting)))]
        self.recorder.held_bytes -= sum(finished.held_bytes for finished in batch)
        return batch

    def take_all(self) -> None:
        """Count what still waits as dropped; nobody is there to read it."""
        self._overflowed += len(self.take(len(self._waiting)))

    def lines(self, batch: Sequence[FinishedExchange]) -> bytes:
        """Return a batch as lines of JSON without a secret. For any thread, one call at a time."""
        lines = []
        for finished in batch:
            try:
                lines.append(_line(finished, self._redactor.document(finished.raw, self.max_body_bytes)))
            except Exception as error:
                # A defect of ours costs its line; what it choked on is not told, for it is not redacted.
                _log.error("flow_unreadable", reason=type(error).__name__)
        self.recorded += len(lines)
        self._unreadable += len(batch) - len(lines)
        return b"".join(lines)

    @property
    def dropped(self) -> int:
        """How many exchanges were lost."""
        return self._overflowed + self._unreadable

    def end(self) -> None:
        """Note nothing more; what waits can still be taken."""
        self.has_ended = True
        recorder = self.recorder
        if recorder.recording is self:
            recorder.recording = recorder.capture = None

    def __repr__(self) -> str:
        return f"<Recording of {self.sandbox_id or 'all'}: {len(self._waiting)} waiting, {self.dropped} dropped>"


class Capture:
    """What is noted of one open exchange. It holds secrets: it is never printed."""

    __slots__ = (
        "_answer",
        "_answer_body",
        "_answer_bytes",
        "_received",
        "_recording",
        "_request_body",
        "_request_bytes",
        "_sent",
        "_started_at",
        "answered_after",
        "held_bytes",
        "is_lost",
        "sent_after",
    )

    def __init__(self, recording: Recording, head: bytes) -> None:
        self._recording = recording
        self._started_at = read_clock()
        self.held_bytes = len(head)
        recorder = recording.recorder
        # Without its head an exchange is not worth its line.
        self.is_lost = recorder.held_bytes >= MAX_HELD_BYTES
        if self.is_lost:
            head, self.held_bytes = b"", 0
        recorder.held_bytes += self.held_bytes
        self._received = head
        self._sent: SentHead | None = None
        self._answer = b""
        self._request_body, self._answer_body = bytearray(), bytearray()
        self._request_bytes = self._answer_bytes = 0
        self.sent_after: float | None = None
        self.answered_after: float | None = None

    def request_sent(self, sent: SentHead) -> None:
        """Note what the head that goes upstream was written from."""
        self._sent = sent
        self.sent_after = read_clock() - self._started_at

    def request_withheld(self) -> None:
        """Note that it was not sent after all."""
        self._sent = self.sent_after = None

    def request_body(self, data: bytes) -> None:
        """Note a piece of the request's body, without its framing."""
        self._request_bytes += len(data)
        self._keep(self._request_body, data)

    def answer_head(self, block: bytes) -> None:
        """Note the head of the final answer."""
        self._answer = block
        self.answered_after = read_clock() - self._started_at

    def answer_body(self, data: bytes) -> None:
        """Note a piece of the answer's body, without its framing."""
        self._answer_bytes += len(data)
        self._keep(self._answer_body, data)

    def refused(self, answer: bytes) -> None:
        """Note an answer that the gateway made itself, head and body."""
        head, _, body = answer.partition(b"\r\n\r\n")
        self.answer_head(head)
        self.answer_body(body)

    def is_asked_for(self, sandbox_id: str | None) -> bool:
        """Whether the exchange is to be recorded, now that it is known whose it is."""
        return self._recording.asks_for(sandbox_id)

    def let_go(self) -> None:
        """Hold nothing any more."""
        self._recording.recorder.held_bytes -= self.held_bytes
        self.held_bytes = 0

    def finished(self, exchange: "Exchange", record: Record) -> None:
        """Hand over. Called once."""
        self._recording.offer(self, exchange, record)

    def raw(self, exchange: "Exchange", *, is_whole: bool) -> RawExchange:
        """Return what was noted."""
        return RawExchange(
            self._received,
            exchange.route,
            self._sent,
            self._answer,
            RawBody(bytes(self._request_body), self._request_bytes, is_whole),
            RawBody(bytes(self._answer_body), self._answer_bytes, is_whole),
        )

    def _keep(self, kept: bytearray, data: bytes) -> None:
        recorder = self._recording.recorder
        room = min(self._recording.max_body_bytes - len(kept), MAX_HELD_BYTES - recorder.held_bytes)
        if room > 0:
            piece = data[:room]
            kept += piece
            self.held_bytes += len(piece)
            recorder.held_bytes += len(piece)

    def __repr__(self) -> str:
        return f"<Capture: {self.held_bytes} bytes>"


def _line(finished: FinishedExchange, members: dict[str, object]) -> bytes:
    known = dict(zip(FIELDS, finished.record, strict=True))
    started_at, duration = known.pop("time"), known.pop("durationMs")
    assert isinstance(started_at, float), "an exchange has a beginning"
    assert isinstance(duration, float), "and an end"
    document: dict[str, object] = {
        "kind": "exchange",
        "number": finished.number,
        "time": datetime.fromtimestamp(started_at, UTC).isoformat(timespec="microseconds"),
        **{name: value for name, value in known.items() if value is not None},
        "durationMs": round(duration, 3),
        "sentMs": _milliseconds(finished.sent_after),
        "answeredMs": _milliseconds(finished.answered_after),
        **members,
    }
    return orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE)


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)
