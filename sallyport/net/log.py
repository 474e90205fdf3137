"""What a trusted part says on standard error: events, as JSON lines or for people. sandboxd has a lighter one."""

import logging
import sys
from dataclasses import dataclass
from typing import Final

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
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
