"""`sallyport up`: bad input before anything starts, and one whole life on free ports."""

import json
import os
import signal
from pathlib import Path

import pytest

from demo.leaks import leaks
from sallyport_cli.supervisor import STOP_SECONDS
from sallyport_cli.up import DRAIN_SECONDS
from tests.support.command import call, write_plan
from tests.support.gateway_plans import plan, route
from tests.support.gateway_process import Setting
from tests.support.up_process import PARTS, up_process

SECRET = "up-canary-value/991+x"


@pytest.mark.parametrize("text", ["con_x", "con_x=", "con_x=value", "=env:X", "con_x=env:", "con_x=secret:canary-text"])
def test_a_credential_in_the_wrong_form_is_not_repeated(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    outcome = call(capsys, "up", "--credential", text)
    assert outcome.status == 2
    assert "con_x=env:NAME or con_x=file:PATH" in outcome.err
    assert "canary" not in outcome.err


def test_what_a_credential_names_has_to_be_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    unset = call(capsys, "up", "--credential", "con_x=env:NOT_SET_ANYWHERE")
    assert unset.status == 3
    assert "NOT_SET_ANYWHERE is not set" in unset.err
    assert call(capsys, "up", "--credential", f"con_x=file:{tmp_path / 'none'}").status == 3


def test_a_faulty_plan_is_told_before_anything_starts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    faulty = call(capsys, "up", "--plan", write_plan(tmp_path / "plan.json", revision=0, nonsense=1))
    assert faulty.status == 2
    assert "/revision" in faulty.err
    assert "/nonsense" in faulty.err
    (tmp_path / "list.json").write_text("[]")
    assert call(capsys, "up", "--plan", tmp_path / "list.json").status == 2


def test_parts_drain_before_they_are_killed() -> None:
    assert DRAIN_SECONDS < STOP_SECONDS


def test_one_life(tmp_path: Path) -> None:
    setting = Setting(
        plan=plan([route("r", ["api.test"], "con_r")], default="deny"),
        credentials={"con_r": SECRET},
        further={"control": {"max_stale": "2h"}},  # one of a section: the others stay those of `up`
    )
    with up_process(tmp_path, setting) as up:
        environments = [Path(f"/proc/{up.pid(part)}/environ") for part in PARTS]
        if os.geteuid() == 0:  # the parts let nobody else read it
            assert leaks(b"".join(path.read_bytes() for path in environments), [SECRET]) == []
        assert up.addresses["sandboxId"] == json.loads(setting.plan)["sandboxId"]
        token = Path(up.addresses["tokenFile"])
        assert token.stat().st_mode & 0o777 == 0o600
        os.kill(up.process.pid, signal.SIGINT)
        up.process.wait(30)
        assert up.process.returncode == 0
        log = up.log
    assert leaks(log.encode(), [SECRET]) == []
    kept = b"".join(path.read_bytes() for path in (tmp_path / "data").rglob("*") if path.is_file())
    assert leaks(kept, [SECRET]) == []


def test_a_part_that_cannot_start_stops_the_others(tmp_path: Path) -> None:
    setting = Setting(plan=plan([], default="deny"), further={"limits": {"head_bytes": "nonsense"}})
    told = "gateway ended with status 2 before it was ready"
    with pytest.raises(AssertionError, match=told), up_process(tmp_path, setting):
        pass
