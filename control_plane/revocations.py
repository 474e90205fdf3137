"""What is out of service until an instant, told to every gateway."""

from typing import Final

from control_plane.refusals import ControlCode, FieldIssue, Refused
from control_plane.store import events
from control_plane.store.database import Database, Transaction

KINDS: Final = ("jti", "sid", "sandbox", "connection", "binding")
# No token lives longer (sallyport.claims); more is a slip, usually milliseconds given for seconds.
MAX_SECONDS: Final = 366 * 86_400


async def record(tx: Transaction, kind: str, identity: str, until: int, now: float) -> None:
    """Revoke, and tell the gateways when the transaction commits."""
    await events.put_revocation(tx, kind, identity, until)
    tx.emit("revocation", {"kind": kind, "id": identity, "until": until}, now)


async def revoke(database: Database, kind: str, identity: str, until: int, now: float) -> dict[str, object]:
    """Revoke by an operator's order. Raises Refused where the instant is over or years away."""
    if not now < until <= now + MAX_SECONDS:
        issue = FieldIssue("out_of_range", "/until", "an instant to come is expected, at most 366 days away")
        raise Refused(ControlCode.INVALID_REQUEST, "unix seconds are expected", issues=[issue])
    async with database.write() as tx:
        await record(tx, kind, identity, until, now)
    return {"kind": kind, "id": identity, "until": until}
