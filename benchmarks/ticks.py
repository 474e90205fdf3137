"""The events of a stream that says in each when it was sent: how steadily they come through."""

import re
from time import perf_counter_ns

from benchmarks.answers import LoadError

_OK = b"HTTP/1.1 200 "
_HEAD_END = b"\r\n\r\n"
# As `origin.py` writes it: the clock of the whole machine, in nanoseconds.
_EVENT = re.compile(rb"data: ([0-9]+)\n\n")
_LONGEST_EVENT_BYTES = 256


class Ticks:
    """The events that came, each with the instants it was sent and it arrived."""

    def __init__(self) -> None:
        self._held = b""
        self._has_head = False
        self._seen: list[tuple[int, int]] = []

    def feed(self, data: bytes) -> bool:
        """Take bytes; say whether they complete an event. LoadError when the answer is another."""
        now = perf_counter_ns()
        self._held += data
        if not self._has_head:
            head, end, rest = self._held.partition(_HEAD_END)
            if not end:
                return False
            if not head.startswith(_OK):
                raise LoadError(f"unexpected answer: {head[:300]!r}")
            self._has_head, self._held = True, rest
        found = list(_EVENT.finditer(self._held))
        if found:
            self._seen += [(int(each[1]), now) for each in found]
            self._held = self._held[found[-1].end() :]
        if len(self._held) > _LONGEST_EVENT_BYTES:
            raise LoadError(f"no event: {self._held[:300]!r}")
        return bool(found)

    def forget(self) -> None:
        """Begin anew, after a warm-up."""
        self._seen.clear()

    @property
    def count(self) -> int:
        return len(self._seen)

    def jitters_us(self) -> list[float]:
        """Return for each two events in a row by how much their distance changed on the way."""
        pairs = zip(self._seen, self._seen[1:], strict=False)
        return [abs((after[1] - before[1]) - (after[0] - before[0])) / 1e3 for before, after in pairs]
