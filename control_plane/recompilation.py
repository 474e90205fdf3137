"""Compile anew what depends on something that changed, on whichever replica comes first.

Whoever changes a binding set, a connection or a target calls `request` in the transaction of the change; so no change
is lost, and none is acted on before it is visible.
"""

from control_plane.store import recompilations as rows
from control_plane.store.database import Transaction


async def request(
    tx: Transaction,
    now: float,
    *,
    version: tuple[str, int] | None = None,
    connection_id: str | None = None,
    target_key: str | None = None,
) -> None:
    """Have every sandbox compiled anew that depends on what this transaction changes.

    Name what changed: a version of a profile (`profile_id, version`) whose bindings were replaced; a connection whose
    status, configuration, method or kinds of credentials changed; a target that was enabled, disabled, or whose
    configuration or names of secrets changed. A new value of a secret needs none: plans hold no secret, and gateways
    are told by an invalidation. Call it last but for the events: the rows it writes stay locked until the commit.
    """
    found = set() if version is None else {version}
    if connection_id is not None:
        found.update(await rows.versions_bound_to_connection(tx, connection_id))
    if target_key is not None:
        found.update(await rows.versions_bound_to_target(tx, target_key))
    # In one order everywhere, so that two that ask for the same wait for one another and never both.
    for profile_id, number in sorted(found):
        await rows.request(tx, profile_id, number, now)
