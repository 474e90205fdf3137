"""One record, one line: whatever stands in it, and nothing that may not."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from gateway.audit_line import FIELDS, MAX_KNOWN_LENGTH, AuditFormatter

ROOT = Path(__file__).resolve().parent.parent.parent
WHEN = 1_800_000_000.1239


def record(**values: object) -> tuple[object, ...]:
    assert values.keys() <= set(FIELDS)
    return tuple(values.get(name) for name in FIELDS)


def line(**values: object) -> str:
    formatted = AuditFormatter().line(record(**values))
    assert formatted is not None
    return formatted.decode("utf-8")


def test_a_record_is_one_line_in_the_order_of_the_fields() -> None:
    values: dict[str, object] = {name: name for name in FIELDS}
    values |= {"time": WHEN, "status": 200, "durationMs": 12.3456789, "linkReused": True, "port": 443}
    document = json.loads(line(**values))
    assert tuple(document) == FIELDS
    assert document["time"] == "2027-01-15T08:00:00.123Z"
    assert document["durationMs"] == 12.346
    assert (document["status"], document["linkReused"]) == (200, True)


# What makes a record one that exchanges write: it is formatted in pieces, any other as a whole.
COMMON: dict[str, object] = {"time": WHEN, "requestId": "r1", "path": "/v1", "bytesUp": 1, "bytesDown": 2}


@pytest.mark.parametrize("empty", [(), (0,), (1,), (2,), (0, 1, 2)], ids=str)
def test_what_is_formatted_in_pieces_reads_as_a_whole(empty: tuple[int, ...]) -> None:
    """Whichever of its runs has nothing to say; the second time from what is remembered."""
    runs: list[dict[str, object]] = [
        {"method": "GET", "port": 443},
        {"decision": "inject", "status": 200},
        {"linkReused": True, "scrubbed": 3},
    ]
    values = COMMON | {"durationMs": 1.5}
    for number, run in enumerate(runs):
        values |= {} if number in empty else run
    formatter = AuditFormatter()
    for _ in range(2):
        formatted = formatter.line(record(**values))
        assert formatted is not None
        assert formatted.endswith(b"}\n")
        document = json.loads(formatted)
        assert tuple(document) == tuple(name for name in FIELDS if name in values)
        assert document | {"time": WHEN} == values


@pytest.mark.parametrize(
    "duration", [0.0, 0.0004, 0.0006, 0.9994, 0.9996, 12.3456789, 999.9994, 999.9996, 3_600_000.1, -1.5, 1e12, 1e300]
)
def test_a_duration_is_written_to_the_microsecond(duration: float) -> None:
    assert json.loads(line(**COMMON, durationMs=duration))["durationMs"] == round(duration, 3)


@pytest.mark.parametrize("duration", [float("nan"), float("inf")])
def test_a_duration_that_is_no_number_is_none(duration: float) -> None:
    assert json.loads(line(**COMMON, durationMs=duration))["durationMs"] is None


@pytest.mark.parametrize("when", [0.0, 1.0009, 1_800_000_000.0, 1_800_000_000.0009, 1_800_000_000.9999])
def test_a_time_is_written_to_the_millisecond_before_it(when: float) -> None:
    assert datetime.fromisoformat(json.loads(line(**COMMON | {"time": when}, durationMs=1.0))["time"]) == (
        datetime.fromtimestamp(int(when * 1000) / 1000, UTC)
    )


@pytest.mark.parametrize("path", ["/v1", '/a"b', "/a\\b", "/é", "/\x7f", "/a b"])
def test_a_path_is_read_back_as_it_is_written(path: str) -> None:
    shown = json.loads(line(**COMMON | {"path": path}, durationMs=1.0))["path"]
    assert shown == ("/\\x7f" if path == "/\x7f" else path)


def test_t5_what_a_sandbox_makes_long_is_written_and_not_remembered() -> None:
    formatter = AuditFormatter()
    for letter in "abc":
        method = letter * 60_000
        formatted = formatter.line(record(**COMMON, durationMs=1.0, method=method))
        assert formatted is not None
        assert json.loads(formatted)["method"] == method
    # Of each record the two runs behind the path, both empty.
    assert sorted(formatter._known.values()) == ["", "}\n"]
    longest = "x" * (MAX_KNOWN_LENGTH - len('"method":"",'))
    for method, known in ((longest + "x", 2), (longest, 3)):
        formatter.line(record(**COMMON, durationMs=1.0, method=method))
        assert len(formatter._known) == known


def test_no_two_runs_are_as_long() -> None:
    """Or the values of one could be taken for another's."""
    ends = [2, FIELDS.index("path"), FIELDS.index("durationMs"), len(FIELDS)]
    lengths = [ends[1] - ends[0], ends[2] - ends[1] - 1, ends[3] - ends[2] - 3]
    assert len(set(lengths)) == len(lengths)


def test_what_is_none_is_left_out() -> None:
    assert line(requestId="r1") == '{"requestId":"r1"}\n'
    assert line(bytesUp=0, linkReused=False) == '{"bytesUp":0,"linkReused":false}\n'


def test_lists_stay_lists() -> None:
    assert json.loads(line(connectionId=("con_1", "con_2"), credentialVersion=["a", "b\x9b"])) == {
        "connectionId": ["con_1", "con_2"],
        "credentialVersion": ["a", "b\\x9b"],
    }


def test_a_query_never_gets_in() -> None:
    assert "canary" not in line(path="/v1?api_key=canary")
    assert json.loads(line(path="/v1?a?b"))["path"] == "/v1"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("a\x1b[31m\x7f", "a\\x1b[31m\\x7f"),
        ("\x9b31m", "\\x9b31m"),
        ("\u202eevil\u2028", "\\u202eevil\\u2028"),
        ("\ud800", "\\ud800"),
        (b"GET\xff\x00", "GETÿ\\x00"),
        ("naïve", "naïve"),
    ],
)
def test_what_a_peer_wrote_is_always_printable(value: object, shown: str) -> None:
    assert json.loads(line(method=value))["method"] == shown


@given(st.text() | st.binary() | st.floats() | st.none() | st.lists(st.text()))
def test_any_value_gives_one_line_that_reads_back(value: object) -> None:
    text = line(path=value)
    assert text.endswith("\n")
    assert text[:-1].isprintable()
    json.loads(text)


def test_a_record_of_the_wrong_length_is_no_line() -> None:
    with capture_logs() as logs:
        assert AuditFormatter().line(("too", "short")) is None
    assert logs[0]["event"] == "audit_record_unreadable"


def test_the_documentation_has_a_row_for_each_field_and_no_other() -> None:
    text = (ROOT / "docs/operations/audit.md").read_text(encoding="utf-8")
    rows = [row.split("`")[1] for row in text.splitlines() if row.startswith("| `")]
    assert tuple(rows) == FIELDS
