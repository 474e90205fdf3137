import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from sallyport.net.dial_error import DialError, DialFault
from sallyport.net.resolve import MAX_ADDRESSES, Resolver, lookup_addresses
from tests.support.descriptors import no_descriptors
from tests.support.names import PUBLIC, Names
from tests.support.until import until


async def test_answers_are_kept_for_the_ttl_and_then_asked_for_again() -> None:
    now = 100.0
    names = Names(a_test=(PUBLIC,))
    resolver = Resolver(names, ttl_seconds=5, now=lambda: now)
    for now in (100.0, 104.9, 105.0):  # noqa: B007  the lambda reads it
        assert await resolver.resolve("a.test", 1) == (PUBLIC,)
    assert names.asked == ["a.test", "a.test"]


async def test_one_lookup_serves_all_who_wait_even_when_the_first_gives_up() -> None:
    names = Names(a_test=(PUBLIC,))
    names.gate.clear()
    resolver = Resolver(names)
    async with asyncio.TaskGroup() as group:
        first = group.create_task(resolver.resolve("a.test", 5))
        others = [group.create_task(resolver.resolve("a.test", 5)) for _ in range(20)]
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.sleep(0)
        names.gate.set()
    assert {task.result() for task in others} == {(PUBLIC,)}
    assert names.asked == ["a.test"]


async def test_slow_lookup_times_out_and_its_answer_serves_the_next() -> None:
    names = Names(a_test=(PUBLIC,))
    names.gate.clear()
    resolver = Resolver(names)
    with pytest.raises(DialError) as caught:
        await resolver.resolve("a.test", 0)
    assert caught.value.kind is DialFault.TIMEOUT
    names.gate.set()
    assert await resolver.resolve("a.test", 5) == (PUBLIC,)
    assert names.asked == ["a.test"]


async def test_failure_is_remembered_for_a_second() -> None:
    now = 0.0
    names = Names()
    resolver = Resolver(names, now=lambda: now)
    for now in (0.0, 0.9, 1.0):  # noqa: B007  the lambda reads it
        with pytest.raises(DialError) as caught:
            await resolver.resolve("gone.test", 1)
        assert caught.value.kind is DialFault.UNRESOLVED
    assert len(names.asked) == 2


async def test_empty_answer_is_unresolved() -> None:
    with pytest.raises(DialError) as caught:
        await Resolver(Names(a_test=())).resolve("a.test", 1)
    assert caught.value.kind is DialFault.UNRESOLVED


async def test_t5_an_answer_of_too_many_addresses_is_refused_as_a_whole_and_remembered() -> None:
    now = 0.0
    most = tuple(f"93.184.216.{number}" for number in range(MAX_ADDRESSES))
    names = Names(most_test=most, more_test=(*most, "93.184.216.250"))
    resolver = Resolver(names, now=lambda: now)
    assert await resolver.resolve("most.test", 1) == most
    for now in (0.0, 0.9, 1.0):  # noqa: B007  the lambda reads it
        with pytest.raises(DialError) as caught:
            await resolver.resolve("more.test", 1)
        assert caught.value.kind is DialFault.UNRESOLVED
        assert caught.value.detail == "more.test: the answer has 65 addresses, more than 64"
    assert names.asked == ["most.test", "more.test", "more.test"]


async def test_t5_what_has_expired_is_dropped_when_something_new_is_remembered() -> None:
    now = 0.0
    names = Names(a_test=(PUBLIC,), b_test=(PUBLIC,), c_test=(PUBLIC,), d_test=(PUBLIC,))
    resolver = Resolver(names, ttl_seconds=5, now=lambda: now)
    kept = []
    for now, host in ((0.0, "a.test"), (1.0, "b.test"), (5.9, "c.test"), (6.0, "d.test")):  # noqa: B007  the lambda reads it
        await resolver.resolve(host, 1)
        kept.append(repr(resolver).split()[1])
    assert kept == ["1", "2", "2", "2"]


