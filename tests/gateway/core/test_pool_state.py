"""Which link an exchange gets, against a model (egress cases C12, S11; the pool's own promises)."""

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.core.pool_state import Kept, PoolState

LINKS_PER_KEY = 3
IDLE_PER_KEY = 2
LINKS_PER_OWNER = 5


def pool(
    links: int = LINKS_PER_KEY, idle: int = IDLE_PER_KEY, of_owner: int = LINKS_PER_OWNER
) -> PoolState[str, str, str]:
    return PoolState(links_per_key=links, idle_per_key=idle, links_per_owner=of_owner, owner_of=lambda key: key[0])


# --- owners ---------------------------------------------------------------------------------------------------------


def test_an_owner_has_a_limit_over_all_its_keys() -> None:
    state = pool(of_owner=2)
    assert state.reserve("a1")
    assert state.reserve("a2")
    assert not state.reserve("a3")
    assert not state.reserve("a1")
    assert state.is_owner_full("a3")
    assert state.spare("a3") is None
    assert not state.is_owner_full("b1")
    assert state.spare("b1") is None
    assert state.reserve("b1")
    assert repr(state) == "<PoolState 3 open, 0 idle, 3 keys>"


def test_an_idle_link_of_the_owner_makes_room() -> None:
    state = pool(of_owner=2)
    for key in ("a1", "a2"):
        state.reserve(key)
        state.give_back(key, f"link of {key}")
    assert state.spare("a3") == "link of a1"
    assert state.lose("a1", "link of a1") is None
    assert state.reserve("a3")
    assert not state.reserve("a4")
    assert state.spare("a4") == "link of a2"


def test_a_dial_that_failed_gives_the_owner_its_place_back() -> None:
    state = pool(of_owner=1)
    for _ in range(3):
        assert state.reserve("a1")
        assert state.is_owner_full("a2")
        assert state.lose("a1", None) is None
    assert not state.is_owner_full("a1")


# --- one thing at a time ----------------------------------------------------------------------------------------------


def test_nothing_is_idle_at_first() -> None:
    state = pool()
    assert state.take("a") is None
    assert state.reserve("a")
    assert state.take("a") is None
    assert repr(state) == "<PoolState 1 open, 0 idle, 1 keys>"


def test_the_newest_idle_link_is_taken_first_and_once() -> None:
    state = pool()
    for link in ("old", "new"):
        assert state.reserve("a")
        assert state.give_back("a", link) is Kept.IDLE
    assert [state.take("a"), state.take("a"), state.take("a")] == ["new", "old", None]
    assert (state.open, state.idle) == (2, 0)


def test_c12_an_idle_link_of_another_key_is_nobody_s() -> None:
    state = pool()
    state.reserve("a")
    state.give_back("a", "link")
    assert state.take("b") is None
    assert state.take("a") == "link"


def test_a_key_has_a_limit_and_another_key_has_its_own() -> None:
    state = pool(links=1)
    assert state.reserve("a")
    assert not state.reserve("a")
    assert state.reserve("b")


def test_more_idle_links_than_kept_are_closed() -> None:
    state = pool(idle=1)
    for _ in range(2):
        state.reserve("a")
    assert state.give_back("a", "one") is Kept.IDLE
    assert state.give_back("a", "two") is Kept.FULL
    assert (state.open, state.idle) == (2, 1)  # until the shell has closed it and says so
    assert state.lose("a", "two") is None
    assert (state.open, state.idle) == (1, 1)


def test_a_link_that_comes_back_goes_to_who_waited_longest() -> None:
    state = pool(links=1)
    state.reserve("a")
    state.wait("a", "first")
    state.wait("a", "second")
    assert state.give_back("a", "link") == "first"
    assert state.give_back("a", "link") == "second"
    assert state.give_back("a", "link") is Kept.IDLE


def test_a_place_that_becomes_free_goes_to_who_waited_longest() -> None:
    state = pool(links=1)
    state.reserve("a")
    state.wait("a", "waiter")
    assert state.lose("a", "link") == "waiter"
    assert state.open == 1
    assert state.lose("a", None) is None  # its dial failed
    assert state.open == 0
    assert state.reserve("a")


def test_who_left_is_not_served() -> None:
    state = pool(links=1)
    state.reserve("a")
    state.wait("a", "gone")
    state.wait("a", "here")
    state.abandon("a", "gone")
    state.abandon("a", "gone")
    state.abandon("b", "gone")
    assert state.give_back("a", "link") == "here"


def test_an_idle_link_that_dies_leaves_the_pool() -> None:
    state = pool()
    for link in ("one", "two"):
        state.reserve("a")
        state.give_back("a", link)
    assert state.lose("a", "one") is None
    assert (state.open, state.idle) == (1, 1)
    assert state.take("a") == "two"


def test_a_key_without_links_takes_no_memory() -> None:
    state = pool()
    for number in range(100):
        state.reserve(f"key {number}")
        state.give_back(f"key {number}", "link")
        state.lose(f"key {number}", "link")
    assert repr(state) == "<PoolState 0 open, 0 idle, 0 keys>"


