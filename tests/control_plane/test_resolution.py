"""Resolution: the ownership checks one by one, and the record of each."""

import orjson
import pytest
from sqlalchemy import select

from control_plane import revocations, sandboxes
from control_plane.definitions.contract import MethodKind
from control_plane.foundation import Foundation
from control_plane.plans import PlanDesk
from control_plane.refusals import Refused
from control_plane.resolution import Resolver, Wanted
from control_plane.store.models import Connection, Credential, Resolution
from control_plane.vault.envelope import VaultError
from tests.support.control_plane import CONNECTION, NOW, ORGANIZATION, SANDBOX, SECRET, TARGET, sealed_plan
from tests.support.oauth_stage import bare_desk, bare_resolver, typed
from tests.support.plan_documents import route_document

WANTED = Wanted(SANDBOX, 1, "route", "bnd_one", CONNECTION, "api_key", None, None)


@pytest.fixture
async def resolver(base: Foundation) -> Resolver:
    for sandbox_id, organization in ((SANDBOX, ORGANIZATION), ("sbx_two", ORGANIZATION), ("sbx_foreign", "org_two")):
        await sandboxes.create_sandbox(
            base.database, organization, sandbox_id=sandbox_id, profile_id=None, version=None, now=NOW
        )
    await connect(base)
    await PlanDesk(base.database).put(SANDBOX, sealed_plan(), NOW)
    return bare_resolver(base)


async def connect(base: Foundation, slot_key: str | None = None) -> None:
    secret = typed(SECRET, slot_key=slot_key or "")
    await bare_desk(base).add(
        TARGET, ORGANIZATION, MethodKind.API_KEY, [secret], connection_id=CONNECTION, for_operator=True, now=NOW
    )


async def put(base: Foundation, revision: int, sandbox_id: str = SANDBOX, **resolver: object) -> None:
    how = {"kind": "integration_connection", "connectionId": CONNECTION, "secretType": "api_key", **resolver}
    organization = "org_two" if sandbox_id == "sbx_foreign" else ORGANIZATION
    body = sealed_plan(
        revision,
        sandbox_id=sandbox_id,
        organization_id=organization,
        routes=[route_document(credentialResolver=how)],
    )
    await PlanDesk(base.database).put(sandbox_id, body, NOW)


async def refused(resolver: Resolver, wanted: Wanted = WANTED) -> str:
    with pytest.raises(Refused) as caught:
        await resolver.resolve(wanted, "gateway", NOW)
    assert SECRET not in f"{caught.value} {caught.value.issues}"
    return caught.value.code.wire


async def test_the_value_of_the_right_sandbox(resolver: Resolver) -> None:
    answer = orjson.loads(await resolver.resolve(WANTED, "gateway", NOW))
    assert answer["value"] == SECRET


async def test_another_sandbox_of_the_organization_has_no_part_in_it(base: Foundation, resolver: Resolver) -> None:
    assert await refused(resolver, WANTED._replace(sandbox_id="sbx_two")) == "binding_not_in_plan"
    assert await refused(resolver, WANTED._replace(sandbox_id="sbx_none")) == "sandbox_not_found"


async def test_a_plan_of_another_organization_cannot_reach_a_connection(base: Foundation, resolver: Resolver) -> None:
    await put(base, 1, "sbx_foreign")
    # The same answer as for one that does not exist.
    assert await refused(resolver, WANTED._replace(sandbox_id="sbx_foreign")) == "connection_not_found"
    await put(base, 2, "sbx_foreign", connectionId="con_none")
    wanted = WANTED._replace(sandbox_id="sbx_foreign", connection_id="con_none")
    assert await refused(resolver, wanted) == "connection_not_found"


