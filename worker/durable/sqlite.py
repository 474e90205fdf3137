"""Which SQLite the worker speaks to. DBOS's tables need a newer one than some systems have, so we bring our own.

`pysqlite3` has the library in it. Where it is not installed (it is for Linux) the one of Python serves, if it is new
enough.
"""

import sqlite3
from types import ModuleType
from typing import Final

# DBOS writes times with unixepoch('subsec').
LEAST: Final = (3, 42, 0)


class SqliteTooOld(Exception):
    """No SQLite here is new enough; the text says which one there is and which it has to be."""

    def __init__(self, found: str) -> None:
        least = ".".join(map(str, LEAST[:2]))
        self.message = f"SQLite here is {found}, and the worker's database needs {least} or later"
        super().__init__(self.message)
        self.hint = "install the package pysqlite3, or name a postgresql:// URL in SALLYPORT_WORKER_DATABASE_URL"


def usable_sqlite() -> ModuleType:
    """Return the driver's module with the newest SQLite; raises SqliteTooOld."""
    best = max(_drivers(), key=_version)
    if _version(best) < LEAST:
        raise SqliteTooOld(best.sqlite_version)
    return best


def _drivers() -> list[ModuleType]:
    try:
        import pysqlite3.dbapi2  # type: ignore[import-untyped]  # it has no types
    except ImportError:
        return [sqlite3]
    return [pysqlite3.dbapi2, sqlite3]


def _version(module: ModuleType) -> tuple[int, ...]:
    return tuple(module.sqlite_version_info)
