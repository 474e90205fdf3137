import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from sallyport_cli.failure import Failure
from sallyport_cli.plan import read_plan
from tests.support.command import call, whole_plan, write_plan
from tests.support.scripted_http import ScriptedHttp, scripted_http


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


def two_plans(tmp_path: Path) -> tuple[Path, Path]:
    return write_plan(tmp_path / "a.json"), write_plan(tmp_path / "b.json", egressRoutes=[])


def test_diff_of_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, after = two_plans(tmp_path)
    outcome = call(capsys, "plan", "diff", before, after)
    assert outcome.status == 1
    assert "inject by egr_1  ->  deny (denied_by_plan)" in outcome.out
    assert "  GET https://api.example.com/v1" in outcome.out
    assert call(capsys, "plan", "diff", "--json", before, after).json()["complete"] is True
    same = call(capsys, "plan", "diff", before, before)
    assert (same.status, same.out) == (0, "nothing changes\n")
    assert call(capsys, "plan", "diff", before).status == 2


def test_simulate_with_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, after = two_plans(tmp_path)
    recording = tmp_path / "r.json"
    recording.write_text('[{"method": "GET", "url": "https://api.example.com/v1"}]', encoding="utf-8")
    outcome = call(capsys, "plan", "simulate", recording, "--plan", after, "--before", before)
    assert (outcome.status, outcome.out.splitlines()[0]) == (1, "changed GET https://api.example.com/v1")
    alone = call(capsys, "plan", "simulate", recording, "--plan", after, "--json")
    assert (alone.status, alone.json()["changed"]) == (0, 0)
    assert call(capsys, "plan", "simulate", recording).status == 2


@pytest.fixture
def control() -> Iterator[ScriptedHttp]:
    path = "/v1/sandbox/profiles/sbp_1/versions/3"
    with scripted_http() as control:
        control.answer(f"{path}/compile", {"plan": whole_plan(), "revision": 7, "digest": "sha256:x", "changed": True})
        control.answer(f"{path}/explain?method=GET&url=https%3A%2F%2Fa.example%2F", {"decision": "deny"})
        control.answer(f"{path}/diff", {"changes": [], "parts": {}, "complete": True})
        control.answer(f"{path}/simulate", {"items": [], "changed": 0})
        yield control


def test_a_version_of_a_control_plane(
    tmp_path: Path, control: ScriptedHttp, capsys: pytest.CaptureFixture[str]
) -> None:
    token = tmp_path / "token"
    token.write_text("service-token\n")
    version = ("--profile", "sbp_1", "--version", 3, "--control", control.url, "--token-file", token)
    assert call(capsys, "plan", "compile", *version).json() == whole_plan()
    applied = call(capsys, "plan", "compile", *version, "--sandbox", "sbx_1")
    assert applied.out == "sbx_1: revision 7 put in force, sha256:x\n"
    explained = call(capsys, "plan", "explain", *version, "GET", "https://a.example/")
    assert explained.out == "decision       deny\n"
    assert call(capsys, "plan", "diff", *version, "--against", 4).out == "nothing changes\n"
    bindings = tmp_path / "bindings.json"
    bindings.write_text("[]", encoding="utf-8")
    assert call(capsys, "plan", "diff", *version, "--bindings", bindings).status == 0
    recording = tmp_path / "r.json"
    recording.write_text("[]", encoding="utf-8")
    options = ("--bindings", bindings, "--sandbox", "sbx_1")
    assert call(capsys, "plan", "simulate", recording, *version, *options).status == 0
    assert {asked.authorization for asked in control.asked} == {"Bearer service-token"}


@pytest.mark.parametrize(
    "arguments",
    [
        ("explain", "--profile", "sbp_1", "GET", "https://a.example/"),
        ("explain", "GET", "https://a.example/"),
        ("diff", "--profile", "sbp_1", "--version", "3", "--control", "http://127.0.0.1:1", "--token-file", "token"),
    ],
)
def test_what_does_not_go_together(
    arguments: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "token").write_text("t")
    assert call(capsys, "plan", *arguments).status == 2
