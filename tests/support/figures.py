"""Figures that a test has measured: `pytest -o log_cli=true --log-cli-level=INFO` shows them as they come."""

import logging

_log = logging.getLogger("figures")


def figure(name: str, value: float, unit: str = "s") -> None:
    """Say what was measured; nothing is decided by it."""
    _log.info("%s: %.3f %s", name, value, unit)
