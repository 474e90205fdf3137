"""What a subscriber is told next: cut to what it may see, counted so that nothing can be missed unnoticed."""

from collections.abc import Mapping, Sequence

import orjson
from hypothesis import given
from hypothesis import strategies as st

from control_client.feed_documents import read_push
from control_client.feed_state import Delta, Known, Owed, take_push
from control_plane.feed.changes import Change, Entry
from control_plane.feed.tiers import Tier
from control_plane.push.events import CONFIG_CHANGED, EVENTS
from control_plane.push.steps import Cursor, Step, Terms, next_step
from tests.support.push_stage import INSTANCE, entry

STANDARD = Terms(Tier.STANDARD, frozenset())
ADMIN = Terms(Tier.ADMIN, frozenset())


def change(
    revision: int,
    added: Sequence[Entry] = (),
    removed: Sequence[Entry] = (),
    event: str = "shared_tool_started",
    meta: Mapping[str, str] | None = None,
) -> Change:
    return Change(revision, event, tuple(added), tuple(removed), meta or {}, 0)


def step(cursor: Cursor, changes: Sequence[Change], terms: Terms = STANDARD, *, collapses: bool = False) -> Step:
    newest = max((each.revision for each in changes), default=cursor.seen + 5)
    return next_step(cursor, changes, newest, terms, collapses=collapses)


def test_a_change_is_told_with_the_push_before_it() -> None:
    found = step(Cursor(told=3, seen=6), [change(7, [entry("a")], [entry("b")], meta={"toolId": "a"})])
    assert found.seen == 7
    assert found.push is not None
    body = found.push.body(INSTANCE)
    assert orjson.loads(body) == {
        "event": "shared_tool_started",
        "instanceId": INSTANCE,
        "delta": {"added": {"a": dict(entry("a").config)}, "removed": ["b"]},
        "meta": {"toolId": "a"},
        "seq": 7,
        "prevSeq": 3,
    }
    assert read_push(body).delta == Delta(("b",), {"a": entry("a").config["url"]})
    assert found.push.message_id(INSTANCE) == "psh_inst_1_7"


def test_what_is_for_admins_is_told_to_nobody_else_in_any_byte() -> None:
    secret = entry("root-tool", Tier.ADMIN)
    mixed = change(2, [entry("a"), secret], [entry("b")], meta={"toolId": "root-tool"})
    found = step(Cursor(0, 0), [change(1, [secret], meta={"toolId": "root-tool"}), mixed])
    assert found.push is not None
    body = found.push.body(INSTANCE)
    assert b"root-tool" not in body
    assert orjson.loads(body)["delta"]["removed"] == ["b"]
    told = step(Cursor(0, 0), [change(1, [secret], meta={"toolId": "root-tool"}), mixed], ADMIN)
    assert told.seen == 1
    assert told.push is not None
    assert b"root-tool" in told.push.body(INSTANCE)


def test_what_is_nothing_to_a_subscriber_is_passed_over() -> None:
    hidden = [change(number, [entry("x", Tier.ADMIN)]) for number in (5, 6)]
    assert step(Cursor(2, 4), hidden) == Step(6, None)
    found = step(Cursor(2, 4), [*hidden, change(7, [entry("a")])])
    assert found.push is not None
    assert (found.seen, found.push.seq, found.push.prev_seq) == (7, 7, 2)


def test_events_that_nobody_asked_for() -> None:
    terms = Terms(Tier.STANDARD, frozenset({"sandbox_started"}))
    assert step(Cursor(0, 0), [change(1, [entry("a")])], terms) == Step(1, None)
    found = step(Cursor(0, 0), [change(1, [entry("a")], event="sandbox_started")], terms)
    assert found.push is not None
    # That something has changed is told whatever was asked for: it may be what was.
    general = step(Cursor(0, 0), [change(1, [entry("a")], event=CONFIG_CHANGED, meta={"toolId": "a"})], terms)
    assert general.push is not None
    assert orjson.loads(general.push.body(INSTANCE)) == {
        **{"event": CONFIG_CHANGED, "instanceId": INSTANCE, "meta": {}},
        **{"seq": 1, "prevSeq": 0},
    }


