"""Server-sent events, read strictly and within limits: bytes in, events out (HTML standard, section 9.2).

Stricter than browsers: UTF-8 or nothing, no NUL, lines end in LF or CRLF. Peers that break this or the limits get a
ControlError, and the stream is over.
"""

from typing import Final, NamedTuple

from control_client.errors import ControlError, unexpected

# A snapshot is one event: some 130 bytes for each sandbox, so 200,000 sandboxes fit.
MAX_EVENT_BYTES: Final = 32 * 1024 * 1024


class Event(NamedTuple):
    """One event. event_id is the id the stream has reached with it, None before the first."""

    name: str
    data: bytes
    event_id: str | None


class EventStream:
    """Take bytes as they come; give whole events."""

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max_event_bytes = max_event_bytes
        self._buffer = bytearray()
        self._searched = 0  # no line ends before this
        self._name = ""
        self._data: list[bytes] = []
        self._size = 0
        self._event_id: str | None = None

    def feed(self, data: bytes) -> list[Event]:
        """Return the events that are whole by now; raises ControlError. Comments give none."""
        self._buffer += data
        events: list[Event] = []
        begin = 0
        while (end := self._buffer.find(b"\n", max(begin, self._searched))) >= 0:
            # Counted like one whose end has not come, so that it does not matter how the bytes are cut.
            if end - begin + self._size > self._max_event_bytes:
                raise self._too_large()
            line = bytes(self._buffer[begin:end])
            begin = end + 1
            event = self._take(line.removesuffix(b"\r"))
            if event is not None:
                events.append(event)
        del self._buffer[:begin]
        self._searched = len(self._buffer)
        if self._searched + self._size > self._max_event_bytes:
            raise self._too_large()
        return events

    def _take(self, line: bytes) -> Event | None:
        if not line:
            return self._dispatch()
        if b"\0" in line or b"\r" in line:
            raise unexpected("an event stream with NUL or CR inside a line")
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        match name:
            case b"data":
                self._data.append(value)
                self._size += len(value) + 1
                if self._size > self._max_event_bytes:
                    raise self._too_large()
            case b"event":
                self._name = _text(value)
            case b"id":
                self._event_id = _text(value)
            case _:
                pass  # comments, `retry`, and what the standard says to ignore
        return None

    def _dispatch(self) -> Event | None:
        name, data = self._name, self._data
        self._name, self._data, self._size = "", [], 0
        if not data:
            return None
        return Event(name or "message", b"\n".join(data), self._event_id)

    def _too_large(self) -> ControlError:
        return unexpected(f"an event of more than {self._max_event_bytes} bytes")

    def __repr__(self) -> str:
        return f"<EventStream at {self._event_id}, {len(self._buffer) + self._size} bytes held>"


def _text(value: bytes) -> str:
    # What names an event or resumes a stream goes into a header and a log: short, visible ASCII.
    if len(value) > 256 or not all(0x20 <= byte < 0x7F for byte in value):
        raise unexpected("an event stream with an unreadable name or id")
    return value.decode("ascii")
