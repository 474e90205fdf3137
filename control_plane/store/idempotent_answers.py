"""Queries on the answers that requests with an idempotency key were given."""

from sqlalchemy import delete

from control_plane.store.database import Transaction
from control_plane.store.models import IdempotentAnswer


async def take(tx: Transaction, row: IdempotentAnswer) -> IdempotentAnswer:
    """Write a row unless its key is taken, or about to be; return, locked, what is there then."""
    values = {name: getattr(row, name) for name in ("caller", "key", "digest", "status", "answer", "at")}
    await tx.add_unless_there(IdempotentAnswer, **values)
    found = await answer(tx, row.caller, row.key)
    assert found is not None, "it was there or has been made"
    return found


async def answer(tx: Transaction, caller: str, key: str) -> IdempotentAnswer | None:
    """Return what is kept under a caller's key, locked."""
    return await tx.get(IdempotentAnswer, (caller, key), lock=True)


async def forget(tx: Transaction, before: float) -> int:
    """Forget answers of before an instant."""
    return await tx.run(delete(IdempotentAnswer).where(IdempotentAnswer.at < int(before)))