def test_idle_links_by_key() -> None:
    state = pool()
    for key in ("a", "b"):
        state.reserve(key)
        state.give_back(key, f"{key} link")
    state.reserve("a")
    assert state.idle_links(lambda key: key == "a") == ["a link"]
    assert sorted(state.idle_links(lambda key: True)) == ["a link", "b link"]
    assert state.idle == 2


# --- any order --------------------------------------------------------------------------------------------------------

KEYS = st.sampled_from(["a", "b"])


class AgainstModel(RuleBasedStateMachine):
    """A pool, and what an outsider can know of it: who has which link, who dials, who waits."""

    def __init__(self) -> None:
        super().__init__()
        self.state: PoolState[str, int, int] = PoolState(
            links_per_key=LINKS_PER_KEY,
            idle_per_key=IDLE_PER_KEY,
            links_per_owner=1000,
            owner_of=lambda key: key,
        )
        self.number = 0
        self.dialling = {"a": 0, "b": 0}
        self.in_use: dict[str, list[int]] = {"a": [], "b": []}
        self.idle: dict[str, list[int]] = {"a": [], "b": []}
        self.closing: dict[str, list[int]] = {"a": [], "b": []}
        self.waiting: dict[str, list[int]] = {"a": [], "b": []}

    def fresh(self) -> int:
        self.number += 1
        return self.number

    def open_links(self, key: str) -> int:
        return self.dialling[key] + len(self.in_use[key]) + len(self.idle[key]) + len(self.closing[key])

    @rule(key=KEYS)
    def exchange_begins(self, key: str) -> None:
        link = self.state.take(key)
        if self.idle[key]:
            assert link == self.idle[key].pop()
            self.in_use[key].append(link)
            return
        assert link is None
        reserved = self.state.reserve(key)
        assert reserved == (self.open_links(key) < LINKS_PER_KEY)
        if reserved:
            self.dialling[key] += 1
        else:
            waiter = self.fresh()
            self.state.wait(key, waiter)
            self.waiting[key].append(waiter)

    @rule(key=KEYS, succeeds=st.booleans())
    def dial_ends(self, key: str, succeeds: bool) -> None:
        if not self.dialling[key]:
            return
        self.dialling[key] -= 1
        if succeeds:
            self.in_use[key].append(self.fresh())
        else:
            self.place_is_free(key, self.state.lose(key, None))

    @rule(key=KEYS, data=st.data())
    def exchange_ends(self, key: str, data: st.DataObject) -> None:
        if not self.in_use[key]:
            return
        link = data.draw(st.sampled_from(self.in_use[key]))
        answer = self.state.give_back(key, link)
        if self.waiting[key]:
            assert answer == self.waiting[key].pop(0)  # who has the link now
            return
        self.in_use[key].remove(link)
        is_full = len(self.idle[key]) == IDLE_PER_KEY
        assert answer is (Kept.FULL if is_full else Kept.IDLE)
        (self.closing if is_full else self.idle)[key].append(link)

    @rule(key=KEYS, data=st.data())
    def link_is_lost(self, key: str, data: st.DataObject) -> None:
        places = [links for links in (self.in_use[key], self.idle[key], self.closing[key]) if links]
        if not places:
            return
        links = data.draw(st.sampled_from(places))
        link = data.draw(st.sampled_from(links))
        links.remove(link)
        self.place_is_free(key, self.state.lose(key, link))

    @precondition(lambda self: any(self.waiting.values()))
    @rule(key=KEYS, data=st.data())
    def waiter_gives_up(self, key: str, data: st.DataObject) -> None:
        if self.waiting[key]:
            waiter = data.draw(st.sampled_from(self.waiting[key]))
            self.waiting[key].remove(waiter)
            self.state.abandon(key, waiter)

    def place_is_free(self, key: str, waiter: int | None) -> None:
        if self.waiting[key]:
            assert waiter == self.waiting[key].pop(0)
            self.dialling[key] += 1
        else:
            assert waiter is None

    @invariant()
    def counts_agree_and_limits_hold(self) -> None:
        assert self.state.open == sum(map(self.open_links, self.dialling))
        assert self.state.idle == sum(map(len, self.idle.values()))
        for key in self.dialling:
            assert self.open_links(key) <= LINKS_PER_KEY
            assert self.state.idle_links(lambda other, key=key: other == key) == self.idle[key]  # type: ignore[misc]  # a bound default
            # No waiter is lost: one waits only while the key has all it may have and none of it is idle.
            assert not self.waiting[key] or (self.open_links(key) == LINKS_PER_KEY and not self.idle[key])
        keys_in_use = sum(1 for key in self.dialling if self.open_links(key))
        assert f"{keys_in_use} keys" in repr(self.state)


TestAgainstModel = pytest.mark.filterwarnings("default")(AgainstModel.TestCase)