async def test_slots(base: Foundation, resolver: Resolver) -> None:
    await connect(base, slot_key="a")
    assert await refused(resolver) == "ambiguous_credential"
    assert await refused(resolver, WANTED._replace(slot_key="a")) == "binding_not_in_plan"
    await put(base, 2, slotKey="a")
    assert b"ver_" in await resolver.resolve(WANTED._replace(slot_key="a"), "gateway", NOW)
    await put(base, 3, slotKey="b")
    assert await refused(resolver, WANTED._replace(slot_key="b")) == "credential_not_found"


async def test_a_resolver_that_does_not_exist(base: Foundation, resolver: Resolver) -> None:
    await put(base, 2, resolverKey="app")
    assert await refused(resolver, WANTED._replace(resolver_key="app")) == "resolver_not_found"


async def test_connections_out_of_service(base: Foundation, resolver: Resolver) -> None:
    desk = bare_desk(base)
    await desk.change(CONNECTION, status="error", now=NOW)
    assert await refused(resolver) == "connection_not_active"
    await desk.rotate(CONNECTION, [typed("x")], NOW)
    await resolver.resolve(WANTED, "gateway", NOW)
    await desk.change(CONNECTION, status="revoked", now=NOW)
    assert await refused(resolver) == "connection_not_active"


@pytest.mark.parametrize(
    ("kind", "identity", "word"),
    [
        ("sandbox", SANDBOX, "sandbox_not_found"),
        ("binding", "bnd_one", "binding_not_in_plan"),
        ("connection", CONNECTION, "connection_not_active"),
    ],
)
async def test_what_is_revoked_is_refused_until_then(
    base: Foundation, resolver: Resolver, kind: str, identity: str, word: str
) -> None:
    await revocations.revoke(base.database, kind, identity, int(NOW) + 10, NOW)
    assert await refused(resolver) == word
    await resolver.resolve(WANTED, "gateway", NOW + 10)


async def test_what_another_organization_has_revoked_by_the_same_id_is_given(
    base: Foundation, resolver: Resolver
) -> None:
    await revocations.revoke(base.database, "binding", "bnd_one", int(NOW) + 10, NOW, "org_two")
    await resolver.resolve(WANTED, "gateway", NOW)
    await revocations.revoke(base.database, "binding", "bnd_one", int(NOW) + 10, NOW, "org_one")
    assert await refused(resolver) == "binding_not_in_plan"


async def test_each_resolution_is_recorded_without_its_value(base: Foundation, resolver: Resolver) -> None:
    await resolver.resolve(WANTED._replace(plan_revision=9), "gateway-7", NOW)
    await refused(resolver, WANTED._replace(binding_id="bnd_other"))
    async with base.database.read() as tx:
        rows = await tx.all(select(Resolution).order_by(Resolution.id))
        [credential] = await tx.all(select(Credential))
    assert [(row.caller, row.plan_revision, row.binding_id, row.result, row.credential_version) for row in rows] == [
        ("gateway-7", 9, "bnd_one", "ok", credential.version),
        ("gateway", 1, "bnd_other", "binding_not_in_plan", None),
    ]
    assert all(SECRET not in str(vars(row)) for row in rows)


async def test_a_credential_that_was_moved_in_the_database_is_not_given(base: Foundation, resolver: Resolver) -> None:
    """Whoever can write to the database, but has no master key, cannot turn one connection's secret into another's."""
    async with base.database.write() as tx:
        victim = await tx.get(Credential, (CONNECTION, "api_key", ""))
        assert victim is not None
        thief = Connection(
            id="con_thief",
            organization_id=ORGANIZATION,
            target_key=TARGET,
            display_name=None,
            status="active",
            created_at=1,
            updated_at=1,
        )
        await tx.add(thief)
        moved = Credential(
            connection_id="con_thief",
            secret_type="api_key",
            slot_key="",
            value=victim.value,
            version="ver_1",
            expires_at=None,
            updated_at=1,
        )
        await tx.add(moved)
    await put(base, 2, connectionId="con_thief")
    with pytest.raises(VaultError):
        await resolver.resolve(WANTED._replace(connection_id="con_thief"), "gateway", NOW)
