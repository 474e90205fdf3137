"""Plans: what is taken, what is refused, and what is kept."""

import asyncio
import json

import pytest

from control_plane import sandboxes
from control_plane.foundation import Foundation
from control_plane.plans import PlanDesk
from control_plane.refusals import Refused
from control_plane.store import connections, events, feed
from sallyport.plan.codec import MAX_PLAN_BYTES, parse_plan, seal
from tests.support.control_plane import NOW, ORGANIZATION, SANDBOX, sealed_plan
from tests.support.plan_documents import mcp_servers, plan_document


@pytest.fixture
async def desk(base: Foundation) -> PlanDesk:
    await sandboxes.create_sandbox(
        base.database, ORGANIZATION, sandbox_id=SANDBOX, profile_id=None, version=None, now=NOW
    )
    return PlanDesk(base.database)


async def refused(desk: PlanDesk, body: bytes, sandbox_id: str = SANDBOX) -> tuple[str, list[str]]:
    with pytest.raises(Refused) as caught:
        await desk.put(sandbox_id, body, NOW)
    return caught.value.code.wire, [issue.pointer for issue in caught.value.issues]


async def test_a_plan_is_kept_byte_for_byte(desk: PlanDesk) -> None:
    body = json.dumps(json.loads(sealed_plan()), indent=3).encode()
    accepted = await desk.put(SANDBOX, body, NOW)
    assert accepted == (SANDBOX, 1, parse_plan(body).digest, True)
    assert (await desk.current(SANDBOX)).document == body
    assert (await desk.revision(SANDBOX, 1)).document == body


async def test_a_plan_without_digest_is_sealed(desk: PlanDesk) -> None:
    accepted = await desk.put(SANDBOX, json.dumps(plan_document()).encode(), NOW)
    kept = await desk.current(SANDBOX)
    assert parse_plan(kept.document).digest == accepted.digest == kept.digest


async def test_revisions_only_go_up(base: Foundation, desk: PlanDesk) -> None:
    await desk.put(SANDBOX, sealed_plan(5), NOW)
    assert not (await desk.put(SANDBOX, sealed_plan(5), NOW)).is_new
    assert (await refused(desk, sealed_plan(5, routes=[])))[0] == "plan_conflict"
    assert (await refused(desk, sealed_plan(4)))[0] == "plan_conflict"
    assert (await desk.put(SANDBOX, sealed_plan(6), NOW)).is_new
    async with base.database.read() as tx:
        assert [event.kind for event in await events.events_after(tx, 0, 10)] == ["plan", "plan"]


async def test_a_plan_is_for_its_sandbox_and_organization(desk: PlanDesk) -> None:
    foreign = sealed_plan(sandbox_id="sbx_two", organization_id="org_two")
    assert await refused(desk, foreign) == ("invalid_plan", ["/sandboxId", "/organizationId"])
    assert await refused(desk, sealed_plan(), "sbx_none") == ("sandbox_not_found", [])


async def test_every_issue_is_told_and_nothing_changes(desk: PlanDesk) -> None:
    document = plan_document(revision=0, nonsense=1, egressRoutes=[{"egressRuleId": 1}])
    code, pointers = await refused(desk, json.dumps(document).encode())
    assert code == "invalid_plan"
    assert {"/revision", "/nonsense", "/egressRoutes/0/egressRuleId", "/egressRoutes/0/match"} <= set(pointers)
    tampered = sealed_plan().replace(b"api.example.com", b"api.example.org")
    assert await refused(desk, tampered) == ("invalid_plan", ["/digest"])
    for body in (b"", b"[]", b"nonsense", b"\xff", b'{"a":1,"a":2}', b"null"):
        assert (await refused(desk, body))[0] == "invalid_plan"
    assert (await refused(desk, b" " * (MAX_PLAN_BYTES + 1)))[0] == "body_too_large"
    with pytest.raises(Refused, match="plan_not_found"):
        await desk.current(SANDBOX)
    with pytest.raises(Refused, match="plan_not_found"):
        await desk.revision(SANDBOX, 1)


async def test_of_two_plans_with_one_revision_one_wins(desk: PlanDesk) -> None:
    async def put(body: bytes) -> str:
        try:
            return str((await desk.put(SANDBOX, body, NOW)).is_new)
        except Refused as refusal:
            return refusal.code.wire

    async with asyncio.TaskGroup() as group:
        put_both = [group.create_task(put(body)) for body in (sealed_plan(2), sealed_plan(2, routes=[]))]
    assert sorted(each.result() for each in put_both) == ["True", "plan_conflict"]


async def test_only_the_current_revision_s_references_count(base: Foundation, desk: PlanDesk) -> None:
    await desk.put(SANDBOX, sealed_plan(1), NOW)
    async with base.database.read() as tx:
        assert await connections.users(tx, "con_one", 5) == [SANDBOX]
    await desk.put(SANDBOX, sealed_plan(2, routes=[]), NOW)
    async with base.database.read() as tx:
        assert await connections.users(tx, "con_one", 5) == []


async def test_the_servers_inside_the_sandbox_are_noted(base: Foundation, desk: PlanDesk) -> None:
    """What speaks on its standard input and output is reached through sandboxd; what is elsewhere is nobody's here."""
    await desk.put(SANDBOX, seal(plan_document(sandboxId=SANDBOX, mcpServers=mcp_servers())), NOW)
    async with base.database.read() as tx:
        assert {each.server_id for each in await feed.sandbox_servers(tx, NOW)} == {"files", "shell"}


async def test_a_kept_plan_waits_until_it_is_put_in_force(base: Foundation, desk: PlanDesk) -> None:
    await desk.put(SANDBOX, sealed_plan(1), NOW)
    assert (await desk.put(SANDBOX, sealed_plan(3), NOW, in_force=False)).is_new
    assert not (await desk.put(SANDBOX, sealed_plan(3), NOW, in_force=False)).is_new
    assert (await desk.current(SANDBOX)).revision == 1
    assert (await desk.put_in_force(SANDBOX, 3, NOW)).is_new
    assert not (await desk.put_in_force(SANDBOX, 3, NOW)).is_new
    assert (await desk.current(SANDBOX)).revision == 3
    async with base.database.read() as tx:
        told = [json.loads(event.body)["revision"] for event in await events.events_after(tx, 0, 10)]
    assert told == [1, 3]


async def test_a_kept_plan_is_put_in_force_by_posting_it_again(desk: PlanDesk) -> None:
    await desk.put(SANDBOX, sealed_plan(2), NOW, in_force=False)
    assert not (await desk.put(SANDBOX, sealed_plan(2), NOW)).is_new
    assert (await desk.current(SANDBOX)).revision == 2


async def test_an_older_plan_is_never_put_in_force_again(desk: PlanDesk) -> None:
    await desk.put(SANDBOX, sealed_plan(1), NOW)
    await desk.put(SANDBOX, sealed_plan(2), NOW)
    for revision, code in ((1, "plan_conflict"), (7, "plan_not_found")):
        with pytest.raises(Refused, match=code):
            await desk.put_in_force(SANDBOX, revision, NOW)
    with pytest.raises(Refused, match="sandbox_not_found"):
        await desk.put_in_force("sbx_none", 1, NOW)
