"""Queries on the leases by which one replica at a time asks a provider for a credential."""

from sqlalchemy import ColumnElement, delete, update

from control_plane.store.database import Transaction
from control_plane.store.models import CredentialLease


async def hold(tx: Transaction, key: tuple[str, str, str], owner: str, now: float, until: int) -> str | None:
    """Take the lease of a credential; return None, or who has it until an instant that is still to come."""
    connection_id, secret_type, slot_key = key
    names = {"connection_id": connection_id, "secret_type": secret_type, "slot_key": slot_key}
    await tx.add_unless_there(CredentialLease, **names, owner=owner, until=0)
    row = await tx.get(CredentialLease, key, lock=True)
    assert row is not None, "it was there or has been made"
    if row.until > int(now):
        return row.owner
    row.owner, row.until = owner, until
    return None


async def release(tx: Transaction, key: tuple[str, str, str], owner: str) -> None:
    """Give a lease back, unless it has passed to another."""
    await tx.run(delete(CredentialLease).where(*_same(key), CredentialLease.owner == owner))


async def pause(tx: Transaction, key: tuple[str, str, str], owner: str, nobody: str, until: int) -> None:
    """Let nobody ask for a while, unless the lease has passed to another."""
    statement = update(CredentialLease).where(*_same(key), CredentialLease.owner == owner)
    await tx.run(statement.values(owner=nobody, until=until))


def _same(key: tuple[str, str, str]) -> tuple[ColumnElement[bool], ...]:
    columns = (CredentialLease.connection_id, CredentialLease.secret_type, CredentialLease.slot_key)
    return tuple(column == value for column, value in zip(columns, key, strict=True))
