"""Which workers are alive: each holds a lease under its id, renews it, and takes over from those that do not.

Invariant: the epoch of an id only grows, and whoever holds the newest one is the worker of that id. A worker that was
started again takes its id with the next epoch at once; the one before, should it still run, learns at its next renewal
that it is no longer that worker. What it may still do until then is decided by who owns an application (workflows.py).

Times are the database's, so the clocks of machines need not agree.
"""

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from worker.durable.database import DatabaseUnavailable

# An epoch is the time of its beginning in milliseconds, or one more than the one before where that is not later: so it
# grows also where the row of an id, or the whole database, was lost.
_NOW: Final = {"sqlite": "unixepoch('subsec')", "postgresql": "extract(epoch from clock_timestamp())"}
_TABLE: Final = """
CREATE TABLE IF NOT EXISTS sallyport_worker_leases (
  worker_id TEXT PRIMARY KEY,
  epoch BIGINT NOT NULL,
  expires_at DOUBLE PRECISION NOT NULL
)"""


class LeaseLost(Exception):
    """Another process is the worker of this id now."""

    def __init__(self, worker_id: str) -> None:
        self.message = f"another process took over as worker {worker_id}"
        super().__init__(self.message)
        self.hint = "give each worker an id of its own in SALLYPORT_WORKER_ID"


class WorkerLease:
    """The lease of one worker. Each call waits for the database, so none is for an event loop's thread."""

    def __init__(self, engine: Engine, worker_id: str, seconds: float) -> None:
        self._engine = engine
        self._now = _NOW[engine.dialect.name]
        self._seconds = seconds
        self.worker_id = worker_id
        self.epoch = 0

    def take(self) -> None:
        """Become the worker of this id; raises DatabaseUnavailable."""
        self._run(_TABLE)
        found = self._run(
            "INSERT INTO sallyport_worker_leases (worker_id, epoch, expires_at)"
            f" VALUES (:worker, CAST({self._now} * 1000 AS BIGINT), {self._now} + :seconds)"
            " ON CONFLICT (worker_id) DO UPDATE SET epoch = CASE"
            " WHEN excluded.epoch > sallyport_worker_leases.epoch THEN excluded.epoch"
            " ELSE sallyport_worker_leases.epoch + 1 END, expires_at = excluded.expires_at RETURNING epoch"
        )
        self.epoch = int(found[0])

    def renew(self) -> None:
        """Stay the worker of this id; raises LeaseLost, DatabaseUnavailable."""
        if not self._run(
            f"UPDATE sallyport_worker_leases SET expires_at = {self._now} + :seconds"
            " WHERE worker_id = :worker AND epoch = :epoch RETURNING worker_id"
        ):
            raise LeaseLost(self.worker_id)

    def give_up(self) -> None:
        """Let others take over at once, if this is still the worker of this id; raises DatabaseUnavailable."""
        self._run("UPDATE sallyport_worker_leases SET expires_at = 0 WHERE worker_id = :worker AND epoch = :epoch")

    def dead(self) -> Sequence[str]:
        """Return the ids of other workers whose lease has run out; raises DatabaseUnavailable."""
        return [
            str(each)
            for each in self._run(
                "SELECT worker_id FROM sallyport_worker_leases"
                f" WHERE expires_at < {self._now} AND worker_id <> :worker ORDER BY worker_id"
            )
        ]

    def bury(self, worker_id: str) -> None:
        """Forget a worker that others have taken over from, unless it lives again; raises DatabaseUnavailable."""
        self._run(
            f"DELETE FROM sallyport_worker_leases WHERE worker_id = :dead AND expires_at < {self._now}", dead=worker_id
        )

    def _run(self, statement: str, **more: object) -> Sequence[Any]:
        """Run one statement in a transaction and return the first column of its rows."""
        values = {"worker": self.worker_id, "epoch": self.epoch, "seconds": self._seconds, **more}
        clause = text(statement)
        try:
            with self._engine.begin() as connection:
                result = connection.execute(clause, {name: values[name] for name in clause.compile().params})
                return result.scalars().all() if result.returns_rows else ()
        except (DBAPIError, PoolTimeout) as error:
            reason = error.orig if isinstance(error, DBAPIError) else error
            raise DatabaseUnavailable(reason) from error

    def __repr__(self) -> str:
        return f"<WorkerLease of {self.worker_id}, epoch {self.epoch}>"
