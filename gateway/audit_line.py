"""A record of the audit log as one line of JSON. What is in it: docs/operations/audit.md.

Apart from the log that writes it, because this is compiled (docs/decisions/0009) and a third of what a record costs.
"""

from datetime import UTC, datetime
from typing import Final

import orjson
import structlog

# The order of the values in a record. A field that is None is left out of its line.
FIELDS: Final = (
    "time",
    "requestId",
    "organizationId",
    "sandboxId",
    "source",
    "mode",
    "method",
    "scheme",
    "host",
    "port",
    "path",
    "decision",
    "egressRuleId",
    "bindingId",
    "connectionId",
    "planRevision",
    "credentialVersion",
    "outcome",
    "status",
    "code",
    "durationMs",
    "bytesUp",
    "bytesDown",
    "upstreamAddress",
    "linkReused",
    "scrubbed",
)

# What the formatter remembers: some 300 bytes each.
MAX_KNOWN_RUNS: Final = 4096
# Longer ones are made anew each time: a sandbox may invent a method as long as a head, another for each request.
MAX_KNOWN_LENGTH: Final = 1024

_PATH: Final = FIELDS.index("path")
_DURATION: Final = FIELDS.index("durationMs")
# Longer than any exchange; a number of seconds that is none is left to the thorough way too.
_MAX_DURATION_MS: Final = 1e12
# A format with a width or a precision is most of a line's cost where this is compiled.
_THREE_DIGITS: Final[tuple[str, ...]] = tuple(f"{number:03d}" for number in range(1000))

_log = structlog.get_logger(__name__)

type Record = tuple[object, ...]


class AuditFormatter:
    """A record as one line of printable ASCII or UTF-8, whatever the peer wrote into it."""

    def __init__(self) -> None:
        # Records come nearly in order of time, so the text of the last second usually serves again.
        self._second = -1
        self._prefix = ""
        # Runs of fields that stay the same from record to record, as the text they make; bounded. No two runs of a
        # record are as long, so their values alone tell which fields they are of.
        self._known: dict[Record, str] = {}

    def line(self, entry: Record) -> bytes | None:
        """Return the line, or None for a record that has no readable form."""
        try:
            line = self._common_line(entry)
            if line is not None:
                return line
            fields = {name: value for name, value in zip(FIELDS, entry, strict=True) if value is not None}
            if isinstance(when := fields.get("time"), float):
                fields["time"] = self._time(when)
            if isinstance(duration := fields.get("durationMs"), float):
                fields["durationMs"] = round(duration, 3)
            if isinstance(path := fields.get("path"), str) and "?" in path:
                # Callers pass paths without a query. A key in a query must not get here by anybody's mistake.
                fields["path"] = path.partition("?")[0]
            return _dump(fields)
        except (TypeError, ValueError, OverflowError) as error:
            _log.error("audit_record_unreadable", reason=type(error).__name__)
            return None

    def _common_line(self, entry: Record) -> bytes | None:
        """Return the line of a record as exchanges write it; None for any other, which takes the thorough way.

        Most of a record is the same as in many before it, so only what is its own is formatted: a third of the cost.
        """
        if len(entry) != len(FIELDS):
            return None
        when, request_id, path = entry[0], entry[1], entry[_PATH]
        duration, up, down = entry[_DURATION : _DURATION + 3]
        if type(when) is not float or type(duration) is not float or type(up) is not int or type(down) is not int:
            return None
        if type(path) is not str or type(request_id) is not str or not request_id.isidentifier():
            return None
        if not path.isascii() or not path.isprintable() or '"' in path or "\\" in path or "?" in path:
            return None  # to be escaped; or a query, which the thorough way cuts off
        if not 0 <= duration < _MAX_DURATION_MS:
            return None
        thousandths = int(duration * 1000 + 0.5)
        return (
            f'{{"time":"{self._time(when)}","requestId":"{request_id}",{self._run(entry, 2, _PATH)}"path":"{path}",'
            f"{self._run(entry, _PATH + 1, _DURATION)}"
            f'"durationMs":{thousandths // 1000}.{_THREE_DIGITS[thousandths % 1000]},"bytesUp":{up},"bytesDown":{down}'
            f"{self._run(entry, _DURATION + 3, len(FIELDS))}"
        ).encode()

    def _run(self, entry: Record, start: int, end: int) -> str:
        """Return the members of a run of fields, each with its comma: behind it, or before it where the line ends."""
        values = entry[start:end]
        text = self._known.get(values)
        if text is None:
            present = {name: value for name, value in zip(FIELDS[start:end], values, strict=True) if value is not None}
            text = _dump(present).decode("utf-8")[1:-2]
            if end == len(FIELDS):
                text = f",{text}}}\n" if text else "}\n"
            elif text:
                text += ","
            if len(text) <= MAX_KNOWN_LENGTH:
                if len(self._known) >= MAX_KNOWN_RUNS:
                    self._known.clear()
                self._known[values] = text
        return text

    def _time(self, when: float) -> str:
        second = int(when)
        if second != self._second:
            self._prefix = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
            self._second = second
        return f"{self._prefix}.{_THREE_DIGITS[int((when - second) * 1000)]}Z"


def _dump(fields: dict[str, object]) -> bytes:
    try:
        line = orjson.dumps(fields, default=_plain, option=orjson.OPT_APPEND_NEWLINE)
        # JSON escapes C0 controls itself; DEL, C1 controls and bidirectional marks it leaves as they are.
        if line.isascii() and b"\x7f" not in line:
            return line
    except orjson.JSONEncodeError:  # a lone surrogate
        pass
    readable = {name: printable(value) for name, value in fields.items()}
    return orjson.dumps(readable, default=_plain, option=orjson.OPT_APPEND_NEWLINE)


def _plain(value: object) -> object:
    if isinstance(value, bytes | bytearray | memoryview):
        return printable(bytes(value).decode("latin-1"))
    return printable(str(value))


def printable(value: object) -> object:
    """Return a value whose texts show in a terminal as what they are, whatever a peer wrote."""
    if isinstance(value, list | tuple):
        return [printable(item) for item in value]
    if not isinstance(value, str) or value.isprintable():
        return value
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode("ascii") for c in value)