async def test_names_kept_are_bounded() -> None:
    names = Names(a_test=("1.1.1.1",), b_test=("1.1.1.1",), c_test=("1.1.1.1",))
    resolver = Resolver(names, max_names=2)
    for host in ("a.test", "b.test", "c.test", "b.test", "a.test"):
        await resolver.resolve(host, 1)
    assert names.asked == ["a.test", "b.test", "c.test", "a.test"]
    assert repr(resolver) == "<Resolver: 2 names known, 0 being looked up>"


class SlowNames(Names):
    """Names under `slow.` are answered when the gate opens, all others at once."""

    def __call__(self, host: str) -> tuple[str, ...]:
        if host.startswith("slow"):
            return super().__call__(host)
        self.asked.append(host)
        return (PUBLIC,)


@contextlib.asynccontextmanager
async def flooded(count: int) -> AsyncIterator[tuple[Resolver, SlowNames]]:
    """One sandbox has asked for so many slow names, and a fast one after them."""
    names = SlowNames(**{f"slow{number}_test": (PUBLIC,) for number in range(count)})
    names.gate.clear()
    resolver = Resolver(names, max_concurrent=4, max_each=2)
    async with asyncio.TaskGroup() as group:
        for host in (*names.table, "fast.test"):
            group.create_task(resolver.resolve(host, 5, "sbx_slow"), name=host)
        await until(lambda: len(names.asked) == 2)  # on threads, which take what is theirs when they run
        yield resolver, names
        names.gate.set()
    resolver.close()


async def test_one_sandbox_s_slow_names_do_not_hold_up_another() -> None:
    async with flooded(64) as (resolver, names):
        assert await resolver.resolve("other.test", 5, "sbx_other") == (PUBLIC,)
        # Also where both want it, and it stands far back in the queue of the one.
        assert await resolver.resolve("fast.test", 5, "sbx_other") == (PUBLIC,)
        assert sum(name.startswith("slow") for name in names.asked) == 2
    assert names.asked.count("fast.test") == 1


async def test_a_lookup_that_has_not_begun_ends_with_the_last_who_wants_it() -> None:
    async with flooded(2) as (resolver, names):
        for _ in range(2):
            with pytest.raises(DialError) as caught:
                await resolver.resolve("late.test", 0, "sbx_slow")
            assert caught.value.kind is DialFault.TIMEOUT
    assert "late.test" not in names.asked
    assert repr(resolver).endswith("0 being looked up>")


async def test_t5_a_name_is_not_unknown_because_we_have_no_descriptor() -> None:
    resolver = Resolver()
    await resolver.resolve("localhost", 5)  # what is loaded at first needs some
    with no_descriptors():
        assert await _fault_of(resolver, "api.test") is DialFault.OVERLOADED
    # Nothing was learned about the name.
    assert repr(resolver) == "<Resolver: 1 names known, 0 being looked up>"
    resolver.close()


async def test_closed_resolver_fails_what_waits_and_what_comes() -> None:
    names = Names(a_test=(PUBLIC,))
    names.gate.clear()
    resolver = Resolver(names, max_concurrent=1)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(resolver.resolve("a.test", 5))
        queued = group.create_task(_fault_of(resolver, "b.test"))
        await until(lambda: names.asked == ["a.test"])  # what no thread has taken yet is not running
        resolver.close()
        assert await queued is DialFault.UNRESOLVED
        assert await _fault_of(resolver, "c.test") is DialFault.UNRESOLVED
        names.gate.set()
        assert await running == (PUBLIC,)


async def _fault_of(resolver: Resolver, host: str) -> DialFault:
    with pytest.raises(DialError) as caught:
        await resolver.resolve(host, 5)
    return caught.value.kind


def test_system_lookup_gives_numeric_addresses_once_each() -> None:
    addresses = lookup_addresses("localhost")
    assert set(addresses) <= {"127.0.0.1", "::1"}
    assert addresses
    assert len(set(addresses)) == len(addresses)
