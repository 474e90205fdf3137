"""The audit log: one JSON line per exchange, whatever happened to it (docs/operations/audit.md).

An exchange appends one tuple to a queue; formatting and writing happen on a thread of their own, so a
slow disk never holds the event loop. A bounded queue and a count of drops instead of backpressure: traffic must
not stop because a log collector does. No secret, query string or body can be in a record, because none is a field.
"""

import fcntl
import os
import select
import threading
from collections import deque
from enum import Enum
from pathlib import Path
from typing import Final

import structlog

from gateway.audit_line import AuditFormatter, Record
from gateway.setting_kinds import AUDIT_OFF, AUDIT_STDOUT

FLUSH_SECONDS: Final = 0.25
# Lines per write. Formatting holds the interpreter lock and a write gives it up, so small batches are what keeps
# the event loop from waiting for this thread: 64 lines take about 150 us.
BATCH_RECORDS: Final = 64
# A pipe whose reader is stuck blocks the thread for ever; the process does not wait for it longer than this.
CLOSE_SECONDS: Final = 5.0

_log = structlog.get_logger(__name__)


class Outcome(Enum):
    """How an exchange ended; the value is its word in metrics."""

    INJECTED = "injected"
    FORWARDED = "forwarded"
    PASSTHROUGH = "passthrough"
    UPGRADED = "upgraded"
    DENIED = "denied"
    FAILED = "failed"
    CANCELLED = "cancelled"


class AuditError(Exception):
    """The audit log cannot be opened; str() says what to do."""


class AuditLog:
    """Take records from the event loop, write them from a thread. start() before use, close() at the end.

    path is a file, "-" for standard output, or "off". After start() nothing here raises: what cannot be written
    is kept up to max_records, then dropped and counted in `dropped`. Processes that share their standard output name a
    file to lock, so that no line of one gets into a line of another: a pipe keeps only 4 KiB together.
    """

    def __init__(self, path: str, max_records: int, lock: Path | None = None) -> None:
        self._path = path
        self._max_records = max_records
        self._enabled = path != AUDIT_OFF
        # A deque, because append and popleft are atomic: the two threads share it without a lock.
        self._pending: deque[Record] = deque()
        self._room = max_records if self._enabled else 0
        # Two counts, because each thread may add to its own only.
        self._overflowed = 0
        self._unreadable = 0
        self._sink = _Sink(path, lock if path == AUDIT_STDOUT else None)
        self._formatter = AuditFormatter()
        self._wake = threading.Event()
        self._closing = False
        self._reopening = False
        self._thread = threading.Thread(target=self._run, name="audit", daemon=True)

    def start(self) -> None:
        """Open the file and start the thread; raise AuditError if it cannot be opened."""
        if self._enabled:
            self._sink.open()
            self._thread.start()

    def record(self, entry: Record) -> None:
        """Take one record, its values in the order of FIELDS. Hot path."""
        if len(self._pending) < self._room:
            self._pending.append(entry)
        elif self._enabled:
            self._overflowed += 1

    @property
    def dropped(self) -> int:
        """How many records were lost since the start; each is an exchange without a line."""
        return self._overflowed + self._unreadable

    @property
    def waiting(self) -> int:
        """How many records wait to be written."""
        return len(self._pending) + self._sink.held

    def reopen(self) -> None:
        """Open the path anew, because the file there was renamed (SIGHUP). Nothing is lost."""
        self._reopening = True
        self._wake.set()

    def close(self) -> None:
        """Write what is left and stop. Records that come later are dropped."""
        self._closing = True
        if self._thread.is_alive():
            self._wake.set()
            self._thread.join(CLOSE_SECONDS)
        self._room = 0
        self._overflowed += self._sink.held + len(self._pending)
        self._pending.clear()

    def _run(self) -> None:
        while not self._closing:
            self._wake.wait(FLUSH_SECONDS)
            self._wake.clear()
            self._flush()
        self._flush()
        self._sink.close()

    def _flush(self) -> None:
        # Records taken before the reopening belong to the old file, those that come later to the new one.
        reopening, self._reopening = self._reopening, False
        if not self._sink.ready:
            self._sink.retry()
        for _ in range(0, len(self._pending), BATCH_RECORDS):
            if not self._sink.ready:
                break
            self._sink.write(self._format(BATCH_RECORDS))
        if reopening:
            self._sink.reopen()
        # What the sink could not write still takes room: the two together stay within max_records.
        if not self._closing and self._enabled:
            self._room = self._max_records - self._sink.held

    def _format(self, count: int) -> list[bytes]:
        lines = []
        for entry in [self._pending.popleft() for _ in range(min(count, len(self._pending)))]:
            line = self._formatter.line(entry)
            if line is None:
                self._unreadable += 1
            else:
                lines.append(line)
        return lines

    def __repr__(self) -> str:
        return f"<AuditLog {self._path}: {len(self._pending)} pending, {self.dropped} dropped>"


