"""What a trusted part says on standard error: events, as JSON lines or for people. sandboxd has a lighter one."""

import contextlib
import logging
import sys
from dataclasses import dataclass
from typing import Final, TextIO, cast

import structlog

from sallyport.settings import choice, setting

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


class _LossyOutput:
    """A text file whose disk may be full or whose reader may have gone: a line is lost then, and nothing else."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            return self._file.write(text)
        return 0

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._file.flush()


def configure_log(log: Log) -> None:
    """Write events to standard error, as JSON lines or for people."""
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
        if log.format == "console"
        else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[log.level]),
        logger_factory=structlog.PrintLoggerFactory(cast(TextIO, _LossyOutput(sys.stderr))),
        cache_logger_on_first_use=False,
    )
