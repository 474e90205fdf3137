from control_plane.foundation import Foundation
from control_plane.store import events
from tests.support.control_plane import NOW


async def emit(base: Foundation, count: int, at: float = NOW) -> None:
    async with base.database.write() as tx:
        for number in range(count):
            tx.emit("plan", {"number": number}, at)


async def test_events_of_one_transaction_keep_their_order(base: Foundation) -> None:
    await emit(base, 20)
    async with base.database.read() as tx:
        found = await events.events_after(tx, 0, 100)
        assert [event.body for event in found] == [f'{{"number":{number}}}' for number in range(20)]
        assert [event.id for event in await events.events_after(tx, found[4].id, 3)] == [
            event.id for event in found[5:8]
        ]


async def test_the_range_of_nothing_and_of_something(base: Foundation) -> None:
    async with base.database.read() as tx:
        assert await events.known_range(tx) == (0, 0)
    await emit(base, 3)
    async with base.database.read() as tx:
        oldest, newest = await events.known_range(tx)
    assert newest - oldest == 2


async def test_old_events_go_but_never_the_newest_ones(base: Foundation) -> None:
    await emit(base, 5, at=10)
    await emit(base, 5, at=20)
    async with base.database.write() as tx:
        assert await events.forget_events(tx, keep=7, before=15) == 3
        assert await events.forget_events(tx, keep=1, before=15) == 2
        assert await events.forget_events(tx, keep=1, before=100) == 4
        assert await events.forget_events(tx, keep=1, before=100) == 0


async def test_no_hole_is_left_where_clocks_of_replicas_differ(base: Foundation) -> None:
    for at in (10, 30, 10, 30):
        await emit(base, 1, at=at)
    async with base.database.write() as tx:
        assert await events.forget_events(tx, keep=1, before=20) == 1
        found = [event.at for event in await events.events_after(tx, 0, 9)]
    assert found == [30, 10, 30]


async def test_revocations_by_kind_and_instant(base: Foundation) -> None:
    async with base.database.write() as tx:
        await events.put_revocation(tx, "jti", "a", int(NOW) + 5)
        await events.put_revocation(tx, "sid", "a", int(NOW) - 5)
        await events.put_revocation(tx, "jti", "a", int(NOW) + 9)
    async with base.database.write() as tx:
        assert [(row.kind, row.until) for row in await events.revocations(tx, NOW)] == [("jti", NOW + 9)]
        assert await events.is_revoked(tx, [("sid", "a")], NOW) is None
        assert await events.forget_revocations(tx, NOW) == 1
