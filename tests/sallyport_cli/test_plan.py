import json
from pathlib import Path

import pytest

from sallyport_cli.failure import Failure
from sallyport_cli.plan import read_plan
from tests.support.command import call, whole_plan, write_plan


def test_a_good_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outcome = call(capsys, "plan", "check", write_plan(tmp_path / "p.json"))
    assert outcome.status == 0
    assert "valid; sandbox sbx_one, revision 1, 1 route" in outcome.out


def test_every_fault_of_every_plan_is_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = write_plan(tmp_path / "good.json")
    bad = write_plan(tmp_path / "bad.json", revision=0, sandboxId="", nonsense=1)
    outcome = call(capsys, "plan", "check", good, bad)
    assert outcome.status == 1
    assert f"{good}: valid" in outcome.out
    for pointer in ("/revision", "/sandboxId", "/nonsense"):
        assert f"{bad}: {pointer}" in outcome.out


def test_check_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outcome = call(capsys, "plan", "check", "--json", write_plan(tmp_path / "p.json", revision=0))
    assert outcome.status == 1
    [plan] = outcome.json()["plans"]
    assert plan["valid"] is False
    assert plan["issues"][0]["pointer"] == "/revision"


def test_a_missing_file_is_the_environments_fault(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(capsys, "plan", "check", tmp_path / "none").status == 3


def test_seal_fills_the_digest_and_keeps_the_rest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "p.json"
    path.write_text(json.dumps(whole_plan(digest="sha256:wrong"), indent=4), encoding="utf-8")
    outcome = call(capsys, "plan", "seal", path)
    assert outcome.status == 0
    document = json.loads(path.read_text())
    assert outcome.out == document["digest"] + "\n"
    assert whole_plan(digest=document["digest"]) == document
    assert list(document) == [*whole_plan(), "digest"]
    assert call(capsys, "plan", "check", path).status == 0


def test_seal_leaves_a_faulty_plan_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "p.json"
    before = json.dumps(whole_plan(revision=0))
    path.write_text(before, encoding="utf-8")
    outcome = call(capsys, "plan", "seal", path)
    assert outcome.status == 2
    assert "/revision" in outcome.err
    assert path.read_text() == before


@pytest.mark.parametrize("content", ["", "[]", "{", '{"a": 1, "a": 2}', '{"a": 1.5}'])
def test_seal_refuses_what_is_no_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str) -> None:
    path = tmp_path / "p.json"
    path.write_text(content, encoding="utf-8")
    assert call(capsys, "plan", "seal", path).status == 2
    assert path.read_text() == content


@pytest.mark.parametrize(
    ("method", "url", "told"),
    [
        ("GET", "https://api.example.com/v1/x", "inject"),
        ("GET", "https://api.example.com/v10", "nearest"),
        ("GET", "https://elsewhere.example/", "denied_by_plan"),
        ("GET", "https://api.example.com/v1/../x", "refuse"),
        ("GET", "nonsense", "refuse"),
    ],
)
def test_explain(tmp_path: Path, capsys: pytest.CaptureFixture[str], method: str, url: str, told: str) -> None:
    outcome = call(capsys, "plan", "explain", write_plan(tmp_path / "p.json"), method, url)
    assert outcome.status == 0
    assert told in outcome.out


def test_explain_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_plan(tmp_path / "p.json")
    document = call(capsys, "plan", "explain", "--json", path, "GET", "https://api.example.com/v1").json()
    assert (document["decision"], document["egressRuleId"]) == ("inject", "egr_1")


def test_reading_a_bad_plan_tells_every_issue(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="is not a valid plan") as caught:
        read_plan(write_plan(tmp_path / "p.json", revision=0, version=0))
    assert len(caught.value.hint.splitlines()) == 2
