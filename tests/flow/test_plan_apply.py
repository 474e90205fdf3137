"""`sallyport plan apply`: a plan of a file, through a control plane and a worker, into a sandbox that runs."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sallyport.plan.codec import seal
from tests.support.gateway_plans import plan
from tests.support.gateway_process import ROOT, Setting
from tests.support.setup_documents import artifact_document, shell
from tests.support.up_process import UpProcess, up_process

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[UpProcess]:
    with up_process(tmp_path_factory.mktemp("apply"), Setting(plan=plan([]))) as up:
        yield up


def apply(up: UpProcess, file: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-P", "-m", "sallyport_cli.main", "plan", "apply", str(file), *options]
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    return subprocess.run(
        [*command, "--data-dir", str(up.data_dir)], env=environment, capture_output=True, text=True, check=False
    )


def installing(folder: Path, script: str) -> Path:
    """Write a plan that installs something by a script."""
    step = {"op": "exec", "args": shell(script), "timeoutMs": 10_000}
    document = json.loads(plan([])) | {"artifacts": [artifact_document("tool", [step])]}
    (folder / "plan.json").write_bytes(seal(document))
    return folder / "plan.json"


def test_the_steps_are_shown_as_they_go(up: UpProcess, tmp_path: Path) -> None:
    file = installing(tmp_path, f"echo installed >> {tmp_path}/effect")
    shown = apply(up, file, "--watch")
    assert (shown.returncode, shown.stderr) == (0, "")
    first, *steps, last = shown.stdout.splitlines()
    assert first.endswith("revision 2 of sbx_one is being applied")  # 1 is what `up` has applied
    assert ["push_setup", "done"] in [line.split() for line in steps]
    assert last == "revision 2 of sbx_one is applied"
    assert (tmp_path / "effect").read_text() == "installed\n"
    # The same again changes nothing.
    again = apply(up, file, "--watch", "--json")
    assert (json.loads(again.stdout)["revision"], json.loads(again.stdout)["state"]) == (2, "applied")
    assert (tmp_path / "effect").read_text() == "installed\n"


def test_one_that_fails_says_at_which_step(up: UpProcess, tmp_path: Path) -> None:
    shown = apply(up, installing(tmp_path, "echo there is no room >&2; exit 3"), "--watch")
    assert shown.returncode == 1
    assert "artifact/tool" in shown.stdout
    assert shown.stdout.splitlines()[-1].endswith("is failed")


def test_without_watching_it_goes_on_by_itself(up: UpProcess, tmp_path: Path) -> None:
    begun = apply(up, installing(tmp_path, "true"), "--json")
    assert begun.returncode == 0
    assert json.loads(begun.stdout).keys() == {"applicationId", "sandboxId", "revision"}


def test_what_cannot_be_applied(up: UpProcess, tmp_path: Path) -> None:
    stranger = json.loads(plan([])) | {"sandboxId": "sbx_nobody"}
    (tmp_path / "plan.json").write_bytes(seal(stranger))
    refused = apply(up, tmp_path / "plan.json")
    assert (refused.returncode, "404" in refused.stderr) == (2, True)
    (tmp_path / "plan.json").write_text("{}")
    refused = apply(up, tmp_path / "plan.json")
    assert (refused.returncode, "/sandboxId" in refused.stderr) == (2, True)
    refused = apply(up, installing(tmp_path, "true"), "--worker", "http://127.0.0.1:9")
    assert (refused.returncode, "Connection refused" in refused.stderr) == (3, True)
