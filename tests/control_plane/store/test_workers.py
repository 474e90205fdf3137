from control_plane.foundation import Foundation
from control_plane.store import workers
from control_plane.store.workers import ServerRow
from tests.support.control_plane import NOW

RUNNING = ServerRow("standard", "running", '["a"]', None)
STOPPED = ServerRow("admin", "stopped", "[]", "sbx_one")


async def put(base: Foundation, worker_id: str, servers: dict[str, ServerRow], expires_at: float = NOW + 30) -> None:
    async with base.database.write() as tx:
        row = await workers.locked(tx, worker_id, "withdrawn")
        row.epoch, row.state, row.expires_at = 1, "live", int(expires_at)
        await workers.put_servers(tx, worker_id, servers)


async def rows_of(base: Foundation, worker_id: str) -> dict[str, ServerRow]:
    async with base.database.read() as tx:
        found = await workers.servers_of(tx, worker_id)
    return {row.server_id: ServerRow(row.tier, row.status, row.tools, row.sandbox_id) for row in found}


async def test_a_report_replaces_the_one_before(base: Foundation) -> None:
    await put(base, "wrk_1", {"a": RUNNING, "b": STOPPED})
    await put(base, "wrk_2", {"a": STOPPED})
    await put(base, "wrk_1", {"b": RUNNING, "c": STOPPED})
    assert await rows_of(base, "wrk_1") == {"b": RUNNING, "c": STOPPED}
    assert await rows_of(base, "wrk_2") == {"a": STOPPED}


async def test_one_that_was_never_there_begins_in_a_state_and_is_then_the_same(base: Foundation) -> None:
    async with base.database.write() as tx:
        row = await workers.locked(tx, "wrk_1", "withdrawn")
        assert (row.epoch, row.state, row.expires_at, row.front_url) == (0, "withdrawn", 0, None)
        row.epoch = 7
    async with base.database.write() as tx:
        assert (await workers.locked(tx, "wrk_1", "live")).epoch == 7


async def test_the_one_with_the_fewest_servers_comes_first(base: Foundation) -> None:
    await put(base, "wrk_1", {"a": RUNNING, "b": RUNNING})
    await put(base, "wrk_2", {"a": RUNNING})
    await put(base, "wrk_3", {})
    await put(base, "wrk_4", {}, expires_at=NOW)
    async with base.database.read() as tx:
        assert [each.worker_id for each in await workers.live_by_load(tx, "live", NOW)] == ["wrk_3", "wrk_2", "wrk_1"]
        assert await workers.ran_out(tx, "live", NOW) == ["wrk_4"]
        assert [each.worker_id for each in await workers.page(tx, "wrk_2", 1)] == ["wrk_3"]


async def test_what_ran_out_long_ago_is_forgotten_with_its_servers(base: Foundation) -> None:
    await put(base, "wrk_1", {"a": RUNNING}, expires_at=NOW - 10)
    await put(base, "wrk_2", {"a": RUNNING})
    async with base.database.write() as tx:
        assert await workers.forget_workers(tx, ("lost",), NOW) == 0
        assert await workers.forget_workers(tx, ("live",), NOW) == 1
    assert await rows_of(base, "wrk_1") == {}
    async with base.database.read() as tx:
        assert await workers.worker(tx, "wrk_1") is None
        found = await workers.servers_of_all(tx, ("live",))
    assert [(worker.worker_id, server.server_id) for worker, server in found] == [("wrk_2", "a")]
