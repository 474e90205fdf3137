"""Client keys of instances, made by the API as operators make them."""

from typing import Final

from tests.support.control_plane import ORGANIZATION, Replica

INSTANCE: Final = "inst_1"


async def make_instance(api: Replica, instance_id: str = INSTANCE, organization_id: str = ORGANIZATION) -> None:
    """Make an instance."""
    body = {"instanceId": instance_id, "organizationId": organization_id}
    await api.ask("POST", "/api/instances", body, status=201)


async def make_client_key(api: Replica, tier: str = "admin", instance_id: str = INSTANCE) -> str:
    """Make a key of an instance and return it."""
    made = await api.ask("POST", "/api/auth/keys", {"instanceId": instance_id, "tier": tier}, status=201)
    return str(made["key"])
