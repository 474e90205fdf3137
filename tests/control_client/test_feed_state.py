"""What a push and an answer do to what is known: one by one, and in any order they may come in."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_client.feed_state import (
    Delta,
    FeedAnswer,
    Ignored,
    Known,
    Owed,
    Push,
    changes,
    take_answer,
    take_push,
)

KNOWN = Known({"a": "http://a", "b": "http://b"}, 7, '"e"')
NEXT = Push("shared_tool_started", "inst_1", Delta((), {"c": "http://c"}), None, 9, 7)


def take(known: Known, push: Push, user_id: str | None = None) -> Known | Ignored | Owed:
    return take_push(known, push, instance_id="inst_1", user_id=user_id)


def test_a_push_behind_the_known_one_is_applied_and_its_etag_forgotten() -> None:
    assert take(KNOWN, NEXT) == Known({**KNOWN.servers, "c": "http://c"}, 9, None)


def test_removed_comes_before_added() -> None:
    push = NEXT._replace(delta=Delta(("a", "c"), {"a": "http://new"}))
    assert take(KNOWN, push) == Known({"b": "http://b", "a": "http://new"}, 9, None)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"instance_id": "inst_2"}, Ignored("another instance's")),
        ({"instance_id": "inst_2", "delta": None}, Ignored("another instance's")),
        ({"seq": 7, "prev_seq": 6}, Ignored("old")),
        ({"seq": 3, "prev_seq": 2}, Ignored("old")),
        ({"seq": 3, "prev_seq": 2, "delta": None}, Ignored("old")),
        ({"delta": None}, Owed("no delta")),
        ({"event": "config_changed"}, Owed("no delta")),
        ({"seq": None, "prev_seq": None}, Owed("not counted")),
        ({"prev_seq": 8}, Owed("a gap")),
        ({"event": "installation_created"}, Owed("an installation of nobody")),
    ],
)
def test_what_is_not_applied_says_why(change: dict[str, object], expected: object) -> None:
    assert take(KNOWN, NEXT._replace(**change)) == expected  # type: ignore[arg-type]  # a table of changes


def test_a_push_that_spans_what_an_answer_held_already_is_no_gap() -> None:
    # The answer was of revision 7; this subscription's pushes were 5 and 9.
    assert isinstance(take(KNOWN, NEXT._replace(prev_seq=5)), Known)


def test_nothing_is_applied_to_what_has_no_place_in_the_order() -> None:
    assert take(KNOWN._replace(at=None), NEXT) == Owed("a gap")


def test_another_user_s_installation_moves_the_order_alone() -> None:
    push = NEXT._replace(event="installation_created", user_id="42")
    assert take(KNOWN, push, "41") == KNOWN._replace(at=9)
    assert take(KNOWN, push, None) == KNOWN._replace(at=9)
    assert take(KNOWN, push, "42") == Known({**KNOWN.servers, "c": "http://c"}, 9, None)


def test_an_answer_is_the_truth_also_where_it_goes_back() -> None:
    answer = FeedAnswer({"z": "http://z"}, 3, '"z"', False)
    assert take_answer(KNOWN, answer) == Known({"z": "http://z"}, 3, '"z"', False)
    assert take_answer(KNOWN, answer._replace(revision=None)).at is None


def test_a_stale_answer_undoes_no_newer_push() -> None:
    answer = FeedAnswer({"z": "http://z"}, 6, '"z"', True)
    assert take_answer(KNOWN, answer) == KNOWN._replace(is_stale=True)
    assert take_answer(KNOWN, answer._replace(revision=None)) == KNOWN._replace(is_stale=True)
    assert take_answer(KNOWN, answer._replace(revision=7)).servers == {"z": "http://z"}
    assert take_answer(Known(), answer).servers == {"z": "http://z"}


def test_changes_are_names_gone_and_servers_new_or_moved() -> None:
    found = changes({"a": "1", "b": "2", "c": "3"}, {"b": "2", "c": "4", "d": "5"})
    assert (found.removed, dict(found.changed)) == (("a",), {"c": "4", "d": "5"})
    assert changes({"a": "1"}, {"a": "1"}) == ((), {})


@given(seed=st.integers(0, 2**32), lost=st.floats(0, 0.5), stirred=st.floats(0, 1))
def test_whatever_is_lost_doubled_or_reordered_the_end_is_the_feed_s_or_a_question(
    seed: int, lost: float, stirred: float
) -> None:
    """Pushes come as they will, with answers in between; what is known without a question owed is what was served."""
    rng = random.Random(seed)
    truth: list[dict[str, str]] = [{}]
    pushes: list[Push] = []
    for seq in range(1, 30):
        removed = tuple(name for name in truth[-1] if rng.random() < 0.2)
        added = {rng.choice("abcdef"): f"http://{seq}" for _ in range(rng.randrange(3))}
        truth.append({name: url for name, url in truth[-1].items() if name not in removed} | added)
        pushes.append(Push("shared_tool_started", "inst_1", Delta(removed, added), None, seq, seq - 1))
    coming = [push for push in pushes if rng.random() >= lost]
    coming += [push for push in coming if rng.random() < 0.2]
    coming.sort(key=lambda push: (push.seq or 0) + rng.random() * 10 * stirred)
    known = Known({}, 0)
    for push in coming:
        outcome = take(known, push)
        if isinstance(outcome, Known):
            known = outcome
        elif isinstance(outcome, Owed):
            at = rng.randrange(push.seq or 0, 30)
            known = take_answer(known, FeedAnswer(truth[at], at, None, False))
        assert known.at is not None
        assert known.servers == truth[known.at]
