"""What a control plane is asked about a version, and how its answers read."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from control_client.documents import DocumentSession
from sallyport_cli.failure import ExitStatus, Failure
from sallyport_cli.versions import (
    VersionSession,
    diff_lines,
    read_bindings,
    read_recording,
    simulation_lines,
)
from tests.support.scripted_http import ScriptedHttp, scripted_http

PATH = "/v1/sandbox/profiles/sbp_1/versions/3"


@pytest.fixture
def control() -> Iterator[ScriptedHttp]:
    with scripted_http() as control:
        yield control


def test_a_version_is_asked_by_its_path(control: ScriptedHttp) -> None:
    control.answer(f"{PATH}/compile", {"plan": {}})
    session = VersionSession(DocumentSession(control.url, "token"), "sbp_1", 3)
    assert session.ask("POST", "compile", {}) == {"plan": {}}


@pytest.mark.parametrize(
    ("status", "body", "exit_status"),
    [
        (422, b'{"code": "not_compilable", "detail": "d", "issues": [{"pointer": "/bindings/0", "message": "m"}]}', 1),
        (404, b'{"code": "profile_not_found", "detail": "d"}', 2),
        (503, b"{}", 3),
        (200, b"no json", 3),
    ],
)
def test_a_refusal_has_the_exit_status_of_its_kind(
    control: ScriptedHttp, status: int, body: bytes, exit_status: int
) -> None:
    control.answers[f"{PATH}/compile"] = status, body
    with pytest.raises(Failure) as failed:
        VersionSession(DocumentSession(control.url, "token"), "sbp_1", 3).ask("POST", "compile", {})
    assert failed.value.status == ExitStatus(exit_status)
    if status == 422:
        assert "/bindings/0: m" in failed.value.message


def write(path: Path, document: object) -> Path:
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def test_bindings_are_read_as_they_are_written_or_shown(tmp_path: Path) -> None:
    shown = {"bindingId": "bnd_a", "kind": "git", "config": {}, "createdAt": 1, "updatedAt": 2}
    given = [{name: value for name, value in shown.items() if not name.endswith("At")}, 1]
    assert read_bindings(write(tmp_path / "a", {"revision": 3, "bindings": [shown, 1]})) == given
    assert read_bindings(write(tmp_path / "b", [shown, 1])) == given
    faulty: list[object] = [{}, {"bindings": {}}, 1]
    for wrong in faulty:
        with pytest.raises(Failure):
            read_bindings(write(tmp_path / "c", wrong))
    (tmp_path / "d").write_text("[", encoding="utf-8")
    with pytest.raises(Failure):
        read_bindings(tmp_path / "d")


def test_a_recording_is_a_har_or_a_list(tmp_path: Path) -> None:
    request = {"method": "GET", "url": "https://a.example/"}
    har = {"log": {"entries": [{"request": request, "time": 1.5}]}}
    for document in (har, [request]):
        assert read_recording(write(tmp_path / "a", document)) == [("GET", "https://a.example/")]
    faulty: list[object] = [{}, [{}], [1], 1]
    for wrong in faulty:
        with pytest.raises(Failure):
            read_recording(write(tmp_path / "b", wrong))


INJECT = {"decision": "inject", "egressRuleId": "bnd_a.api"}
DENY = {"decision": "deny", "code": "denied_by_plan"}


def test_a_diff_reads_as_what_requests_were_answered_and_are() -> None:
    change = {"requests": ["GET https://a.example/"], "count": 3, "changed": ["decision"]}
    document = {
        "changes": [{**change, "before": INJECT, "after": DENY}],
        "parts": {"artifacts": {"added": ["x", "y"]}},
        "complete": False,
    }
    assert list(diff_lines(document)) == [
        "inject by bnd_a.api  ->  deny (denied_by_plan)   (decision)",
        "  GET https://a.example/",
        "  and 2 more",
        "artifacts: added x, y",
        "there is more than is told here: the plans have too many classes of requests",
    ]
    assert list(diff_lines({"changes": [], "parts": {}, "complete": True})) == ["nothing changes"]


def test_a_simulation_reads_line_by_line() -> None:
    item = {"method": "GET", "url": "https://a.example/"}
    items = [
        {**item, "count": 2, "changed": True, "before": DENY, "after": INJECT},
        {**item, "count": 1, "changed": False, "after": INJECT},
    ]
    assert list(simulation_lines({"items": items})) == [
        "changed GET https://a.example/  x2",
        "        deny (denied_by_plan)  ->  inject by bnd_a.api",
        "        GET https://a.example/",
        "        inject by bnd_a.api",
    ]
