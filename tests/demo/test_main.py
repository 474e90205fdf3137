"""The demonstration as a user runs it."""

import subprocess
import sys

import pytest

from demo import config
from tests.support.gateway_process import ROOT


@pytest.mark.full
@pytest.mark.clients
def test_every_step_passes() -> None:
    try:
        config.find_prepared()
    except config.NotPrepared as fault:
        pytest.skip(str(fault))
    done = subprocess.run([sys.executable, "-m", "demo"], cwd=ROOT, capture_output=True, timeout=59, check=False)
    assert done.stderr == b""
    assert done.stdout.decode().splitlines()[-1] == "demo: 10 of 10 passed"
    assert done.returncode == 0
