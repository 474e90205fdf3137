"""Figures that a test has measured: `pytest -o log_cli=true --log-cli-level=INFO` shows them as they come."""

import logging
from collections.abc import Callable
from pathlib import Path

# Keep something with the report of a test (tests/support/counts.py); pytest's fixture of this name.
type RecordProperty = Callable[[str, object], None]
# Say how long something took, and under `--full` hold it to a bound: its name, the seconds, the most.
type InTime = Callable[[str, float, float], None]

_log = logging.getLogger("figures")


def figure(name: str, value: float, unit: str = "s") -> None:
    """Say what was measured; nothing is decided by it."""
    _log.info("%s: %.3f %s", name, value, unit)


def waited_for_a_core(pid: int | str = "self") -> float:
    """Say how long a process's first thread could have run while others did, in seconds.

    It is 0 where the kernel does not tell, and of a process that is gone.
    """
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9
    except OSError:
        return 0.0
