"""`sallyport targets`: in the database itself, and by the API of a control plane that runs."""

import asyncio
import json
from pathlib import Path

import pytest

from tests.support.command import Outcome, call
from tests.support.control_plane import SECRET, replica, settings


@pytest.fixture
def data_dir(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    assert call(capsys, "control-plane", "migrate", "--data-dir", tmp_path / "data").status == 0
    return tmp_path / "data"


def write(path: Path, **targets: object) -> Path:
    path.write_text(json.dumps({"targets": targets}))
    return path


def test_sync_shows_what_changes_and_is_quiet_the_second_time(
    data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LINEAR_SECRET", SECRET)
    (tmp_path / "id").write_text("the-id\n")
    secrets = {"clientId": {"file": "id"}, "clientSecret": {"env": "LINEAR_SECRET"}}
    file = write(tmp_path / "targets.json", **{"linear-default": {"displayName": "Ours", "secrets": secrets}})
    command = ("targets", "sync", "--data-dir", data_dir, "--file", file)
    dry = call(capsys, *command, "--dry-run")
    assert "linear-default: added, enabled\n" in dry.out
    assert 'linear-default: displayName null -> "Ours"\n' in dry.out
    assert "linear-default: secrets/clientSecret set\n" in dry.out
    real = call(capsys, *command)
    assert real.out == dry.out
    assert SECRET not in real.out + real.err
    assert call(capsys, *command).out == "nothing to change\n"
    assert call(capsys, *command, "--json").json() == {"dryRun": False, "differences": []}


def test_sync_tells_every_fault(data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    faulty = write(tmp_path / "targets.json", none={}, **{"linear-default": {"config": {"x": 1}}})
    outcome = call(capsys, "targets", "sync", "--data-dir", data_dir, "--file", faulty)
    assert outcome.status == 2
    for pointer in ("/targets/none", "/targets/linear-default/config/x"):
        assert pointer in outcome.err
    assert call(capsys, "targets", "sync", "--data-dir", data_dir, "--file", tmp_path / "none").status == 3


async def test_targets_by_the_api(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with replica(settings(tmp_path / "data", None)) as api:
        key = (await api.ask("POST", "/v1/api-keys", {"role": "operator"}, status=201))["key"]
        (tmp_path / "key").write_text(key)
        reach = ("--control", f"http://127.0.0.1:{api.plane.port}", "--token-file", tmp_path / "key")

        async def ask(*words: object) -> Outcome:
            return await asyncio.to_thread(call, capsys, "targets", *words, *reach)

        listed = (await ask("list", "--json")).json()["items"]
        assert "linear-default" in [target["targetKey"] for target in listed]
        assert "degraded" in (await ask("list")).out
        for word, on in (("disable", False), ("disable", False), ("enable", True)):
            assert (await ask(word, "linear-default", "--json")).json()["enabled"] is on
        assert (await ask("show", "linear-default")).json()["revision"] == 3
        assert (await ask("show", "none")).status == 2
        assert "linear-default" in (await ask("enable", "linear-default")).out


def test_no_control_plane(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "key").write_text("x")
    outcome = call(capsys, "targets", "list", "--control", "http://127.0.0.1:1", "--token-file", tmp_path / "key")
    assert outcome.status == 3
