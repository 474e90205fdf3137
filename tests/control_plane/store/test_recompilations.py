"""A recompilation is taken by one, and one that is asked for again meanwhile is not lost."""

from control_plane.foundation import Foundation
from control_plane.store import recompilations as rows
from control_plane.store.models import Recompilation
from tests.support.control_plane import NOW

LEASE = NOW + 60


async def take(base: Foundation, now: float = NOW) -> Recompilation | None:
    async with base.database.write() as tx:
        return await rows.take(tx, now, now + 60)


async def ask(base: Foundation, *versions: int, now: float = NOW) -> None:
    async with base.database.write() as tx:
        for version in versions:
            await rows.request(tx, "sbp_1", version, now)


async def test_each_is_taken_once_the_longest_waiting_first(base: Foundation) -> None:
    await ask(base, 2, now=NOW - 5)
    await ask(base, 1, 1)
    first, second = await take(base), await take(base)
    assert first is not None
    assert second is not None
    assert [(first.version, first.requests, first.attempts), (second.version, second.requests)] == [(2, 1, 1), (1, 2)]
    assert await take(base) is None
    again = await take(base, LEASE)
    assert again is not None
    assert again.attempts == 2


async def test_what_was_compiled_is_forgotten_unless_it_was_asked_for_again(base: Foundation) -> None:
    await ask(base, 1)
    taken = await take(base)
    assert taken is not None
    await ask(base, 1)
    assert await take(base) is None, "it is being compiled"
    async with base.database.write() as tx:
        await rows.finish(tx, taken, NOW)
    taken = await take(base)
    assert taken is not None
    assert taken.attempts == 1
    async with base.database.write() as tx:
        await rows.finish(tx, taken, NOW)
    assert await take(base, LEASE) is None


async def test_what_failed_waits(base: Foundation) -> None:
    await ask(base, 1)
    taken = await take(base)
    assert taken is not None
    async with base.database.write() as tx:
        await rows.put_off(tx, taken, NOW + 2)
    assert await take(base, NOW + 1) is None
    assert await take(base, NOW + 2) is not None
