"""Calls at a front: what is there for a key, and that all else looks like nothing."""

import hashlib

from control_plane import leases, sandboxes
from control_plane.feed import keys
from control_plane.feed.admission import Admission, AtWorker, InSandbox, admit, document
from control_plane.feed.tiers import TIERS, Tier
from control_plane.foundation import Foundation
from control_plane.store import feed as rows
from control_plane.store.leases import Held
from tests.support.control_plane import NOW, ORGANIZATION, SANDBOX
from tests.support.feed_stage import WORKER, FeedStage, runs

ADMIN_URL = "http://127.0.0.1:9900"


async def ask(
    base: Foundation, made: dict[str, object], name: str, worker_id: str = WORKER, now: float = NOW
) -> Admission | None:
    key_hash = hashlib.sha256(str(made["key"]).encode()).hexdigest()
    return await admit(base.database, worker_id, key_hash, name, now)


async def place(base: Foundation, made: dict[str, object], name: str, worker_id: str = WORKER) -> object:
    found = await ask(base, made, name, worker_id)
    assert found is not None
    return found.place


async def test_what_is_there_for_a_key_and_what_looks_like_nothing(base: Foundation) -> None:
    stage = FeedStage(base)
    await stage.prepare()
    await stage.prepare("inst_two", "org_two")
    await stage.own("search")
    await stage.own("ops", tier=Tier.ADMIN)
    await stage.own("notes__user_u__i", user_id="u")
    await stage.own("theirs", instance_id="inst_two")
    standard, admin = await stage.key(), await stage.key(Tier.ADMIN)
    there = {
        ("standard", "search"),
        ("standard", "notes__user_u__i"),
        *(("admin", name) for name in ("search", "ops", "notes__user_u__i")),
    }
    for label, key in (("standard", standard), ("admin", admin)):
        for name in ("search", "ops", "notes__user_u__i", "notes__user_v__i", "theirs", "nothing", "-", ""):
            expected = AtWorker(name) if (label, name) in there else None
            assert await place(base, key, name) == expected, (label, name)
            assert await place(base, key, name, "wrk_2") is None
    assert document(await ask(base, standard, "ops")) == document(await ask(base, standard, "nothing"))


async def test_a_key_that_opens_nothing(base: Foundation) -> None:
    stage = FeedStage(base)
    await stage.prepare()
    await stage.own("search")
    made = await stage.key()
    assert await admit(base.database, WORKER, "0" * 64, "search", NOW) is None
    await keys.revoke(base.database, str(made["clientKeyId"]), TIERS, NOW)
    assert await ask(base, made, "search") is None
    assert document(None) == {}


async def test_servers_of_sandboxes_are_behind_the_gateway_that_has_the_tunnel(base: Foundation) -> None:
    stage = FeedStage(base)
    await stage.prepare()
    made = await stage.key()
    await sandboxes.create_sandbox(
        base.database, ORGANIZATION, sandbox_id=SANDBOX, profile_id=None, version=None, now=NOW
    )
    async with base.database.write() as tx:
        await rows.put_plan_servers(tx, SANDBOX, ["files"])
    held = {SANDBOX: Held(True, 1, 1)}
    await leases.renew_lease(base.database, "gw_1", epoch=1, admin_url=ADMIN_URL, held=held, plan_revisions={}, now=NOW)
    name = f"sandbox__{SANDBOX}__files"
    assert await place(base, made, name) is None  # not served yet
    await stage.report(runs("github", sandbox_id=SANDBOX), runs("ops", tier=Tier.ADMIN, sandbox_id=SANDBOX))
    await stage.keeper.look()
    assert await place(base, made, name, "wrk_2") == InSandbox(SANDBOX, "files", ADMIN_URL)
    assert await place(base, made, f"sandbox__{SANDBOX}__shell") is None
    assert await place(base, made, f"sandbox__{SANDBOX}__github") == AtWorker("github")
    assert await place(base, made, f"sandbox__{SANDBOX}__ops") is None
    assert document(await ask(base, made, name)) == {
        "keyId": made["clientKeyId"],
        "tier": "standard",
        "server": {"serverId": "files", "sandboxId": SANDBOX, "adminUrl": ADMIN_URL},
    }
    told = document(await ask(base, made, f"sandbox__{SANDBOX}__github"))
    assert told["server"] == {"serverId": "github"}
    gone = await ask(base, made, name, now=NOW + leases.LEASE_SECONDS + 1)
    assert gone is not None
    assert gone.place is None
    await sandboxes.delete_sandbox(base.database, SANDBOX, NOW)
    assert await place(base, made, name) is None
