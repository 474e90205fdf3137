"""What a trusted part says on standard error: events, as JSON lines or for people. sandboxd has a lighter one."""

import atexit
import contextlib
import logging
import os
import sys
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TextIO, cast

import structlog

from sallyport.settings import choice, setting

# A second's worth of a flood; more would be memory for nobody.
MAX_WAITING_CHARS: Final = 1024 * 1024
# A pipe whose reader is stuck blocks the thread for ever; the process does not wait for it longer than this.
CLOSE_SECONDS: Final = 1.0

_log = structlog.get_logger(__name__)
_LEVELS: Final = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """The log, as a section of a part's settings."""

    level: str = setting(
        choice("debug", "info", "warning", "error"), "info", "The least severe event written.", "One line per change."
    )
    format: str = setting(
        choice("json", "console"), "json", "How events are written.", "Collectors read JSON; people read console."
    )


class LogOutput:
    """Lines of a log, written by a thread: a disk that is full or a reader that is stuck holds up nobody who logs.

    Always: what waits is at most MAX_WAITING_CHARS, one line aside. What does not fit is lost, and a line says how much
    once there is room again; what cannot be written is lost.
    """

    def __init__(self, file: TextIO) -> None:
        self._write = _writer(file)
        self._lock = threading.Lock()
        self._lines: deque[str] = deque()
        self._waiting_chars = 0
        self._lost = 0
        self._wake = threading.Event()
        self._is_closing = False
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def write(self, line: str) -> int:
        """Take one line."""
        with self._lock:
            if self._waiting_chars < MAX_WAITING_CHARS:
                self._lines.append(line)
                self._waiting_chars += len(line)
            else:
                self._lost += 1
        self._wake.set()
        return len(line)

    def flush(self) -> None:
        """Nothing to do: each line is written by itself, as soon as it can be."""

    def close(self) -> None:
        """Let what waits be written; a reader that is stuck is not waited for long."""
        self._is_closing = True
        self._wake.set()
        self._thread.join(CLOSE_SECONDS)
        atexit.unregister(self.close)

    def _run(self) -> None:
        while not self._is_closing:
            self._wake.wait()
            self._wake.clear()
            self._write_waiting()
        self._write_waiting()

    def _write_waiting(self) -> None:
        while self._lines:
            with self._lock:
                line = self._lines.popleft()
                self._waiting_chars -= len(line)
            # One by one: processes share their standard error, and a pipe keeps no more than a line together.
            with contextlib.suppress(OSError):
                self._write(line)
            if self._lost and not self._lines:
                with self._lock:
                    lost, self._lost = self._lost, 0
                _log.error("log_lines_lost", lines=lost)

    def __repr__(self) -> str:
        return f"<LogOutput {len(self._lines)} lines waiting, {self._lost} lost>"


def _writer(file: TextIO) -> Callable[[str], object]:
    """Return what writes a line: past the file's own buffer, whose lock a stuck write would hold for ever."""
    try:
        descriptor = file.fileno()
    except OSError:
        return file.write  # no file of the system's

    def write(line: str) -> None:
        rest = memoryview(line.encode("utf-8", "backslashreplace"))
        while rest:
            rest = rest[os.write(descriptor, rest) :]

    return write


def configure_log(log: Log) -> LogOutput:
    """Write events to standard error, as JSON lines or for people. What is returned is closed at the process's end."""
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
        if log.format == "console"
        else structlog.processors.JSONRenderer()
    )
    output = LogOutput(sys.stderr)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[log.level]),
        logger_factory=structlog.WriteLoggerFactory(cast(TextIO, output)),
        cache_logger_on_first_use=False,
    )
    return output
