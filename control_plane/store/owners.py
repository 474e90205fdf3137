"""Whose a row is, of those that belong to an organization."""

from sqlalchemy import select

from control_plane.store.database import Transaction
from control_plane.store.models import ClientKey, Connection, Instance, InstanceServer, Profile, PushSubscriber, Sandbox

type OwnedModel = (
    type[Sandbox]
    | type[Profile]
    | type[Connection]
    | type[Instance]
    | type[InstanceServer]
    | type[ClientKey]
    | type[PushSubscriber]
)


async def organization_of(tx: Transaction, model: OwnedModel, row_id: str) -> str | None:
    """Return the organization of a row, None where there is none; a deleted sandbox's too."""
    return await tx.first(select(model.organization_id).where(model.id == row_id))


async def instance_of(tx: Transaction, model: OwnedModel, row_id: str) -> str | None:
    """Return the instance of a row, None where there is none or it is no instance's."""
    if model is Instance:
        return await tx.first(select(Instance.id).where(Instance.id == row_id))
    if model in (InstanceServer, ClientKey, PushSubscriber):
        return await tx.first(select(model.instance_id).where(model.id == row_id))
    return None
