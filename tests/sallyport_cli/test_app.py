import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import typer

from tests.support.command import call, command, write_plan


def test_help_shows_every_command_and_the_exit_statuses(capsys: pytest.CaptureFixture[str]) -> None:
    outcome = call(capsys, "--help")
    assert outcome.status == 0
    for word in ("gateway", "run", "env", "doctor", "plan", "token", "Exit status"):
        assert word in outcome.out


@pytest.mark.parametrize(
    "words",
    [
        ["gateway"],
        ["run"],
        ["env"],
        ["doctor"],
        ["plan", "check"],
        ["plan", "seal"],
        ["plan", "explain"],
        ["token", "keygen"],
        ["token", "mint"],
    ],
    ids=" ".join,
)
def test_every_command_has_json(capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    assert "--json" in call(capsys, *words, "--help").out


def test_no_arguments_show_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    outcome = call(capsys)
    assert outcome.status == 2
    assert "Usage" in outcome.out + outcome.err
    assert "error:" not in outcome.err


def test_wrong_usage_says_what_and_how_to_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    outcome = call(capsys, "gatewya")
    assert outcome.status == 2
    assert "gatewya" in outcome.err
    assert "sallyport --help" in outcome.err


def test_wrong_usage_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    outcome = call(capsys, "plan", "check", "--json")
    assert outcome.status == 2
    assert outcome.json()["error"]["status"] == 2
    assert outcome.err == ""


def test_json_behind_the_dashes_is_the_commands_own(capsys: pytest.CaptureFixture[str]) -> None:
    outcome = call(capsys, "run", "--", "prog", "--json")
    assert outcome.status == 2
    assert outcome.err.startswith("error: ")


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        (lambda: KeyError("sk-secret"), 70, "internal error: KeyError"),
        (KeyboardInterrupt, 130, ""),
    ],
)
def test_whatever_happens_is_told_in_a_line(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    error: Callable[[], BaseException],
    status: int,
    told: str,
) -> None:
    def fail(_: object) -> None:
        raise error()

    monkeypatch.setattr(typer.main, "get_command", fail)
    outcome = call(capsys, "plan")
    assert outcome.status == status
    assert told in outcome.err
    assert "sk-secret" not in outcome.err


@pytest.mark.parametrize("arguments", [["--help"], ["plan", "check", "--json", "plan.json"]])
def test_a_reader_that_has_seen_enough_is_no_fault(tmp_path: Path, arguments: list[str]) -> None:
    write_plan(tmp_path / "plan.json")
    nobody_reads, pipe = os.pipe()
    os.close(nobody_reads)
    environment = {"PATH": "/usr/bin:/bin"}
    answer = subprocess.run(
        command(*arguments), stdout=pipe, stderr=subprocess.PIPE, env=environment, cwd=tmp_path, check=False
    )
    os.close(pipe)
    assert answer.stderr == b""
    assert answer.returncode in (0, 1)
