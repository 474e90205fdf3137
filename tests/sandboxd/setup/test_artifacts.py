"""Artifacts over several revisions, by programs that write down that they ran."""

import json
from pathlib import Path

import pytest

from sallyport.setup import Artifact
from sandboxd.setup.artifacts import Ledger, install, put_file, remove
from sandboxd.setup.steps import StepFailed
from tests.support.setup_documents import Json, artifact_document, exec_step, setup_of, setup_parts, shell


def note(tmp_path: Path, text: str) -> Json:
    return exec_step(shell(f'echo "{text}" >> {tmp_path}/ran'))


def artifact_of(document: Json) -> Artifact:
    (artifact,) = setup_of(artifacts=[document]).artifacts
    return artifact


def ran(tmp_path: Path) -> list[str]:
    path = tmp_path / "ran"
    return path.read_text().splitlines() if path.exists() else []


async def test_once_then_updated_then_removed(tmp_path: Path) -> None:
    first = artifact_of(artifact_document("tool", [note(tmp_path, "install 1")], update=[note(tmp_path, "update 1")]))
    second = artifact_of(
        artifact_document(
            "tool",
            [note(tmp_path, "install 2")],
            update=[note(tmp_path, "update 2")],
            remove=[note(tmp_path, "gone 2")],
        )
    )
    ledger = tmp_path / "installed.json"
    async with setup_parts(tmp_path) as parts:
        for artifact in (first, first, second, second):
            await install(parts, Ledger(ledger), artifact, {})
        assert Ledger(ledger).installed_keys() == ("tool",)
        assert Ledger(ledger).find("tool") == second
        await remove(parts, Ledger(ledger), "tool", {})
        await remove(parts, Ledger(ledger), "tool", {})
    assert ran(tmp_path) == ["install 1", "update 2", "gone 2"]
    assert Ledger(ledger).installed_keys() == ()


async def test_without_update_steps_it_is_installed_again(tmp_path: Path) -> None:
    async with setup_parts(tmp_path) as parts:
        ledger = Ledger(tmp_path / "installed.json")
        for number in (1, 2):
            await install(parts, ledger, artifact_of(artifact_document("tool", [note(tmp_path, str(number))])), {})
    assert ran(tmp_path) == ["1", "2"]


async def test_what_failed_is_tried_again(tmp_path: Path) -> None:
    steps = [note(tmp_path, "begun"), exec_step(shell(f"test -e {tmp_path}/disk || {{ echo no disk; exit 4; }}"))]
    artifact = artifact_of(artifact_document("tool", steps))
    async with setup_parts(tmp_path) as parts:
        ledger = Ledger(tmp_path / "installed.json")
        with pytest.raises(StepFailed, match="sh exited with code 4: no disk"):
            await install(parts, ledger, artifact, {})
        assert ledger.find("tool") is None
        (tmp_path / "disk").touch()
        await install(parts, ledger, artifact, {})
    assert ran(tmp_path) == ["begun", "begun"]


async def test_steps_have_their_variables_and_their_place(tmp_path: Path) -> None:
    step = exec_step(shell(f'echo "$A $B $C $PWD" > {tmp_path}/ran'), env={"C": "step"}, cwd=str(tmp_path))
    document = artifact_document("tool", [step]) | {"env": {"B": "artifact", "C": "artifact"}}
    async with setup_parts(tmp_path) as parts:
        environment = {"A": "document", "B": "document"}
        await install(parts, Ledger(tmp_path / "installed.json"), artifact_of(document), environment)
    assert ran(tmp_path) == [f"document artifact step {tmp_path}"]


async def test_a_file_step(tmp_path: Path) -> None:
    file = {"op": "file", "path": f"{tmp_path}/bin/tool", "mode": 0o755, "content": "x", "writeMode": "overwrite"}
    async with setup_parts(tmp_path) as parts:
        await install(parts, Ledger(tmp_path / "installed.json"), artifact_of(artifact_document("tool", [file])), {})
    assert (tmp_path / "bin/tool").stat().st_mode & 0o777 == 0o755


def test_files_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(StepFailed, match="link is a symbolic link"):
        put_file(f"{tmp_path}/link/x", "x", 0o600, "overwrite")
    with pytest.raises(StepFailed, match="cannot be written: File name too long"):
        put_file(f"{tmp_path}/{'x' * 256}", "x", 0o600, "overwrite")


@pytest.mark.parametrize("content", ["", "[]", "{", '{"a": 1}', '{"a": "{}"}', "\xff", "[" * 100_000])
def test_a_ledger_that_cannot_be_read_holds_nothing(tmp_path: Path, content: str) -> None:
    (tmp_path / "ledger").write_text(content, encoding="latin-1")
    assert Ledger(tmp_path / "ledger").installed_keys() == ()


def test_what_can_be_read_of_a_ledger_is_kept(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger")
    ledger.note(artifact_of(artifact_document("tool", [])))
    held = json.loads((tmp_path / "ledger").read_text())
    (tmp_path / "ledger").write_text(json.dumps(held | {"other": "?"}))
    assert Ledger(tmp_path / "ledger").installed_keys() == ("tool",)
