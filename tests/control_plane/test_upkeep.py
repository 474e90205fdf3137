import asyncio

import pytest
from sqlalchemy import func, select

from control_plane import api_keys, leases, revocations, sandboxes, upkeep
from control_plane.callers import Caller, Role
from control_plane.foundation import Foundation
from control_plane.idempotency import Answers
from control_plane.minting import TUNNEL_SECONDS, TokenOffice
from control_plane.refusals import Refused
from control_plane.resolution import Wanted
from control_plane.store.leases import Held
from control_plane.store.models import (
    ApiKey,
    AuthorizationSession,
    Connection,
    Credential,
    Event,
    GatewayLease,
    GatewaySandbox,
    IdempotentAnswer,
    Model,
    RenewalToken,
    Resolution,
    Revocation,
    TokenAnswer,
    WebhookEvent,
    Worker,
    WorkerServer,
)
from control_plane.workers import ReportedServer, Workers
from tests.support.control_plane import NOW, ORGANIZATION, SANDBOX
from tests.support.oauth_stage import bare_resolver
from tests.support.until import until

YEAR = 366 * 86_400
KEPT_SECONDS = 86_400.0


async def fill(base: Foundation) -> None:
    await sandboxes.create_sandbox(
        base.database, ORGANIZATION, sandbox_id=SANDBOX, profile_id=None, version=None, now=NOW
    )
    office = TokenOffice(base.database, base.vault, base.ring)
    await office.mint_tunnel(SANDBOX, TUNNEL_SECONDS, NOW)
    await office.renew(SANDBOX, "req_1", None, None, NOW)
    await revocations.revoke(base.database, "jti", "jti_1", int(NOW) + 60, NOW)
    await leases.renew_lease(
        base.database,
        "gw_1",
        epoch=1,
        admin_url="http://h",
        held={SANDBOX: Held(True, 1, 1)},
        plan_revisions={},
        now=NOW,
    )
    workers = Workers(base.database, lambda: NOW)
    server = ReportedServer(server_id="time", tier="standard", status="running", tools=())
    await workers.report("wrk_1", epoch=1, api_url="http://h", front_url=None, servers=[server])
    await api_keys.create(
        base.database, Role.OPERATOR, None, display_name=None, ttl_seconds=60, created_by="x", now=NOW
    )
    caller = Caller(id="key_1", roles=frozenset({Role.OPERATOR}))
    await Answers(base.database, base.vault).begin(caller, "k", b"request", NOW)
    wanted = Wanted(SANDBOX, 1, "r", "b", "c", "s", None, None)
    with pytest.raises(Refused):
        await bare_resolver(base).resolve(wanted, "gateway", NOW)


async def count(base: Foundation, model: type[Model]) -> int:
    async with base.database.read() as tx:
        return await tx.first(select(func.count()).select_from(model)) or 0


async def fill_credentials(base: Foundation) -> None:
    async with base.database.write() as tx:
        row = Connection(id="con_1", organization_id="o", target_key="t", status="active", created_at=1, updated_at=1)
        await tx.add(row)
        for slot, expires_at in (("_made", int(NOW) - 60), ("", int(NOW) - 60), ("_lasting", None)):
            made = Credential(connection_id="con_1", secret_type="token", slot_key=slot, version="v", value=b"")
            made.expires_at, made.updated_at = expires_at, 1
            await tx.add(made)
        names = dict.fromkeys(("organization_id", "target_key", "method", "config", "redirect_uri", "created_by"), "x")
        await tx.add(AuthorizationSession(state_hash="hash", expires_at=int(NOW) + 60, **names))


async def test_what_was_made_and_who_never_came_back_are_forgotten(base: Foundation) -> None:
    await fill_credentials(base)
    await upkeep.forget_what_is_over(base.database, NOW, KEPT_SECONDS)
    assert [await count(base, table) for table in (Credential, AuthorizationSession)] == [3, 1]
    await upkeep.forget_what_is_over(base.database, NOW + YEAR, KEPT_SECONDS)
    assert [await count(base, table) for table in (Credential, AuthorizationSession)] == [2, 0]


TABLES = (
    *(RenewalToken, TokenAnswer, Revocation, GatewayLease, GatewaySandbox, Resolution, Event),
    *(ApiKey, IdempotentAnswer, Worker, WorkerServer),
)


async def test_nothing_that_counts_is_forgotten(base: Foundation) -> None:
    await fill(base)
    before = [await count(base, table) for table in TABLES]
    await upkeep.forget_what_is_over(base.database, NOW, KEPT_SECONDS)
    assert [await count(base, table) for table in TABLES] == before
    assert 0 not in before


async def test_what_is_over_is_forgotten_but_the_newest_event(
    base: Foundation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "EVENTS_KEPT", 1)
    await fill(base)
    await revocations.revoke(base.database, "jti", "jti_2", int(NOW) + 60, NOW)
    # A worker's lease that has run out is told before it is forgotten.
    await Workers(base.database, lambda: NOW + YEAR).lose()
    await upkeep.forget_what_is_over(base.database, NOW + YEAR, KEPT_SECONDS)
    assert [await count(base, table) for table in TABLES] == [0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]


async def test_events_go_when_they_were_kept_for_as_long_as_was_asked(
    base: Foundation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "WEBHOOK_EVENTS_A_ROUND", 2)
    async with base.database.write() as tx:
        for number in range(5):
            event = WebhookEvent(id=f"evt_{number}", target_key="t", external_id=str(number), organization_id="org_1")
            event.connection_id, event.type, event.payload, event.state = "con_1", "message", "{}", "processed"
            event.received_at = int(NOW) if number == 0 else int(NOW - KEPT_SECONDS) - 1
            await tx.add(event)
    await upkeep.forget_what_is_over(base.database, NOW, KEPT_SECONDS)
    assert await count(base, WebhookEvent) == 1


async def test_it_goes_on_by_itself(base: Foundation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "EVERY_SECONDS", 0.001)
    calls: list[float] = []

    def now() -> float:
        calls.append(NOW)
        return NOW

    task = asyncio.get_running_loop().create_task(upkeep.keep_up(base.database, now, KEPT_SECONDS))
    await until(lambda: len(calls) > 2)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
