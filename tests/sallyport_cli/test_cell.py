"""What the first process of a sandbox is put together of; itself it is in tests/worker/sandboxes/test_cell.py."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from sallyport.deputy import SHELL_FILE
from tests.support.gateway_process import ROOT

SECONDS = 20
# No file of ours can be read any more, as in a sandbox.
SEALED = """
import sys
from sallyport_cli.cell import load_deputy
run = load_deputy()
sys.path.clear()
sys.exit(run({"HOME": sys.argv[1], "PATH": "/usr/bin:/bin"}))
"""


def test_a_deputy_needs_nothing_that_was_not_read_before(tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-c", SEALED, str(tmp_path)], env=environment, stderr=subprocess.PIPE)
    while not (tmp_path / SHELL_FILE).exists():
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=SECONDS)
    assert (process.returncode, said) == (0, b"")
