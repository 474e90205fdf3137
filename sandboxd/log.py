"""The daemon's log: one JSON object per line on standard error, in the gateway's format.

Written here because structlog, which the gateway uses, would cost a fifth of the memory the daemon may use.
"""

import datetime
import json
import sys
from typing import Final, TextIO

LEVELS: Final = ("debug", "info", "warning", "error")


class Log:
    """Write events from a level on. Values never hold a token: nothing here can tell."""

    def __init__(self, level: str = "info", stream: TextIO | None = None) -> None:
        self._least = LEVELS.index(level)
        self._stream = stream

    def debug(self, event: str, **fields: object) -> None:
        """Write what only somebody who looks for a fault wants to know."""
        self._write(0, event, fields)

    def info(self, event: str, **fields: object) -> None:
        """Write what changed."""
        self._write(1, event, fields)

    def warning(self, event: str, **fields: object) -> None:
        """Write what an operator should look at."""
        self._write(2, event, fields)

    def error(self, event: str, **fields: object) -> None:
        """Write what does not work."""
        self._write(3, event, fields)

    def _write(self, severity: int, event: str, fields: dict[str, object]) -> None:
        if severity < self._least:
            return
        now = datetime.datetime.now(datetime.UTC).isoformat().replace("+00:00", "Z")
        line = {**fields, "event": event, "level": LEVELS[severity], "timestamp": now}
        stream = sys.stderr if self._stream is None else self._stream
        try:
            stream.write(json.dumps(line, default=str) + "\n")
            stream.flush()
        except OSError:
            pass  # whoever read it is gone; the streams of the sandbox are not

    def __repr__(self) -> str:
        return f"<Log from {LEVELS[self._least]}>"
