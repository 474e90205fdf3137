"""Recordings are read strictly: every broken line is told, and where it is broken, but never what stands there."""

import json
from pathlib import Path

import pytest

from sallyport_cli import recording
from sallyport_cli.failure import Failure
from sallyport_cli.recording import BrokenLine, RecordedExchange, read_recording
from tests.support.recorded import cancelled_exchange, recorded_exchange, refused_exchange, write_recording


def test_what_was_written_is_read(tmp_path: Path) -> None:
    path = write_recording(tmp_path / "r", recorded_exchange(), refused_exchange(), cancelled_exchange())
    sent, refused, cancelled = [each for each in read_recording(path) if isinstance(each, RecordedExchange)]
    assert sent.url == "https://api.test/v1?a=b&c="
    assert sent.head.field("authorization") == "Bearer REDACTED"
    assert sent.answer_body is not None
    assert sent.answer_body.content == b"\xff\x00"
    assert sent.decided == {
        "requestId": "req_1",
        "sandboxId": "sbx_one",
        "decision": "inject",
        "outcome": "injected",
        "egressRuleId": "r",
    }
    assert refused.url == "http://api.test/x?y"
    assert cancelled.answer is None
    assert cancelled.request_body is not None
    assert cancelled.request_body.content == b""


def test_an_asterisk_is_a_url_too() -> None:
    head = {"scheme": "https", "target": "*", "fields": []}
    exchange = RecordedExchange.model_validate_json(json.dumps(recorded_exchange(sent=head)))
    assert exchange.url == "https://api.test/*"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{torn", "Invalid JSON"),
        (b"[]", "Input should be an object"),
        (b"\xff\n", "Invalid JSON"),
        ({"kind": "secret-kind"}, "of a kind that is not known"),
        (recorded_exchange(received=None), "/received: Field required"),
        (recorded_exchange(number="one"), "/number: "),
        (recorded_exchange(answer={"status": 20, "reason": "", "fields": []}), "/answer/status: "),
        (recorded_exchange(answerBody={"sizeBytes": 1, "base64": "%"}), "not base64"),
        (recorded_exchange(received={"target": "/\u20ac", "fields": []}), "/received/target: "),
    ],
)
def test_a_broken_line_is_told_by_its_number(tmp_path: Path, line: object, reason: str) -> None:
    path = write_recording(tmp_path / "r", recorded_exchange(), line, recorded_exchange())
    found = list(read_recording(path))
    broken = [each for each in found if isinstance(each, BrokenLine)]
    assert [each.number for each in broken if each.reason] == [3] or line == b"\xff\n"
    assert reason in str(broken[0])
    assert str(broken[0]).startswith("line 3: ")
    assert sum(isinstance(each, RecordedExchange) for each in found) == 2


def test_members_of_newer_gateways_are_passed_over(tmp_path: Path) -> None:
    path = write_recording(tmp_path / "r", recorded_exchange(new={"a": 1}))
    assert all(isinstance(each, RecordedExchange) for each in read_recording(path))


def test_a_line_without_end_ends_the_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "MAX_RECORDED_LINE_BYTES", 2000)
    path = write_recording(tmp_path / "r", b"x" * 3000, recorded_exchange())
    (broken,) = read_recording(path)
    assert isinstance(broken, BrokenLine)
    assert broken.number == 2


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="cannot be read"):
        list(read_recording(tmp_path / "none"))
