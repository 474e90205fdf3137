"""Leases of gateways over time."""

import asyncio

import pytest

from control_plane import leases, sandboxes
from control_plane.foundation import Foundation
from control_plane.leases import LEASE_SECONDS
from control_plane.refusals import Refused
from control_plane.store.leases import Held
from tests.support.control_plane import NOW, ORGANIZATION, SANDBOX


async def report(
    base: Foundation, gateway_id: str, held: dict[str, Held] | None = None, *, epoch: int = 1, at: float = NOW
) -> list[object]:
    answer = await leases.renew_lease(
        base.database,
        gateway_id,
        epoch=epoch,
        admin_url=f"http://{gateway_id}:9900",
        held=held or {},
        plan_revisions={},
        now=at,
    )
    assert answer["expiresInSeconds"] == LEASE_SECONDS
    assert isinstance(answer["superseded"], list)
    return answer["superseded"]


def tunnel(epoch: int) -> dict[str, Held]:
    return {SANDBOX: Held(True, epoch, 1)}


async def test_a_lease_ends_by_itself(base: Foundation) -> None:
    await report(base, "gw_1", tunnel(1))
    items = (await leases.gateways(base.database, NOW + LEASE_SECONDS - 1))["items"]
    assert isinstance(items, list)
    [item] = items
    assert item["expiresAt"] == NOW + LEASE_SECONDS
    assert item["sandboxes"] == [{"sandboxId": SANDBOX, "tunnel": True, "tunnelEpoch": 1}]
    assert (await leases.gateways(base.database, NOW + LEASE_SECONDS))["items"] == []


async def test_the_newer_tunnel_supersedes_while_its_lease_lives(base: Foundation) -> None:
    await report(base, "gw_1", tunnel(1))
    assert await report(base, "gw_2", tunnel(2)) == []
    assert await report(base, "gw_1", tunnel(1)) == [SANDBOX]
    assert await report(base, "gw_1", tunnel(3)) == []
    assert await report(base, "gw_2", tunnel(2)) == [SANDBOX]
    assert await report(base, "gw_2", tunnel(2), at=NOW + LEASE_SECONDS) == []
    assert await report(base, "gw_1", {SANDBOX: Held(False, 0, 1)}) == []


async def test_equal_epochs_have_one_loser(base: Foundation) -> None:
    await report(base, "gw_1", tunnel(1))
    lost = [await report(base, gateway_id, tunnel(1)) for gateway_id in ("gw_1", "gw_2", "gw_1")]
    assert lost == [[], [], [SANDBOX]]


async def test_of_two_that_report_at_once_one_learns_of_the_other(base: Foundation) -> None:
    async with asyncio.TaskGroup() as group:
        older = group.create_task(report(base, "gw_1", tunnel(1)))
        newer = group.create_task(report(base, "gw_2", tunnel(2)))
    assert newer.result() == []
    assert older.result() == [SANDBOX] or await report(base, "gw_1", tunnel(1)) == [SANDBOX]


async def test_a_newer_process_takes_the_name_over(base: Foundation) -> None:
    await report(base, "gw_1", epoch=5)
    await report(base, "gw_1", epoch=6)
    with pytest.raises(Refused, match="lease_conflict"):
        await report(base, "gw_1", epoch=5)
    await report(base, "gw_1", epoch=5, at=NOW + LEASE_SECONDS)


async def test_placement_names_the_newest_tunnel(base: Foundation) -> None:
    await sandboxes.create_sandbox(
        base.database, ORGANIZATION, sandbox_id=SANDBOX, profile_id=None, version=None, now=NOW
    )
    assert await leases.placement(base.database, SANDBOX, NOW) == {"gateways": []}
    await report(base, "gw_1", tunnel(2))
    await report(base, "gw_2", tunnel(1))
    await report(base, "gw_3", {SANDBOX: Held(False, 0, None)})
    await report(base, "gw_4", tunnel(9), at=NOW - LEASE_SECONDS)
    placed = (await leases.placement(base.database, SANDBOX, NOW))["gateways"]
    assert placed == [
        {"id": "gw_1", "adminUrl": "http://gw_1:9900", "tunnel": True, "revision": 1},
        {"id": "gw_2", "adminUrl": "http://gw_2:9900", "tunnel": False, "revision": 1},
        {"id": "gw_3", "adminUrl": "http://gw_3:9900", "tunnel": False},
    ]
    with pytest.raises(Refused, match="sandbox_not_found"):
        await leases.placement(base.database, "sbx_none", NOW)
