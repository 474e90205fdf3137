"""The environment of the peers that come from PyPI: `.venv-bench` beside the code, made by `make bench-deps`."""

from pathlib import Path

from benchmarks.subject import ROOT

ENVIRONMENT = ROOT / ".venv-bench"


def in_bench_environment(pattern: str) -> Path | None:
    """Return the file of `.venv-bench` that matches `pattern`, if there is one."""
    return next(ENVIRONMENT.glob(pattern), None)
