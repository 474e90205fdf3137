from pathlib import Path

import pytest

from sallyport_cli.keys import generate_key_files
from tests.support.command import call, spawn, write_plan


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    files = generate_key_files(tmp_path / "keys")
    path = tmp_path / "gateway.yaml"
    path.write_text(
        "listen: {proxy: '127.0.0.1:0', tunnel: 'off', admin: '127.0.0.1:0'}\n"
        f"tokens: {{public_key: '{files.public}'}}\n",
        encoding="utf-8",
    )
    return path


def test_faulty_settings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "gateway.yaml"
    path.write_text("listen: {proxy: nowhere}\nnonsense: 1\n", encoding="utf-8")
    outcome = call(capsys, "gateway", "--config", path)
    assert outcome.status == 2
    assert "/listen/proxy" in outcome.err
    assert "/nonsense" in outcome.err


def test_missing_settings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(capsys, "gateway", "--config", tmp_path / "none").status == 3


def test_a_faulty_plan_is_bad_input_and_told_whole(settings: Path, tmp_path: Path) -> None:
    plan = write_plan(tmp_path / "plan.json", revision=0, nonsense=1)
    environment = {"PATH": "/usr/bin:/bin", "SALLYPORT_PLANS": str(plan)}
    outcome = spawn("gateway", "--config", settings, env=environment, cwd=tmp_path)
    assert outcome.status == 2
    for told in (str(plan), "/revision", "/nonsense"):
        assert told in outcome.err


def test_a_key_file_without_a_key_is_bad_input_as_json(settings: Path, tmp_path: Path) -> None:
    environment = {"PATH": "/usr/bin:/bin", "SALLYPORT_TOKENS_PUBLIC_KEY": str(settings)}
    outcome = spawn("gateway", "--json", "--config", settings, env=environment, cwd=tmp_path)
    assert outcome.status == 2
    assert "PEM" in outcome.json()["error"]["message"]


def test_what_is_wrong_is_told_alike_by_several_processes(settings: Path, tmp_path: Path) -> None:
    plan = write_plan(tmp_path / "plan.json", revision=0)
    environment = {"PATH": "/usr/bin:/bin", "SALLYPORT_PLANS": str(plan)}
    outcome = spawn("gateway", "--workers", "2", "--config", settings, env=environment, cwd=tmp_path)
    assert outcome.status == 2
    assert outcome.err.count("/revision") == 1


def test_there_is_at_least_one_process(settings: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(capsys, "gateway", "--workers", "0", "--config", settings).status == 2
