"""The last lines a server wrote, without its secrets."""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

BLANK: Final = "<Secret>"
# Shorter ones would blank words of every line, and are no secrets.
_LEAST_NEEDLE: Final = 4


class ServerLog:
    """A ring of lines. Whatever a server floods costs at most `most_lines * most_line_bytes`."""

    def __init__(
        self, *, most_lines: int, most_line_bytes: int, on_line: Callable[[str], None] = lambda line: None
    ) -> None:
        """on_line hears of each line that is kept, as it is kept."""
        self._on_line = on_line
        self.written = 0  # lines, those that are gone too
        self._lines: deque[str] = deque(maxlen=most_lines)
        self._most_line_bytes = most_line_bytes
        self._begun: dict[str, bytes] = {}
        self._cut: set[str] = set()  # streams whose line was too long: it is passed over to its end
        self._needles: tuple[str, ...] = ()
        self._most_begun_bytes = most_line_bytes

    def hide(self, values: Sequence[str]) -> None:
        """Blank these wherever they appear from now on; also each line of one that has several."""
        parts = {part for value in values for part in (value, *value.splitlines()) if len(part) >= _LEAST_NEEDLE}
        self._needles = tuple(sorted(parts, key=len, reverse=True))
        # A secret that begins before the cut is found whole.
        self._most_begun_bytes = self._most_line_bytes + max((len(part.encode()) for part in parts), default=0)

    def write(self, data: bytes, *, stream: str = "stderr") -> None:
        """Add what was written; a line is kept when it ends. What is beyond a line's length is lost."""
        *lines, rest = (self._begun.get(stream, b"") + data).split(b"\n")
        for line in lines:
            if stream in self._cut:
                self._cut.discard(stream)
            else:
                self._keep(stream, line)
        if stream in self._cut:
            rest = b""
        elif len(rest) > self._most_begun_bytes:
            self._keep(stream, rest)
            self._cut.add(stream)
            rest = b""
        self._begun[stream] = rest

    def end(self) -> None:
        """The process is gone: keep what it wrote without ending the line."""
        for stream, rest in self._begun.items():
            if rest:
                self._keep(stream, rest)
        self._begun.clear()
        self._cut.clear()

    def note(self, text: str) -> None:
        """Add a line of the worker's own."""
        self.add(f"[worker] {self.without_secrets(text)}")

    def add(self, line: str) -> None:
        """Add a line as it is."""
        self._lines.append(line)
        self.written += 1
        self._on_line(line)

    def tail(self, count: int) -> list[str]:
        """Return the last lines, the oldest first."""
        return list(self._lines)[-count:] if count > 0 else []

    def without_secrets(self, text: str) -> str:
        """Return a text with every secret blanked."""
        for needle in self._needles:
            text = text.replace(needle, BLANK)
        return text

    def _keep(self, stream: str, line: bytes) -> None:
        # Blanked before it is cut: half a secret is not found.
        text = self.without_secrets(line.decode("utf-8", "replace"))[: self._most_line_bytes]
        # One line stays one line, whatever control characters a server prints.
        printable = "".join(letter if letter.isprintable() or letter == "\t" else " " for letter in text).rstrip()
        kept = printable if stream == "stderr" else f"[{stream}] {printable}"
        self.add(kept)

    def __repr__(self) -> str:
        return f"<ServerLog {len(self._lines)} lines>"
