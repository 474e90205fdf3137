"""What one process writes, in a file that is turned over before it grows large."""

import contextlib
from io import FileIO
from pathlib import Path
from typing import Final

# Two of them are kept for each process (the current and the one before): with 64 processes at most 128 MiB.
MAX_LOG_BYTES: Final = 1024 * 1024
MAX_LINE_CHARACTERS: Final = 200  # of the line that a status quotes


class ProcessLog:
    """A log file and its predecessor (`.1`). Writing never raises: a full disk costs lines, not processes."""

    def __init__(self, path: Path, *, max_bytes: int = MAX_LOG_BYTES) -> None:
        self.path = path
        self._max_bytes = max_bytes
        self._file: FileIO | None = None
        self._size = 0

    def write(self, data: bytes) -> None:
        """Append; the file is opened at the first byte."""
        with contextlib.suppress(OSError):
            file = self._file or self._open()
            if self._size >= self._max_bytes:
                file = self._turn_over()
            self._size += file.write(data) or 0

    def note(self, text: str) -> None:
        """Append a line of our own."""
        self.write(f"[sandboxd] {text}\n".encode("utf-8", "backslashreplace"))

    def tail(self, max_bytes: int) -> bytes:
        """Return the last bytes of the current file."""
        try:
            with self.path.open("rb") as file:
                size = file.seek(0, 2)
                file.seek(max(0, size - max_bytes))
                return file.read(max_bytes)
        except OSError:
            return b""

    def last_line(self) -> str:
        """Return the last line the process wrote, printable and short; "" when there is none."""
        for line in reversed(self.tail(4096).decode("utf-8", "replace").splitlines()):
            text = "".join(letter if letter.isprintable() else " " for letter in line).strip()
            if text and not text.startswith("[sandboxd]"):
                return text[:MAX_LINE_CHARACTERS]
        return ""

    def close(self) -> None:
        """Close the file; a later write opens it again."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _open(self) -> FileIO:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = self._file = FileIO(self.path, "a")
        self._size = file.tell()
        return file

    def _turn_over(self) -> FileIO:
        self.close()
        self.path.replace(self.path.with_name(self.path.name + ".1"))
        return self._open()

    def __repr__(self) -> str:
        return f"<ProcessLog {self.path.name}: {'open' if self._file else 'closed'}, {self._size} bytes>"
