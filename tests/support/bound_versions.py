"""A version of a profile with something to bind: a target, a connection of it, and the bindings of a test."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from control_plane.bindings import BindingDesk, Draft
from control_plane.compilation import CompileDesk
from control_plane.definitions.contract import AnyDefinition
from control_plane.definitions.registry import Registry
from control_plane.recompilation import Recompiler
from control_plane.store.database import Database
from control_plane.store.models import Connection, Profile, ProfileVersion, Target
from tests.support.control_plane import NOW, ORGANIZATION, Replica

PROFILE = "sbp_bound"
LINEAR = "linear-default"
LINEAR_CONNECTION = "con_linear"
LINEAR_KEY = "lin_api_0123456789012345678901"


async def offer_target(database: Database, key: str, family_id: str, *, enabled: bool = True) -> None:
    """Offer a target as an operator would, or take it back."""
    async with database.write() as tx:
        row = await tx.get(Target, key, lock=True)
        if row is not None:
            row.enabled = enabled
            return
        target = Target(
            key=key,
            family_id=family_id,
            variant_id=key,
            enabled=enabled,
            config="{}",
            revision=1,
            created_at=int(NOW),
            updated_at=int(NOW),
        )
        await tx.add(target)


class BoundStage:
    """A database with made-up integrations, a connection `con_<variant>` to each, and version 1 of a profile."""

    def __init__(self, database: Database, *definitions: AnyDefinition) -> None:
        self.database = database
        self.registry = Registry(definitions)
        self.bindings = BindingDesk(database, self.registry)
        self.desk = CompileDesk(database, self.registry)
        self.now = NOW
        self.recompiler = Recompiler(database, self.desk, lambda: self.now)

    async def prepare(self, *, organization_id: str = ORGANIZATION, versions: Sequence[int] = (1,)) -> None:
        """Make all of it."""
        for definition in self.registry:
            await offer_target(self.database, definition.target_key, definition.family_id)
        async with self.database.write() as tx:
            await tx.add(Profile(id=PROFILE, organization_id=organization_id, created_at=int(NOW)))
            await tx.add_all(
                [ProfileVersion(profile_id=PROFILE, version=each, created_at=int(NOW)) for each in versions]
            )
        for definition in self.registry:
            await self.connect(f"con_{definition.variant_id}", definition.target_key)

    async def connect(self, connection_id: str, target_key: str, organization_id: str = ORGANIZATION) -> None:
        """Make a connection that has no credential: a plan names one and never has it."""
        connection = Connection(
            id=connection_id,
            organization_id=organization_id,
            target_key=target_key,
            status="active",
            method="api-key",
            config="{}",
            revision=1,
            created_at=int(NOW),
            updated_at=int(NOW),
        )
        async with self.database.write() as tx:
            await tx.add(connection)

    async def bind(self, *drafts: Draft, version: int = 1, revision: int | None = None) -> Any:  # noqa: ANN401  JSON
        """Replace the bindings of a version."""
        return await self.bindings.replace(PROFILE, version, drafts, revision, self.now)

    async def make_sandbox(self, sandbox_id: str, version: int = 1) -> dict[str, object]:
        """Make a sandbox of a version."""
        return await self.desk.create_sandbox(
            ORGANIZATION, sandbox_id=sandbox_id, profile_id=PROFILE, version=version, now=self.now
        )

    async def set_connection(self, connection_id: str, status: str) -> None:
        """Set a connection's status, behind everybody's back."""
        async with self.database.write() as tx:
            row = await tx.get(Connection, connection_id, lock=True)
            assert row is not None
            row.status = status


async def linear_version(api: Replica) -> str:
    """Offer Linear, connect to it, and return the path of version 1 of a profile that may bind the connection."""
    database = Database.open(api.config.database)
    await offer_target(database, LINEAR, "linear")
    await database.close()
    body = {
        "organizationId": ORGANIZATION,
        "connectionId": LINEAR_CONNECTION,
        "secretType": "api_key",
        "value": LINEAR_KEY,
    }
    await api.ask("POST", f"/v1/integration/connections/{LINEAR}/api-key", body, status=201)
    profile = await api.ask("POST", "/v1/sandbox/profiles", {"organizationId": ORGANIZATION}, status=201)
    versions = f"/v1/sandbox/profiles/{profile['sandboxProfileId']}/versions"
    await api.ask("POST", versions, {}, status=201)
    return f"{versions}/1"


def draft(binding_id: str | None = None, variant: str = "place", kind: str = "connector", **config: object) -> Draft:
    """Return a draft that binds `con_<variant>`."""
    return Draft(id=binding_id, connection_id=f"con_{variant}", kind=kind, config=config)


def stored_issues(document: Mapping[str, object]) -> list[tuple[str, str]]:
    """Return (code, pointer) of the issues that a sandbox is shown with."""
    issues = document.get("compileIssues", [])
    return [(each["code"], each["pointer"]) for each in orjson.loads(orjson.dumps(issues))]
