"""Time as commands need it: now, a duration that was written down, an instant to print."""

import datetime
from pathlib import Path

from sallyport.settings import duration
from sallyport_cli.failure import bad_input


def now() -> float:
    """Return the time of the machine, in unix seconds."""
    return datetime.datetime.now(datetime.UTC).timestamp()


def seconds(text: str, option: str) -> float:
    """Read a duration as settings have it; Failure naming the option."""
    try:
        return duration("1s", "366d").parse(text, Path())
    except ValueError as error:
        raise bad_input(f"{option}: {error}") from None


def instant(unix_seconds: float) -> str:
    """Write an instant as RFC 3339 has it, in UTC."""
    return datetime.datetime.fromtimestamp(unix_seconds, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
