"""Instances: the applications whose clients read a feed, each of one organization."""

from control_plane.ids import new_id
from control_plane.refusals import ControlCode, Refused
from control_plane.store import feed as rows
from control_plane.store import push
from control_plane.store.database import AlreadyExists, Database, Transaction
from control_plane.store.models import Instance


def document(instance: Instance) -> dict[str, object]:
    """Return an instance as the API shows it."""
    shown: dict[str, object] = {"instanceId": instance.id, "organizationId": instance.organization_id}
    if instance.display_name is not None:
        shown["displayName"] = instance.display_name
    return shown | {"createdAt": instance.created_at}


async def create(
    database: Database, organization_id: str, *, instance_id: str | None, display_name: str | None, now: float
) -> dict[str, object]:
    """Make an instance that is served nothing yet. Raises Refused."""
    instance = Instance(
        id=instance_id or new_id("inst", now),
        organization_id=organization_id,
        display_name=display_name,
        revision=0,
        created_at=int(now),
    )
    async with database.write() as tx:
        try:
            await tx.add(instance)
        except AlreadyExists:
            detail = "an instance has this id; leave it out to be given one"
            raise Refused(ControlCode.ALREADY_EXISTS, detail) from None
    return document(instance)


async def get(database: Database, instance_id: str) -> dict[str, object]:
    """Return one instance. Raises Refused."""
    async with database.read() as tx:
        return document(await found(tx, instance_id))


async def page(database: Database, organization_id: str | None, after: str, limit: int) -> list[dict[str, object]]:
    """Return instances by id, after one."""
    async with database.read() as tx:
        return [document(each) for each in await rows.list_instances(tx, organization_id, after, limit)]


async def remove(database: Database, instance_id: str) -> None:
    """Delete an instance, its keys and its push subscribers. Raises Refused where a worker runs something for it."""
    async with database.write() as tx:
        instance = await found(tx, instance_id, lock=True)
        if await rows.servers_of(tx, instance_id):
            detail = "delete its shared tools and installations first"
            raise Refused(ControlCode.INSTANCE_IN_USE, detail)
        await push.forget_instance(tx, instance_id)
        await tx.delete(instance)


async def found(tx: Transaction, instance_id: str, *, lock: bool = False) -> Instance:
    """Return an instance that is there. Raises Refused."""
    instance = await rows.instance(tx, instance_id, lock=lock)
    if instance is None:
        raise not_found()
    return instance


def not_found() -> Refused:
    """Return the refusal of an instance that is not there."""
    return Refused(ControlCode.INSTANCE_NOT_FOUND, "it was never made, or was deleted")
