"""The `sallyport` command as tests run it: in this process where that is enough, as a process of its own else."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from sallyport.plan.codec import seal
from sallyport_cli.app import main
from tests.support.plan_documents import plan_document, route_document


class Outcome(NamedTuple):
    """What a command left behind."""

    status: int
    out: str
    err: str

    def json(self) -> Any:  # noqa: ANN401 (each command has a document of its own)
        return json.loads(self.out)


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> Outcome:
    """Run a command line in this process."""
    capsys.readouterr()
    status = main([str(argument) for argument in arguments])
    printed = capsys.readouterr()
    assert "Traceback" not in printed.err
    return Outcome(status, printed.out, printed.err)


def command(*arguments: object) -> list[str]:
    """Return the command line of a process of its own."""
    return [sys.executable, "-P", "-m", "sallyport_cli.main", *map(str, arguments)]


def spawn(*arguments: object, env: Mapping[str, str], cwd: Path) -> Outcome:
    """Run a command line as a process of its own, outside any terminal."""
    answer = subprocess.run(
        command(*arguments), env=dict(env), cwd=cwd, capture_output=True, text=True, start_new_session=True, check=False
    )
    assert "Traceback" not in answer.stderr
    return Outcome(answer.returncode, answer.stdout, answer.stderr)


def whole_plan(**changes: object) -> dict[str, object]:
    """Return a plan with one bearer route for https://api.example.com/v1 that denies the rest, not sealed."""
    route = route_document("egr_1", match={"hosts": ["api.example.com"], "pathPrefixes": ["/v1"]})
    return plan_document([route], default="deny") | changes


def write_plan(path: Path, **changes: object) -> Path:
    """Write a sealed plan."""
    path.write_bytes(seal(whole_plan(**changes)))
    return path
