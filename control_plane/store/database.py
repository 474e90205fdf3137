"""One database: its engine, its transactions, and the order in which events become visible.

Invariant of the event stream: whoever has read events up to id N will never see one appear at or below N. On
PostgreSQL a sequence alone breaks that (the lower id may commit later), so events are written at the very end of a
transaction, under a lock that is held until its commit; ids are therefore handed out in the order of commits. The lock
comes last, after every row lock, so it takes part in no deadlock. SQLite has one writer at a time anyway.
"""

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Final

import orjson
import psycopg
from sqlalchemy import URL, Connection, Executable, Row, Select, event, insert, literal, make_url, select, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from control_plane.store.models import Event, Model

# Connections of one replica. PostgreSQL's default is 100 for all; a replica is bound by its core long before.
POOL_SIZE: Final = 10
# How long a request may wait for a connection, and a statement for its answer, before it is 503.
POOL_SECONDS: Final = 5.0
STATEMENT_SECONDS: Final = 10
CONNECT_SECONDS: Final = 5
# How long a writer waits for another one on SQLite, where there is one at a time.
BUSY_SECONDS: Final = 5.0
# The channel that replicas wake one another by, and the lock under which events get their ids ("sally", "event").
CHANNEL: Final = "sallyport_events"
_EVENT_LOCK: Final = 0x5A11_0001
# Serialises what every replica does once at its start: migrating, making the first keys.
START_LOCK: Final = 0x5A11_0002


class DatabaseUnavailable(Exception):
    """The database cannot be reached or did not answer in time; asking again later may help."""


class DatabaseConfigError(Exception):
    """The database's URL cannot be used; the text says why and holds no password."""


class AlreadyExists(Exception):
    """A row with this key is there already."""


class Transaction:
    """One transaction: queries, and the events that are to become visible with its commit."""

    def __init__(self, session: AsyncSession, is_postgresql: bool) -> None:
        self._session = session
        self._is_postgresql = is_postgresql
        self.events: list[tuple[str, Mapping[str, object], int]] = []

    def emit(self, kind: str, body: Mapping[str, object], now: float) -> None:
        """Append an event to the watch stream when this transaction commits."""
        self.events.append((kind, body, int(now)))

    async def get[M: Model](self, model: type[M], key: object, *, lock: bool = False) -> M | None:
        """Return one row by its primary key; `lock` keeps other writers of that row waiting."""
        return await self._session.get(model, key, with_for_update=lock or None, populate_existing=lock)

    async def add(self, row: Model) -> None:
        """Insert one row; raise AlreadyExists where its key is taken, which ends the transaction."""
        self._session.add(row)
        try:
            await self._session.flush()
        except IntegrityError as error:
            raise AlreadyExists from error

    async def add_all(self, rows: Sequence[Model]) -> None:
        """Insert rows that are new by construction."""
        self._session.add_all(rows)
        await self._session.flush()

    async def add_unless_there(self, model: type[Model], **values: object) -> None:
        """Insert one row unless its key is taken, waiting for a writer who is about to take it."""
        statement = (postgresql if self._is_postgresql else sqlite).insert(model).values(**values)
        await self._session.execute(statement.on_conflict_do_nothing())

    async def delete(self, row: Model) -> None:
        """Delete one row."""
        await self._session.delete(row)
        await self._session.flush()

    async def all[T](self, query: Select[T]) -> Sequence[T]:
        """Return the first column of every row."""
        return (await self._session.scalars(query)).all()

    async def rows[*Ts](self, query: Select[*Ts]) -> Sequence[Row[*Ts]]:
        """Return every row."""
        return (await self._session.execute(query)).all()

    async def first[T](self, query: Select[T]) -> T | None:
        """Return the first column of the first row, None where there is none."""
        return (await self._session.scalars(query.limit(1))).first()

    async def run(self, statement: Executable) -> int:
        """Run a statement and return how many rows it touched."""
        result = await self._session.execute(statement, execution_options={"synchronize_session": False})
        return int(getattr(result, "rowcount", 0))

    async def exclusive_start(self) -> None:
        """Let one replica at a time do what follows, until the transaction ends."""
        if self._is_postgresql:
            await self._session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": START_LOCK})

    async def write_events(self) -> None:
        """Give this transaction's events their ids; nothing but the commit may follow."""
        if not self.events:
            return
        await self._session.flush()
        if self._is_postgresql:
            await self._session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _EVENT_LOCK})
        for kind, body, at in self.events:
            # One statement each: the ids of one INSERT of many rows need not ascend in the order given.
            row = {"kind": kind, "body": orjson.dumps(body).decode(), "at": at}
            await self._session.execute(insert(Event).values(**row))
        if self._is_postgresql:
            await self._session.execute(text(f"NOTIFY {CHANNEL}"))


