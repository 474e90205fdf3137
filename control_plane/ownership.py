"""A caller that is bound to an organization names nothing of another one: in a path, a query or a body.

It is checked once, before any endpoint runs, by the name of the parameter, so that no endpoint can forget it. What is
another organization's is answered exactly like what is not there.
"""

import re
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from control_plane import connections, sandboxes
from control_plane.callers import Caller
from control_plane.feed import instances, keys, servers
from control_plane.push import subscribers
from control_plane.refusals import ControlCode, FieldIssue, Refused, sandbox_not_found
from control_plane.store import owners
from control_plane.store.database import Database
from control_plane.store.models import ClientKey, Connection, Instance, InstanceServer, Profile, PushSubscriber, Sandbox


class Owned(NamedTuple):
    """A kind of thing that belongs to an organization, and the refusal of one that is not there."""

    model: owners.OwnedModel
    not_found: Callable[[], Refused]


_SANDBOX: Final = Owned(Sandbox, sandbox_not_found)
_PROFILE: Final = Owned(Profile, sandboxes.profile_not_found)
_CONNECTION: Final = Owned(Connection, connections.not_found)
_INSTANCE: Final = Owned(Instance, instances.not_found)
_SERVER: Final = Owned(InstanceServer, servers.not_found)
# By the name of a path parameter, a query parameter or a member of a body, in the spelling of Python and of JSON.
OWNED: Final = {
    "sandbox_id": _SANDBOX,
    "sandboxId": _SANDBOX,
    "profile_id": _PROFILE,
    "sandboxProfileId": _PROFILE,
    "connection_id": _CONNECTION,
    "connectionId": _CONNECTION,
    "instance_id": _INSTANCE,
    "instanceId": _INSTANCE,
    "client_key_id": Owned(ClientKey, keys.not_found),
    "shared_tool_id": _SERVER,
    "installation_id": _SERVER,
    "push_subscriber_id": Owned(PushSubscriber, subscribers.not_found),
}
# Path parameters that name nothing of an organization's.
UNOWNED: Final = frozenset(
    {
        *("target_key", "version", "revision", "gateway_id", "worker_id", "key_id"),
        # Found within what is owned: a profile's subscription and its events, the caller's own endpoints.
        *("endpoint_key", "subscription_id", "event_id"),
    }
)

_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")


async def refuse_foreign(database: Database, caller: Caller, named: Iterable[tuple[str, str]]) -> None:
    """Raise Refused where a bound caller names (parameter, id) what is not its organization's, or its instance's."""
    if caller.organization_id is None:
        return
    owned = [(name, row_id, OWNED[name]) for name, row_id in named if name in OWNED]
    for name, row_id, _ in owned:
        if _ID.fullmatch(row_id) is None:
            issue = FieldIssue("malformed", name, "not a value this parameter can have")
            raise Refused(ControlCode.INVALID_REQUEST, "faulty parameters", issues=[issue])
    if not owned:
        return
    async with database.read() as tx:
        for _, row_id, kind in owned:
            if await owners.organization_of(tx, kind.model, row_id) != caller.organization_id:
                raise kind.not_found()
            instance_id = None if caller.instance_id is None else await owners.instance_of(tx, kind.model, row_id)
            if instance_id is not None and instance_id != caller.instance_id:
                raise kind.not_found()


def own_organization(caller: Caller, organization_id: str | None) -> str | None:
    """Return the organization a caller asks about: a bound one its own, whether it says so or not. Raises Refused."""
    if caller.organization_id is None or organization_id in (None, caller.organization_id):
        return organization_id if caller.organization_id is None else caller.organization_id
    raise Refused(ControlCode.FORBIDDEN, "this key is for another organization")