def test_that_something_changed_for_admins_is_told_to_admins() -> None:
    changes = [change(1, [entry("sallyport", Tier.ADMIN)], event=CONFIG_CHANGED)]
    assert step(Cursor(0, 0), changes) == Step(1, None)
    told = step(Cursor(0, 0), changes, ADMIN)
    assert told.push is not None
    assert b"sallyport" not in told.push.body(INSTANCE)
    nobody_s = step(Cursor(0, 0), [change(1, event=CONFIG_CHANGED)])
    assert nobody_s.push is not None


def test_what_is_kept_no_more_is_told_without_a_delta() -> None:
    for changes in ([], [change(9, [entry("a")])]):
        found = next_step(Cursor(told=3, seen=4), changes, 12, STANDARD, collapses=False)
        assert found.push is not None
        assert (found.seen, found.push.seq, found.push.prev_seq, found.push.event) == (12, 12, 3, CONFIG_CHANGED)


def test_after_failures_everything_is_one_push_without_a_delta() -> None:
    changes = [change(5, [entry("x", Tier.ADMIN)]), change(6, [entry("a")]), change(7, [entry("b")])]
    found = step(Cursor(3, 4), changes, collapses=True)
    assert found.push is not None
    assert (found.seen, found.push.seq, found.push.prev_seq, found.push.change) == (7, 7, 3, None)
    assert found.push.message_id(INSTANCE) == "psh_inst_1_7_all"
    # Nothing to it is nothing to it.
    assert step(Cursor(3, 4), changes[:1], collapses=True) == Step(5, None)
    # More came between the two looks.
    late = next_step(Cursor(3, 4), changes, 5, STANDARD, collapses=True)
    assert late.seen == 7


def test_the_events_are_the_contract_s() -> None:
    assert len(set(EVENTS)) == 8
    assert CONFIG_CHANGED not in EVENTS


_CHANGES = st.lists(st.tuples(st.sampled_from(Tier), st.booleans()), max_size=12)


@given(_CHANGES, st.sampled_from(Tier), st.integers(1, 5))
def test_whoever_hears_every_push_knows_what_the_feed_says(
    drawn: list[tuple[Tier, bool]], tier: Tier, most: int
) -> None:
    """And no push of a whole chain looks like a gap, whatever was passed over, however much is read at once."""
    changes: list[Change] = []
    served: dict[str, Entry] = {}
    for revision, (of, is_added) in enumerate(drawn, 1):
        name = f"{of}-tool"
        if is_added:
            served[name] = entry(name, of)
            changes.append(change(revision, [served[name]]))
        else:
            gone = served.pop(name, entry(name, of))
            changes.append(change(revision, (), [gone], "shared_tool_stopped"))
    known, cursor, newest = Known(at=0), Cursor(0, 0), len(changes)
    while cursor.seen < newest:
        found = next_step(
            cursor, changes[cursor.seen : cursor.seen + most], newest, Terms(tier, frozenset()), collapses=False
        )
        if found.push is not None:
            taken = take_push(known, read_push(found.push.body(INSTANCE)), instance_id=INSTANCE, user_id=None)
            assert isinstance(taken, Known), taken
            known = taken
        cursor = Cursor(cursor.told if found.push is None else found.push.seq, found.seen)
    seen = {name for name, each in served.items() if tier is Tier.ADMIN or each.tier is Tier.STANDARD}
    assert set(known.servers) == seen


@given(st.integers(0, 5), st.integers(1, 5))
def test_whoever_missed_a_push_asks(at: int, ahead: int) -> None:
    found = step(Cursor(told=at + ahead, seen=9), [change(10, [entry("a")])])
    assert found.push is not None
    taken = take_push(Known(at=at), read_push(found.push.body(INSTANCE)), instance_id=INSTANCE, user_id=None)
    assert isinstance(taken, Owed)
