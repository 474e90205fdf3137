"""The first process of a local sandbox, put together: what shuts it in is the worker's, the deputy in it sandboxd's.

    python -P -m sallyport_cli.cell CELL NETWORK

No command of `sallyport`: a worker starts it (worker/sandboxes/cell.py).
"""

import sys

from worker.sandboxes.cell import RunDeputy, main


def load_deputy() -> RunDeputy:
    """Read the deputy's code, and what that would read only when it is needed: by then its files are gone."""
    import codecs
    import linecache  # noqa: F401  a trace
    import traceback  # noqa: F401

    # Files of /proc, names of hosts, documents.
    for encoding in ("ascii", "latin-1", "utf-8", "idna"):
        codecs.lookup(encoding)

    from sandboxd.deputy.program import run_deputy

    return run_deputy


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], load_deputy))
