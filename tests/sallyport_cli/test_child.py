import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sallyport_cli.child import run_child
from sallyport_cli.failure import Failure

ENVIRONMENT = {"PATH": "/usr/bin:/bin"}


@pytest.mark.parametrize(
    ("script", "status"), [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137), ("kill -TERM $$", 143)]
)
def test_the_status_is_what_a_shell_would_give(script: str, status: int) -> None:
    assert run_child(["sh", "-c", script], ENVIRONMENT) == status


def test_the_environment_is_exactly_the_one_given(tmp_path: Path) -> None:
    out = tmp_path / "env.json"
    script = f"import json, os; json.dump(dict(os.environ), open({str(out)!r}, 'w'))"
    assert run_child([sys.executable, "-c", script], {"A": "b", "LC_CTYPE": "C.UTF-8"}) == 0
    assert json.loads(out.read_text()) == {"A": "b", "LC_CTYPE": "C.UTF-8"}


@pytest.mark.parametrize(("command", "status"), [("no-such-command", 127), ("/dev/null", 126)])
def test_what_cannot_be_started(command: str, status: int) -> None:
    with pytest.raises(Failure, match=command) as caught:
        run_child([command], ENVIRONMENT)
    assert caught.value.status == status


def test_handlers_are_put_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    run_child(["true"], ENVIRONMENT)
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("name", ["TERM", "HUP", "INT", "QUIT", "USR1", "USR2"])
def test_signals_reach_the_command(name: str) -> None:
    trap = f"trap 'echo got {name}; exit 3' {name}; echo ready; while :; do sleep 0.01; done"
    script = f"from sallyport_cli.child import run_child; raise SystemExit(run_child(['sh', '-c', {trap!r}], {{}}))"
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, start_new_session=True, env=dict(os.environ)
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.Signals[f"SIG{name}"])
    assert process.communicate()[0] == f"got {name}\n"
    assert process.returncode == 3
