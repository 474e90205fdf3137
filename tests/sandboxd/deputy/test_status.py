"""What a deputy tells is taken whole or not at all."""

import pytest

from sallyport.wire.errors import RemoteProtocolError
from sandboxd.deputy.status import MAX_NAME_CHARACTERS, MAX_STEPS, read_status
from sandboxd.setup.steps import MAX_ISSUE_CHARACTERS
from tests.support.setup_documents import Json

GOOD: Json = {
    "type": "setup.status",
    "revision": 7,
    "state": "failed",
    "steps": [{"name": "environment", "state": "done"}, {"name": "artifact/x", "state": "failed", "issue": "why"}],
}


def test_a_status() -> None:
    assert read_status(GOOD) == {name: value for name, value in GOOD.items() if name != "type"}


def test_what_cannot_be_shown_becomes_a_space() -> None:
    told = read_status(GOOD | {"steps": [{"name": "a\x1b[2J", "state": "failed", "issue": "b\ud800\n"}]})
    assert told["steps"] == [{"name": "a [2J", "state": "failed", "issue": "b  "}]


@pytest.mark.parametrize(
    "change",
    [
        {"revision": 0},
        {"revision": True},
        {"revision": 2**53 + 1},
        {"revision": "7"},
        {"state": "done"},
        {"state": None},
        {"more": 1},
        {"steps": {}},
        {"steps": [{"name": "x", "state": "done"}] * (MAX_STEPS + 1)},
        {"steps": [7]},
        {"steps": [{"name": "x"}]},
        {"steps": [{"name": "x", "state": "odd"}]},
        {"steps": [{"name": "x", "state": []}]},
        {"steps": [{"name": "x", "state": "done", "issue": None}]},
        {"steps": [{"name": "x", "state": "done", "more": "y"}]},
        {"steps": [{"name": "x" * (MAX_NAME_CHARACTERS + 1), "state": "done"}]},
        {"steps": [{"name": "x", "state": "failed", "issue": "y" * (MAX_ISSUE_CHARACTERS + 1)}]},
    ],
)
def test_what_is_none(change: Json) -> None:
    with pytest.raises(RemoteProtocolError, match="that is none"):
        read_status(GOOD | change)