class _Sink:
    """The file. Writing never raises; lines that could not be written are held, whole, for the next try."""

    def __init__(self, path: str, lock: Path | None = None) -> None:
        self._path = path
        self._lock = lock
        self._locking = -1
        self._descriptor = -1
        self._lines: list[bytes] = []
        # A write that failed in the middle of a line: the next one starts on a line of its own.
        self._torn = False
        self._failing = False

    @property
    def ready(self) -> bool:
        """Whether the last write went through."""
        return not self._lines

    @property
    def held(self) -> int:
        """How many lines wait for the next try."""
        return len(self._lines)

    def open(self) -> None:
        """Open the path; raise AuditError."""
        try:
            self._descriptor = _open(self._path)
            if self._lock is not None:
                self._locking = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise AuditError(
                f"audit.path: {self._path} cannot be opened for writing ({error.strerror}); "
                f"create the folder {Path(self._path).parent} or correct its permissions, or write `-` or `off`"
            ) from None

    def reopen(self) -> None:
        """Open the path anew; keep the old file when that fails."""
        if self._path == AUDIT_STDOUT:
            return
        try:
            descriptor = _open(self._path)
        except OSError as error:
            _log.error("audit_reopen_failed", path=self._path, reason=error.strerror)
            return
        os.close(self._descriptor)
        self._descriptor = descriptor
        self._torn = False

    def retry(self) -> None:
        """Try the held lines again."""
        lines, self._lines = self._lines, []
        self.write(lines)

    def write(self, lines: list[bytes]) -> None:
        """Write whole lines, or hold those that were not written."""
        left = memoryview(b"".join(lines))
        written = 0
        if self._locking >= 0:
            fcntl.flock(self._locking, fcntl.LOCK_EX)
        try:
            if self._torn:
                _write(self._descriptor, memoryview(b"\n"))
                self._torn = False
            while written < len(left):
                written += _write(self._descriptor, left[written:])
        except OSError as error:
            done = bytes(left[:written])
            self._torn = self._torn or not (done == b"" or done.endswith(b"\n"))
            self._lines = lines[done.count(b"\n") :]
            self._report(error)
            return
        finally:
            if self._locking >= 0:
                fcntl.flock(self._locking, fcntl.LOCK_UN)
        self._report(None)

    def close(self) -> None:
        """Close the file; standard output is not ours to close."""
        if self._path != AUDIT_STDOUT and self._descriptor >= 0:
            os.close(self._descriptor)
        if self._locking >= 0:
            os.close(self._locking)

    def _report(self, error: OSError | None) -> None:
        # One line per change of state: a full disk must not fill the log beside it.
        if error is not None and not self._failing:
            _log.error("audit_write_failed", path=self._path, reason=error.strerror)
        elif error is None and self._failing:
            _log.warning("audit_write_recovered", path=self._path)
        self._failing = error is not None


def _open(path: str) -> int:
    if path == AUDIT_STDOUT:
        return 1
    # Not blocking: opening a FIFO without a reader would otherwise wait for one.
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
    descriptor = os.open(path, flags, 0o600)
    os.set_blocking(descriptor, True)
    return descriptor


def _write(descriptor: int, content: memoryview) -> int:
    while True:
        try:
            return os.write(descriptor, content)
        except BlockingIOError:
            # Somebody who shares our standard output has made it non-blocking.
            select.select([], [descriptor], [])
