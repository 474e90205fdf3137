"""Which upstream link an exchange gets, against a model (egress cases C12, S11; the pool's own promises)."""

from collections import Counter

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.core.pool_state import Kept, PoolState, Room

LINKS_PER_KEY = 3
IDLE_PER_KEY = 2
LINKS_PER_OWNER = 5


class Link:
    """A link that only has a name."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.holder = ""

    def __repr__(self) -> str:
        return f"{self.name} of {self.holder or 'nobody'}"


class Pool:
    """Keys of one owner begin with its letter; those of an owner in capitals are shared."""

    def __init__(
        self, *, links: int = LINKS_PER_KEY, idle: int = IDLE_PER_KEY, of_owner: int = LINKS_PER_OWNER
    ) -> None:
        self.state: PoolState[str, Link, str] = PoolState(
            links_per_key=links,
            idle_per_key=idle,
            links_per_owner=of_owner,
            owner_of=lambda key: key[0],
            is_shared=str.isupper,
        )

    def reserve(self, key: str, holder: str = "one") -> Room:
        return self.state.reserve(key, holder, Link(key))

    def dial(self, key: str, holder: str = "one") -> Link:
        """Take a place, which there is, and return the link."""
        link = Link(key)
        assert self.state.reserve(key, holder, link) is Room.TAKEN
        return link

    def wait(self, key: str, waiter: str, holder: str = "one") -> Link:
        """Wait, and return what is to be dialled."""
        link = Link(waiter)
        assert self.state.reserve(key, holder, link) is Room.LATER
        self.state.wait(key, holder, waiter, link)
        return link


# --- owners ---------------------------------------------------------------------------------------------------------


def test_an_owner_has_a_limit_over_all_its_keys() -> None:
    pool = Pool(of_owner=2)
    pool.dial("a1")
    pool.dial("a2")
    assert pool.reserve("a3") is Room.NONE
    assert pool.reserve("a1") is Room.NONE
    assert pool.state.spare("a3") is None
    assert pool.state.spare("b1") is None
    pool.dial("b1")
    assert repr(pool.state) == "<PoolState 3 open, 0 idle, 3 keys>"


def test_an_idle_link_of_the_owner_makes_room() -> None:
    pool = Pool(of_owner=2)
    links = [pool.dial(key) for key in ("a1", "a2")]
    for key, link in zip(("a1", "a2"), links, strict=True):
        pool.state.give_back(key, link)
    for link in links:
        assert pool.reserve("a3") is Room.AFTER_SPARE
        assert pool.state.spare("a3") == link
        assert pool.state.lose(link.name, link) is None
        pool.dial("a3")
    assert pool.reserve("a3") is Room.NONE


def test_a_dial_that_failed_gives_the_owner_its_place_back() -> None:
    pool = Pool(of_owner=1)
    for _ in range(3):
        link = pool.dial("a1")
        assert pool.reserve("a2") is Room.NONE
        assert pool.state.lose("a1", link) is None
    pool.dial("a2")


def test_of_a_shared_owner_s_links_one_holder_has_half_however_many_keys_it_asks_for() -> None:
    pool = Pool(of_owner=8)
    links = [pool.dial(f"A{number}", "greedy") for number in range(4)]
    assert pool.reserve("A9", "greedy") is Room.NONE
    pool.dial("A9", "modest")
    # What is idle is nobody's.
    pool.state.give_back("A0", links[0])
    assert pool.reserve("A8", "greedy") is Room.TAKEN
    assert pool.reserve("A7", "greedy") is Room.NONE


# --- one thing at a time ----------------------------------------------------------------------------------------------


def test_nothing_is_idle_at_first() -> None:
    pool = Pool()
    assert pool.state.take("a", "one") is None
    pool.dial("a")
    assert pool.state.take("a", "one") is None
    assert repr(pool.state) == "<PoolState 1 open, 0 idle, 1 keys>"


def test_the_newest_idle_link_is_taken_first_and_once() -> None:
    pool = Pool()
    old, new = pool.dial("a"), pool.dial("a")
    for link in (old, new):
        assert pool.state.give_back("a", link) is Kept.IDLE
    assert [pool.state.take("a", "one") for _ in range(3)] == [new, old, None]
    assert (pool.state.open, pool.state.idle) == (2, 0)


def test_c12_an_idle_link_of_another_key_is_nobody_s() -> None:
    pool = Pool()
    link = pool.dial("a")
    pool.state.give_back("a", link)
    assert pool.state.take("b", "one") is None
    assert pool.state.take("a", "one") == link


def test_a_key_has_a_limit_and_another_key_has_its_own() -> None:
    pool = Pool(links=1)
    pool.dial("a")
    assert pool.reserve("a") is Room.LATER
    pool.dial("b")


def test_where_every_place_is_a_link_s_that_is_idle_one_makes_room_for_a_fresh_one() -> None:
    """A7: a second try wants no link that was idle."""
    pool = Pool(links=1)
    other, link = pool.dial("a1"), pool.dial("a2")
    for key, each in (("a1", other), ("a2", link)):
        pool.state.give_back(key, each)
    assert pool.reserve("a2") is Room.AFTER_SPARE
    assert pool.state.spare("a2") == link
    pool.state.lose("a2", link)
    pool.dial("a2")


def test_more_idle_links_than_kept_are_closed() -> None:
    pool = Pool(idle=1)
    one, two = pool.dial("a"), pool.dial("a")
    assert pool.state.give_back("a", one) is Kept.IDLE
    assert pool.state.give_back("a", two) is Kept.FULL
    assert (pool.state.open, pool.state.idle) == (2, 1)  # until the shell has closed it and says so
    assert pool.state.lose("a", two) is None
    assert (pool.state.open, pool.state.idle) == (1, 1)


def test_a_link_that_comes_back_goes_to_who_waited_longest() -> None:
    pool = Pool(links=1)
    link = pool.dial("a")
    pool.wait("a", "first")
    pool.wait("a", "second")
    assert pool.state.give_back("a", link) == "first"
    assert pool.state.give_back("a", link) == "second"
    assert pool.state.give_back("a", link) is Kept.IDLE


def test_a_place_that_becomes_free_goes_to_who_waited_longest() -> None:
    pool = Pool(links=1)
    link = pool.dial("a")
    dialled = pool.wait("a", "waiter")
    assert pool.state.lose("a", link) == ("waiter", dialled)
    assert pool.state.open == 1
    assert pool.state.lose("a", dialled) is None  # its dial failed
    assert pool.state.open == 0
    pool.dial("a")


def test_who_left_is_not_served() -> None:
    pool = Pool(links=1)
    link = pool.dial("a")
    pool.wait("a", "gone")
    pool.wait("a", "here")
    for key, holder in (("a", "one"), ("a", "one"), ("b", "one"), ("a", "another")):
        pool.state.abandon(key, holder, "gone")
    assert pool.state.give_back("a", link) == "here"


def test_an_idle_link_that_dies_leaves_the_pool() -> None:
    pool = Pool()
    one, two = pool.dial("a"), pool.dial("a")
    for link in (one, two):
        pool.state.give_back("a", link)
    assert pool.state.lose("a", one) is None
    assert (pool.state.open, pool.state.idle) == (1, 1)
    assert pool.state.take("a", "one") == two


def test_a_key_without_links_takes_no_memory() -> None:
    pool = Pool()
    for number in range(100):
        key = f"key {number}"
        link = pool.dial(key)
        pool.state.give_back(key, link)
        pool.state.lose(key, link)
    assert repr(pool.state) == "<PoolState 0 open, 0 idle, 0 keys>"


def test_idle_links_by_key() -> None:
    pool = Pool()
    links = {key: pool.dial(key) for key in ("a", "b")}
    for key, link in links.items():
        pool.state.give_back(key, link)
    pool.dial("a")
    assert pool.state.idle_links(lambda key: key == "a") == [links["a"]]
    assert pool.state.idle_links(lambda key: True) == [links["a"], links["b"]]
    assert pool.state.idle == 2


# --- one key, several holders -----------------------------------------------------------------------------------------


def test_one_holder_has_half_of_a_shared_key_and_all_of_its_own() -> None:
    pool = Pool(links=8, of_owner=100)
    for _ in range(4):
        pool.dial("A", "greedy")
    assert pool.reserve("A", "greedy") is Room.LATER
    for _ in range(8):
        pool.dial("a", "greedy")
    assert pool.reserve("a", "greedy") is Room.LATER


def test_there_is_a_link_for_who_comes_next() -> None:
    """Two have a third each, three a quarter, and so on."""
    pool = Pool(links=12, of_owner=100)
    for holder, had in (("one", 6), ("two", 3), ("three", 2), ("four", 1)):
        for _ in range(had):
            pool.dial("A", holder)
        if holder != "four":
            assert pool.reserve("A", holder) is Room.LATER
    assert pool.reserve("A", "five") is Room.LATER


def test_an_idle_link_is_not_for_who_has_its_share() -> None:
    pool = Pool(links=4, idle=4, of_owner=100)
    links = [pool.dial("A", "modest") for _ in range(2)]
    for _ in range(1):
        pool.dial("A", "greedy")
    for link in links:
        pool.state.give_back("A", link)
    assert pool.state.take("A", "greedy") == links[1]
    assert pool.state.take("A", "greedy") is None
    assert pool.reserve("A", "greedy") is Room.LATER
    assert pool.state.take("A", "modest") == links[0]


def test_a_link_that_comes_back_goes_to_who_has_fewest_and_then_in_turn() -> None:
    pool = Pool(links=4, of_owner=100)
    links = [pool.dial("A", "greedy"), pool.dial("A", "greedy"), pool.dial("A", "two"), pool.dial("A", "three")]
    for waiter, holder in (
        ("greedy 1", "greedy"),
        ("two 1", "two"),
        ("four 1", "four"),
        ("four 2", "four"),
        ("five 1", "five"),
    ):
        pool.wait("A", waiter, holder)
    assert pool.state.give_back("A", links[0]) == "four 1"
    assert pool.state.give_back("A", links[1]) == "greedy 1"  # it had given up its last
    assert pool.state.give_back("A", links[0]) == "five 1"
    assert pool.state.give_back("A", links[1]) == "four 2"
    # Two has one, and one is left: that is for who has none.
    assert pool.state.give_back("A", links[0]) is Kept.IDLE
    assert pool.state.take("A", "two") is None
    assert pool.state.take("A", "six") == links[0]


def test_who_waits_for_its_share_gets_what_it_gave_back_itself() -> None:
    pool = Pool(links=4, of_owner=100)
    greedy = [pool.dial("A", "greedy") for _ in range(2)]
    more = pool.wait("A", "more", "greedy")
    other = pool.dial("A", "modest")
    assert pool.state.give_back("A", other) is Kept.IDLE
    assert pool.state.lose("A", greedy[0]) == ("more", more)
    assert pool.state.take("A", "modest") == other


# --- any order --------------------------------------------------------------------------------------------------------

KEYS = st.sampled_from(["a", "B"])
HOLDERS = st.sampled_from(["one", "two", "three"])


class AgainstModel(RuleBasedStateMachine):
    """A pool, and what an outsider can know of it: who has which link, who dials, who waits."""

    limit = 5

    def __init__(self) -> None:
        super().__init__()
        self.state: PoolState[str, Link, int] = PoolState(
            links_per_key=self.limit,
            idle_per_key=IDLE_PER_KEY,
            links_per_owner=1000,
            owner_of=lambda key: key,
            is_shared=str.isupper,
        )
        self.number = 0
        self.dialling: dict[str, dict[Link, str]] = {"a": {}, "B": {}}
        self.in_use: dict[str, dict[Link, str]] = {"a": {}, "B": {}}
        self.idle: dict[str, list[Link]] = {"a": [], "B": []}
        self.closing: dict[str, dict[Link, str]] = {"a": {}, "B": {}}
        self.waiting: dict[str, list[tuple[str, int, Link]]] = {"a": [], "B": []}

    def held(self, key: str) -> Counter[str]:
        return Counter(holder for links in (self.in_use, self.dialling, self.closing) for holder in links[key].values())

    def taken(self, key: str) -> int:
        return len(self.dialling[key]) + len(self.in_use[key]) + len(self.closing[key])

    def open_links(self, key: str) -> int:
        return self.taken(key) + len(self.idle[key])

    def may_hold(self, key: str, holder: str) -> bool:
        left = self.limit - self.taken(key)
        return left > 0 and (key == "a" or self.held(key)[holder] < left)

    @rule(key=KEYS, holder=HOLDERS, is_second_try=st.booleans())
    def exchange_begins(self, key: str, holder: str, is_second_try: bool) -> None:
        may = self.may_hold(key, holder)
        if not is_second_try:
            link = self.state.take(key, holder)
            if self.idle[key] and may:
                assert link == self.idle[key].pop()
                self.in_use[key][link] = holder
                return
            assert link is None
        self.number += 1
        fresh = Link(str(self.number))
        room = self.state.reserve(key, holder, fresh)
        if may and self.open_links(key) == self.limit:
            assert room is Room.AFTER_SPARE
            spare = self.state.spare(key)
            assert spare is not None
            self.idle[key].remove(spare)
            assert self.state.lose(key, spare) is None
            room = self.state.reserve(key, holder, fresh)
        if room is Room.TAKEN:
            assert may
            self.dialling[key][fresh] = holder
        else:
            assert room is Room.LATER
            assert not may
            self.state.wait(key, holder, self.number, fresh)
            self.waiting[key].append((holder, self.number, fresh))

    @rule(key=KEYS, succeeds=st.booleans(), data=st.data())
    def dial_ends(self, key: str, succeeds: bool, data: st.DataObject) -> None:
        if not self.dialling[key]:
            return
        link = data.draw(st.sampled_from([*self.dialling[key]]))
        holder = self.dialling[key].pop(link)
        if succeeds:
            self.in_use[key][link] = holder
        else:
            self.place_is_free(key, self.state.lose(key, link))

    @rule(key=KEYS, data=st.data())
    def exchange_ends(self, key: str, data: st.DataObject) -> None:
        if not self.in_use[key]:
            return
        link = data.draw(st.sampled_from([*self.in_use[key]]))
        holder = self.in_use[key].pop(link)
        answer = self.state.give_back(key, link)
        served = self.served(key, answer if isinstance(answer, int) else None)
        if served is not None:
            self.in_use[key][link] = served[0]
            return
        is_full = len(self.idle[key]) == IDLE_PER_KEY
        assert answer is (Kept.FULL if is_full else Kept.IDLE)
        if is_full:
            self.closing[key][link] = holder
        else:
            self.idle[key].append(link)

    @rule(key=KEYS, data=st.data())
    def link_is_lost(self, key: str, data: st.DataObject) -> None:
        links = [*self.in_use[key], *self.idle[key], *self.closing[key]]
        if not links:
            return
        link = data.draw(st.sampled_from(links))
        for held in (self.in_use[key], self.closing[key]):
            held.pop(link, None)
        if link in self.idle[key]:
            self.idle[key].remove(link)
        self.place_is_free(key, self.state.lose(key, link))

    @precondition(lambda self: any(self.waiting.values()))
    @rule(key=KEYS, data=st.data())
    def waiter_gives_up(self, key: str, data: st.DataObject) -> None:
        if self.waiting[key]:
            entry = data.draw(st.sampled_from(self.waiting[key]))
            self.waiting[key].remove(entry)
            self.state.abandon(key, entry[0], entry[1])

    def place_is_free(self, key: str, answer: tuple[int, Link] | None) -> None:
        served = self.served(key, None if answer is None else answer[0])
        if served is not None:
            holder, waiter, link = served
            assert answer == (waiter, link)
            self.dialling[key][link] = holder

    def served(self, key: str, waiter: int | None) -> tuple[str, int, Link] | None:
        """One of those who may have it, of whom none has fewer; the one of its holder that has waited longest."""
        able = [entry for entry in self.waiting[key] if self.may_hold(key, entry[0])]
        if waiter is None:
            assert not able
            return None
        entry = next(entry for entry in able if entry[1] == waiter)
        held = self.held(key)
        assert held[entry[0]] == min(held[holder] for holder, _, _ in able)
        assert entry == next(other for other in self.waiting[key] if other[0] == entry[0])
        self.waiting[key].remove(entry)
        return entry

    @invariant()
    def counts_agree_and_limits_hold(self) -> None:
        assert self.state.open == sum(map(self.open_links, self.dialling))
        assert self.state.idle == sum(map(len, self.idle.values()))
        for key in self.dialling:
            assert self.open_links(key) <= self.limit
            assert self.state.idle_links(lambda other, key=key: other == key) == self.idle[key]  # type: ignore[misc]  # a bound default
            # No waiter is lost: nobody waits who may have a link or a place.
            assert not any(self.may_hold(key, holder) for holder, _, _ in self.waiting[key])
        keys_in_use = sum(1 for key in self.dialling if self.open_links(key))
        assert f"{keys_in_use} keys" in repr(self.state)


TestAgainstModel = pytest.mark.filterwarnings("default")(AgainstModel.TestCase)


def test_the_last_who_waited_leaves_nobody_to_be_served() -> None:
    pool = Pool()
    first, *_ = [pool.dial("a") for _ in range(LINKS_PER_KEY)]
    pool.wait("a", "w")
    pool.state.abandon("a", "one", "w")
    assert pool.state.give_back("a", first) is Kept.IDLE


def test_a_place_that_becomes_free_is_not_for_who_has_its_share() -> None:
    pool = Pool(of_owner=20)
    for _ in range(2):
        pool.dial("A", "one")
    others = pool.dial("A", "two")
    pool.wait("A", "w", "one")
    assert pool.state.lose("A", others) is None
    assert pool.reserve("A", "three") is Room.TAKEN
