"""`make guards`: every guard of the table is broken once; a line for each that nothing misses, and the count."""

import sys
import tempfile
from pathlib import Path

from tests.guards.breaking import break_all, faults_of
from tests.guards.table import GUARDS


def main() -> int:
    """Break all guards, or those whose names hold a word that was given."""
    chosen = [guard for guard in GUARDS if not sys.argv[1:] or any(word in guard.name for word in sys.argv[1:])]
    stale = [(guard, fault) for guard in chosen if (fault := faults_of(guard))]
    for guard, fault in stale:
        print(f"{guard.name}: {fault}", file=sys.stderr)
    if stale:
        return 1
    unmissed = 0
    with tempfile.TemporaryDirectory() as folder:
        for guard, fault in zip(chosen, break_all(chosen, Path(folder)), strict=True):
            if fault:
                unmissed += 1
                print(f"{guard.name}: {fault}", file=sys.stderr)
    print(f"{len(chosen)} guards broken, {unmissed} missed by no test")
    return 1 if unmissed else 0


if __name__ == "__main__":
    sys.exit(main())
