"""A program is installed at one version, once, and without a shell seeing anything that was typed in."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from control_plane.definitions.npm_program import Version, npm_program, program_of_image
from sallyport.plan.fields import Model


class Fields(Model):
    version: Version


def install_args() -> list[str]:
    lifecycle: Any = npm_program(
        key="codex",
        name="Codex",
        program="codex",
        package="@openai/codex",
        version="1.2.3",
        answer="codex-cli 1.2.3",
        env={},
    )["lifecycle"]
    args = lifecycle["install"][0]["args"]
    assert isinstance(args, list)
    return args


def programs(folder: Path, *, version: str | None) -> dict[str, str]:
    """Return the variables of a machine whose npm writes down what it is asked, and whose Codex has this version."""
    texts = {"npm": f'echo "$@" > {folder}/asked'}
    if version is not None:
        texts["codex"] = f'test "$1" = --version && echo "codex-cli {version}"'
    for name, text in texts.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    return {"PATH": f"{folder}:{os.environ['PATH']}"}


@pytest.mark.parametrize("found", [None, "1.2.2", "1.2.30"])
def test_another_version_or_none_is_replaced(tmp_path: Path, found: str | None) -> None:
    subprocess.run(install_args(), env=programs(tmp_path, version=found), check=True)
    assert (tmp_path / "asked").read_text() == "install --global --no-audit --no-fund @openai/codex@1.2.3\n"


def test_this_version_is_left_alone_without_asking_a_registry(tmp_path: Path) -> None:
    subprocess.run(install_args(), env=programs(tmp_path, version="1.2.3"), check=True)
    assert not (tmp_path / "asked").exists()


def test_the_image_has_to_bring_the_program() -> None:
    lifecycle: Any = program_of_image(key="codex", name="Codex", program="codex", env={})["lifecycle"]
    assert [step["args"] for step in lifecycle["install"]] == [["codex", "--version"]]
    assert "remove" not in lifecycle, "what the image brought stays"


@pytest.mark.parametrize("text", ["1.2", "latest", "^1.2.3", "1.2.3 || true", "1.2.3;id", "1.2.3-", "", "v1.2.3"])
def test_what_is_not_one_version_is_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        Fields.model_validate({"version": text})


@pytest.mark.parametrize("text", ["0.171.0", "2.1.332", "0.172.0-alpha.3"])
def test_a_version_is_taken(text: str) -> None:
    assert Fields.model_validate({"version": text}).version == text
