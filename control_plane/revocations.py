"""What is out of service until an instant, told to every gateway."""

from typing import Final

from control_plane.refusals import ControlCode, FieldIssue, Refused
from control_plane.store import events
from control_plane.store.database import Database, Transaction

KINDS: Final = ("jti", "sid", "sandbox", "connection", "binding")
# What two organizations may call alike: plans as documents name bindings as they like.
ORGANIZATION_KINDS: Final = ("connection", "binding")
# No token lives longer (sallyport.claims); more is a slip, usually milliseconds given for seconds.
MAX_SECONDS: Final = 366 * 86_400


async def record(
    tx: Transaction, kind: str, identity: str, until: int, now: float, organization_id: str | None = None
) -> None:
    """Revoke, and tell the gateways when the transaction commits. Without an organization all that bear the id."""
    await events.put_revocation(tx, kind, identity, until, organization_id)
    tx.emit("revocation", document(kind, identity, until, organization_id), now)


async def revoke(
    database: Database, kind: str, identity: str, until: int, now: float, organization_id: str | None = None
) -> dict[str, object]:
    """Revoke by an operator's order. Raises Refused where the instant is over or years away."""
    issues = []
    if not now < until <= now + MAX_SECONDS:
        issues.append(FieldIssue("out_of_range", "/until", "an instant to come is expected, at most 366 days away"))
    if organization_id is not None and kind not in ORGANIZATION_KINDS:
        message = "it goes with a connection or a binding alone; what else is revoked has its id for itself"
        issues.append(FieldIssue("unknown_field", "/organizationId", message))
    if issues:
        raise Refused(ControlCode.INVALID_REQUEST, f"{len(issues)} issues; nothing changed", issues=issues)
    async with database.write() as tx:
        await record(tx, kind, identity, until, now, organization_id)
    return document(kind, identity, until, organization_id)


def document(kind: str, identity: str, until: int, organization_id: str | None) -> dict[str, object]:
    """Return a revocation as gateways are told it; no organization stands for all that bear the id."""
    members: dict[str, object] = {"kind": kind, "id": identity, "until": until}
    return members | ({"organizationId": organization_id} if organization_id else {})