class Database:
    """The engine with its pool. Used from one event loop."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine
        self.is_postgresql = engine.dialect.name == "postgresql"
        self._on_events: list[Callable[[], None]] = []
        self.errors = 0  # transactions that it failed: away, too slow, out of connections

    @classmethod
    def open(cls, url: str) -> "Database":
        """Make the engine; connects to nothing yet. Raises DatabaseConfigError."""
        parsed = _parse(url)
        if parsed.get_backend_name() == "postgresql":
            engine = create_async_engine(
                parsed,
                pool_size=POOL_SIZE,
                max_overflow=0,
                pool_timeout=POOL_SECONDS,
                pool_pre_ping=True,
                connect_args={
                    "connect_timeout": CONNECT_SECONDS,
                    "options": f"-c statement_timeout={STATEMENT_SECONDS}s -c lock_timeout={STATEMENT_SECONDS}s"
                    f" -c idle_in_transaction_session_timeout={STATEMENT_SECONDS}s",
                },
            )
        else:
            engine = create_async_engine(
                parsed,
                pool_size=POOL_SIZE,
                max_overflow=0,
                pool_timeout=POOL_SECONDS,
                connect_args={"timeout": BUSY_SECONDS},
            )
            event.listen(engine.sync_engine, "connect", _prepare_sqlite)
            event.listen(engine.sync_engine, "begin", _begin_sqlite)
        return cls(engine)

    def subscribe(self, wake: Callable[[], None]) -> None:
        """Call wake() after each commit of this process that had events."""
        self._on_events.append(wake)

    @contextlib.asynccontextmanager
    async def read(self) -> AsyncIterator[Transaction]:
        """Open a transaction for reading; raises DatabaseUnavailable."""
        async with self._transaction(writes=False) as transaction:
            yield transaction

    @contextlib.asynccontextmanager
    async def write(self) -> AsyncIterator[Transaction]:
        """Open a transaction that is committed when the block ends well; raises DatabaseUnavailable."""
        async with self._transaction(writes=True) as transaction:
            yield transaction
        if transaction.events:
            for wake in self._on_events:
                wake()

    async def ping(self) -> None:
        """Ask the database for anything; raises DatabaseUnavailable."""
        async with self.read() as transaction:
            await transaction.rows(select(literal(1)))

    async def notifications(self) -> AsyncGenerator[None]:
        """Yield once when listening, then for every notification; PostgreSQL only. Raises DatabaseUnavailable."""
        url = self.engine.url.set(drivername="postgresql")
        try:
            connection = await psycopg.AsyncConnection.connect(
                url.render_as_string(hide_password=False), autocommit=True, connect_timeout=CONNECT_SECONDS
            )
            async with connection:
                await connection.execute(f"LISTEN {CHANNEL}")
                yield
                async for _ in connection.notifies():
                    yield
        except (psycopg.Error, OSError) as error:
            raise DatabaseUnavailable from error

    def says_unavailable(self, error: BaseException) -> bool:
        """Say whether an exception means that the database is away or too slow, rather than a fault of ours."""
        if isinstance(error, DBAPIError):
            return _is_unavailable(error)
        return isinstance(error, PoolTimeout | ConnectionError | TimeoutError)

    async def close(self) -> None:
        """Close every connection."""
        await self.engine.dispose()

    @contextlib.asynccontextmanager
    async def _transaction(self, *, writes: bool) -> AsyncIterator[Transaction]:
        try:
            async with AsyncSession(self.engine, expire_on_commit=False, autoflush=True) as session:
                await session.connection(execution_options={"sallyport_writes": writes})
                transaction = Transaction(session, self.is_postgresql)
                yield transaction
                if writes:
                    await transaction.write_events()
                    await session.commit()
        except (DBAPIError, PoolTimeout, ConnectionError, TimeoutError) as error:
            if self.says_unavailable(error):
                self.errors += 1
                raise DatabaseUnavailable from error
            raise

    def __repr__(self) -> str:
        return f"<Database {self.engine.dialect.name}>"


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
            raise DatabaseConfigError("a database in memory is lost and cannot be shared; write sqlite:///file")
        return parsed.set(drivername="sqlite+aiosqlite")
    raise DatabaseConfigError(f"{backend} is not supported; write a postgresql:// or a sqlite:/// URL")


def _prepare_sqlite(connection: Any, _: ConnectionPoolEntry) -> None:  # noqa: ANN401  a driver's own type
    connection.isolation_level = None  # the driver begins nothing by itself; _begin_sqlite does
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")  # a used renewal token must not come back after a power loss
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    # A transaction that reads first and writes later would fail at once where another writer came between.
    writes = connection.get_execution_options().get("sallyport_writes", True)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _is_unavailable(error: DBAPIError) -> bool:
    """Say whether the database is away, restarting, overloaded or too slow, rather than our statement wrong."""
    if isinstance(error, IntegrityError):
        return False  # a statement of ours met a constraint
    if error.connection_invalidated:
        return True
    original = error.orig
    if isinstance(original, psycopg.Error):
        # Classes 08 connection, 53 resources, 57 operator intervention (shutdown, timeout), 55P03 lock, 40 rollback.
        state = original.sqlstate or ""
        return isinstance(original, psycopg.OperationalError) or state[:2] in ("08", "40", "53", "57", "55")
    # sqlite3.OperationalError: locked, disk I/O, cannot open; also of a missing table, which the migrations rule out.
    return type(original).__name__ == "OperationalError"
