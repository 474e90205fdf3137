"""The worker's database: its URL, and an engine for either kind."""

from typing import Any, Final

from sqlalchemy import URL, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import ConnectionPoolEntry

from worker.durable.sqlite import usable_sqlite

# Connections of one worker: the polling of DBOS takes half, what applications write takes the rest.
POOL_SIZE: Final = 10
POOL_SECONDS: Final = 30.0
CONNECT_SECONDS: Final = 5
# How long a writer waits for another one on SQLite, where there is one at a time; DBOS's own figure.
BUSY_MS: Final = 30_000
# A server that is gone without a word is noticed within the time of a few leases.
_KEEPALIVES: Final = {"keepalives_idle": 5, "keepalives_interval": 5, "keepalives_count": 3}


class DatabaseConfigError(Exception):
    """The database's URL cannot be used; neither text holds a password."""

    def __init__(self, why: str) -> None:
        self.message = f"the worker's database cannot be used: {why}"
        self.hint = "correct SALLYPORT_WORKER_DATABASE_URL"
        super().__init__(self.message)


class DatabaseUnavailable(Exception):
    """The database cannot be reached, or refuses us; neither text holds a password."""

    def __init__(self, why: object) -> None:
        self.message = f"the worker's database does not answer: {why}".strip()
        self.hint = "check SALLYPORT_WORKER_DATABASE_URL, or SALLYPORT_WORKER_DATA_DIR and the space there"
        super().__init__(self.message)


def open_engine(url: str) -> Engine:
    """Make the engine; connects to nothing yet. Raises DatabaseConfigError, SqliteTooOld."""
    parsed = _parse(url)
    if parsed.get_backend_name() == "postgresql":
        return create_engine(
            parsed,
            pool_size=POOL_SIZE,
            max_overflow=0,
            pool_timeout=POOL_SECONDS,
            pool_pre_ping=True,
            connect_args={"connect_timeout": CONNECT_SECONDS, **_KEEPALIVES},
        )
    engine = create_engine(
        parsed, module=usable_sqlite(), pool_size=POOL_SIZE, max_overflow=0, pool_timeout=POOL_SECONDS
    )
    event.listen(engine, "connect", _prepare_sqlite)
    return engine


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise DatabaseConfigError("it is not a URL such as postgresql://user@host/name or sqlite:///file") from None
    backend = parsed.get_backend_name()
    if backend in ("postgresql", "postgres"):
        return parsed.set(drivername="postgresql+psycopg")
    if backend == "sqlite":
        if parsed.database in (None, "", ":memory:"):
            raise DatabaseConfigError("a database in memory does not outlive the worker; write sqlite:///file")
        return parsed.set(drivername="sqlite")
    raise DatabaseConfigError(f"{backend} is not supported; write a postgresql:// or a sqlite:/// URL")


def _prepare_sqlite(connection: Any, _: ConnectionPoolEntry) -> None:  # noqa: ANN401  a driver's own type
    # Writers queue up from their first statement on: one that reads first would fail where another came between.
    connection.isolation_level = "IMMEDIATE"
    connection.execute(f"PRAGMA busy_timeout={BUSY_MS}")
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")  # a step that has ended must not come back after a power loss
    connection.execute("PRAGMA foreign_keys=ON")
