"""The conformance suite of MCP against our client: the scenarios of a client that calls tools."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.client_world import NODE
from tests.support.gateway_process import ROOT

SUITE = ROOT / ".venv-conformance/node/node_modules/@modelcontextprotocol/conformance/dist/index.js"


@pytest.mark.full
@pytest.mark.clients
@pytest.mark.parametrize("scenario", ["initialize", "tools_call"])
def test_our_client_passes(scenario: str, tmp_path: Path) -> None:
    for needed in (NODE, SUITE):
        if not needed.exists():
            pytest.skip(f"not here: {needed.relative_to(ROOT)} (make test-all)")
    client = f"{sys.executable} -P -m tests.support.conformance_client"
    command = [
        str(NODE),
        str(SUITE),
        "client",
        "--command",
        client,
        "--scenario",
        scenario,
        "-o",
        str(tmp_path / "out"),
    ]
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, timeout=50, check=False)
    said = (ended.stdout + ended.stderr).decode(errors="replace")
    assert ended.returncode == 0, said
    assert "Passed: 1/1, 0 failed, 0 warnings" in said
