"""What runs where: reports and their leases over time, who hears of a change, what is known of those that are gone."""

import asyncio

import pytest

from control_plane.foundation import Foundation
from control_plane.refusals import Refused
from control_plane.store import events
from control_plane.store.database import Transaction
from control_plane.workers import LEASE_SECONDS, DeclaredServer, ReportedServer, WorkerChange, Workers
from tests.support.control_plane import NOW

FRONT = "https://front.test:443"


def server(server_id: str = "time", status: str = "running", *tools: str, tier: str = "standard") -> ReportedServer:
    return ReportedServer(server_id=server_id, tier=tier, status=status, tools=tools)


class Stand:
    """Workers at an instant that a test sets, and what was heard of them."""

    def __init__(self, base: Foundation) -> None:
        self.base = base
        self.now = NOW
        self.workers = Workers(base.database, lambda: self.now)
        self.workers.on_change.append(self.hear)
        self.heard: list[WorkerChange] = []

    async def hear(self, tx: Transaction, change: WorkerChange, now: float) -> None:
        self.heard.append(change)

    async def report(self, worker_id: str, *servers: ReportedServer, epoch: int = 1) -> None:
        seconds = await self.workers.report(
            worker_id, epoch=epoch, api_url=f"http://{worker_id}:4200", front_url=FRONT, servers=servers
        )
        assert seconds == LEASE_SECONDS

    async def running(self) -> tuple[list[str], list[str], bool]:
        found = await self.workers.registered()
        named = [[f"{each.worker_id}/{each.server_id}" for each in some] for some in (found.servers, found.lost)]
        return named[0], named[1], found.is_verified

    def changes(self) -> list[tuple[str, list[str], list[str]]]:
        """Return what was heard since this was asked last."""
        heard, self.heard = self.heard, []
        return [
            (each.worker_id, [one.server_id for one in each.before], [one.server_id for one in each.after])
            for each in heard
        ]

    async def events(self) -> list[str]:
        async with self.base.database.read() as tx:
            return [row.kind for row in await events.events_after(tx, 0, 100)]


@pytest.fixture
def stand(base: Foundation) -> Stand:
    return Stand(base)


async def test_what_is_reported_runs_and_a_change_is_told_once(stand: Stand) -> None:
    await stand.report("wrk_1", server("time", "running", "now", "convert"))
    [found] = (await stand.workers.registered()).servers
    assert (found.worker_id, found.server_id, found.tools) == ("wrk_1", "time", ("now", "convert"))
    assert (found.tier, found.status, found.front_url, found.sandbox_id) == ("standard", "running", FRONT, None)
    assert stand.changes() == [("wrk_1", [], ["time"])]
    await stand.report("wrk_1", server("time", "running", "now", "convert"))
    assert stand.changes() == []
    await stand.report("wrk_1", server("time", "restarting", "now"), server("git"))
    assert stand.changes() == [("wrk_1", ["time"], ["git", "time"])]
    assert await stand.events() == ["workers_changed", "workers_changed"]


async def test_a_lease_that_ran_out_takes_everything_with_it_and_is_told_once(stand: Stand) -> None:
    await stand.report("wrk_1", server())
    await stand.report("wrk_2", server("git"))
    assert await stand.running() == (["wrk_1/time", "wrk_2/git"], [], True)
    stand.now += LEASE_SECONDS - 1
    await stand.report("wrk_2", server("git"))
    assert (await stand.workers.lose(), stand.changes()[2:]) == (0, [])
    stand.now += 1
    # Before anybody has noted it.
    assert await stand.running() == (["wrk_2/git"], ["wrk_1/time"], False)
    assert await stand.workers.lose() == 1
    assert (await stand.workers.lose(), stand.changes()) == (0, [("wrk_1", ["time"], [])])
    assert await stand.running() == (["wrk_2/git"], ["wrk_1/time"], False)
    await stand.report("wrk_1", server())
    assert (stand.changes(), await stand.running()) == (
        [("wrk_1", [], ["time"])],
        (["wrk_1/time", "wrk_2/git"], [], True),
    )


async def test_one_that_was_withdrawn_is_not_missed(stand: Stand) -> None:
    await stand.report("wrk_1", server(), epoch=5)
    await stand.workers.withdraw("wrk_1", 5)
    assert (stand.changes()[1:], await stand.running()) == ([("wrk_1", ["time"], [])], ([], [], True))
    await stand.workers.withdraw("wrk_1", 5)
    await stand.workers.withdraw("wrk_2", 5)
    assert stand.changes() == []
    # A process that was replaced and wakes up is still none.
    with pytest.raises(Refused, match="lease_conflict"):
        await stand.report("wrk_1", server(), epoch=4)
    await stand.report("wrk_1", server(), epoch=6)
    assert await stand.running() == (["wrk_1/time"], [], True)


