"""Processes of tests/support/tool_server.py: real servers that can be killed in the middle of whatever they do."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


class ToolServerProcess:
    """One process that serves some names; it can be killed, and started again at its port."""

    def __init__(self, place: str, keys: Mapping[str, str]) -> None:
        """keys: each server's name, and the keys it takes, with commas between them."""
        self.place = place
        self.port = 0
        self._keys = keys
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, name: str) -> str:
        """Where a server is spoken to."""
        return f"http://127.0.0.1:{self.port}/{name}/mcp"

    def begin(self) -> None:
        """Start it, at the port it had before if there was one."""
        command = [sys.executable, "-P", "-m", "tests.support.tool_server", str(self.port), self.place]
        command += [f"{name}={key}" for name, key in self._keys.items()]
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
        self._process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )

    def listening(self) -> None:
        """Wait until it listens."""
        assert self._process is not None
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"{self.place} did not start"
        self.port = int(line)

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


@contextlib.contextmanager
def tool_server_processes(*processes: ToolServerProcess) -> Iterator[None]:
    """Run these while the block runs."""
    try:
        for each in processes:
            each.begin()
        for each in processes:
            each.listening()
        yield
    finally:
        for each in processes:
            each.kill()
