"""How a fuzz target of tests/fuzz is run: `make fuzz`, which gives it an environment with atheris."""

import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FunctionType

PACKAGES = ("sallyport", "gateway", "control_client", "sandboxd", "control_plane")
MISSING = "atheris is not installed here: `make fuzz T=60` makes .venv-fuzz with it and runs every target."


def run(check: Callable[[bytes], None], seeds: Sequence[bytes]) -> None:
    """Give check what libFuzzer thinks of, beginning with the seeds; whatever it raises is a finding.

    The process's arguments are libFuzzer's (-max_total_time=20, -runs=1000, a folder of further inputs).
    """
    try:
        import atheris  # type: ignore[import-untyped]  # it is in the environment of `make fuzz` alone
    except ImportError:
        sys.exit(MISSING)
    for function in _functions():
        atheris.instrument_func(function)
    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(seeds):
            (Path(corpus) / str(number)).write_bytes(seed)
        atheris.Setup([*sys.argv, corpus], check)
        atheris.Fuzz()


def _functions() -> list[FunctionType]:
    """Everything of ours that is loaded: its coverage is what the search follows."""
    found: list[FunctionType] = []
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in PACKAGES:
            owners = [module, *(value for value in vars(module).values() if isinstance(value, type))]
            members = (member for owner in owners for member in vars(owner).values())
            found += {member for member in members if isinstance(member, FunctionType) and member.__module__ == name}
    return found