async def test_one_that_is_lost_can_be_forgotten_and_nobody_waits_for_it(stand: Stand) -> None:
    await stand.report("wrk_1", server("time"))
    await stand.report("wrk_2", server("mail"))
    with pytest.raises(Refused, match="end it, or wait until 30 s after its last word"):
        await stand.workers.forget("wrk_1")
    stand.now += LEASE_SECONDS + 1
    await stand.report("wrk_2", server("mail"))
    stand.changes()
    # Its end was not noted yet: whoever has to know of what it ran hears of that now.
    await stand.workers.forget("wrk_1")
    assert stand.changes() == [("wrk_1", ["time"], [])]
    assert await stand.running() == (["wrk_2/mail"], [], True)
    with pytest.raises(Refused, match="never registered, or was forgotten"):
        await stand.workers.forget("wrk_1")
    stand.now += LEASE_SECONDS + 1
    await stand.workers.lose()
    assert await stand.running() == ([], ["wrk_2/mail"], False)
    stand.changes()
    before = len(await stand.events())
    await stand.workers.forget("wrk_2")
    assert (stand.changes(), await stand.running()) == ([], ([], [], True))
    assert (await stand.events())[before:] == ["workers_changed"]


async def test_an_older_epoch_changes_nothing_also_when_the_newer_one_is_lost(stand: Stand) -> None:
    await stand.report("wrk_1", server("old"), epoch=5)
    await stand.report("wrk_1", server("new"), epoch=6)
    for _ in range(2):
        with pytest.raises(Refused, match="lease_conflict"):
            await stand.report("wrk_1", server("old"), epoch=5)
        await stand.workers.withdraw("wrk_1", 5)
        stand.now += LEASE_SECONDS
    assert await stand.running() == ([], ["wrk_1/new"], False)


async def test_who_hears_of_a_change_may_undo_it(stand: Stand) -> None:
    async def refuse(tx: Transaction, change: WorkerChange, now: float) -> None:
        raise RuntimeError("not this one")

    stand.workers.on_change.append(refuse)
    with pytest.raises(RuntimeError, match="not this one"):
        await stand.report("wrk_1", server())
    assert (await stand.running(), await stand.events()) == (([], [], True), [])


async def test_two_first_reports_at_once_are_one_worker(stand: Stand) -> None:
    async with asyncio.TaskGroup() as group:
        for name in ("a", "b"):
            group.create_task(stand.report("wrk_1", server(name)))
    assert (await stand.running())[0] in (["wrk_1/a"], ["wrk_1/b"])


async def test_a_worker_is_chosen_by_how_little_it_has_to_do(stand: Stand) -> None:
    with pytest.raises(Refused, match="worker_unavailable"):
        await stand.workers.find(None)
    await stand.report("wrk_1", server("a"), server("b"))
    await stand.report("wrk_2", server("a"))
    assert await stand.workers.find(None) == ("wrk_2", "http://wrk_2:4200")
    assert await stand.workers.find("wrk_1") == ("wrk_1", "http://wrk_1:4200")
    with pytest.raises(Refused, match="worker_not_found"):
        await stand.workers.find("wrk_9")
    stand.now += LEASE_SECONDS
    await stand.report("wrk_1", server("a"))
    with pytest.raises(Refused, match="worker_unavailable"):
        await stand.workers.find("wrk_2")
    assert (await stand.workers.find(None))[0] == "wrk_1"


async def test_what_is_declared_is_what_everybody_declares(stand: Stand) -> None:
    declared = DeclaredServer(server_id="time", source="time", tier="standard", desired="running")

    async def declares(tx: Transaction, worker_id: str) -> list[DeclaredServer]:
        return [declared] if worker_id == "wrk_1" else []

    stand.workers.declares.append(declares)
    assert await stand.workers.declared("wrk_1") == [declared]
    assert await stand.workers.declared("wrk_2") == []


async def test_leases_are_watched(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("control_plane.workers.EXPIRY_SECONDS", 0.001)
    await stand.report("wrk_1", server())
    stand.now += LEASE_SECONDS
    watching = asyncio.get_running_loop().create_task(stand.workers.watch_leases())
    async with asyncio.timeout(10):
        while len(stand.heard) < 2:  # noqa: ASYNC110  nothing announces it
            await asyncio.sleep(0.001)
    watching.cancel()
    await asyncio.wait([watching])
