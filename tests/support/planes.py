"""Control planes that die at a step (killed_plane.py), one after the other on the same database."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Mapping

from tests.support.gateway_process import ROOT


class Planes:
    """One control plane after the other on the same database."""

    def __init__(self, variables: Mapping[str, str], hit: int) -> None:
        """Each that is to die at a step does so when it comes to it for the hit-th time."""
        self._environment = {**os.environ, **variables}
        self._process: asyncio.subprocess.Process | None = None
        self.url = ""
        self._hit = hit

    async def start(self, step: str) -> None:
        """Start one, and wait until it answers."""
        command = ("-m", "tests.support.killed_plane", step, str(self._hit))
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, *command, env=self._environment, cwd=ROOT, stderr=asyncio.subprocess.PIPE
        )
        assert self._process.stderr is not None
        said: list[bytes] = []
        async for line in self._process.stderr:
            said.append(line)
            event = json.loads(line) if line.startswith(b"{") else {}
            if event.get("event") == "ready":
                self.url = f"http://{event['api']}"
                return
        raise AssertionError(b"".join(said).decode())

    async def wait(self) -> int:
        """Wait for its end, reading on what it says."""
        assert self._process is not None
        await self._process.communicate()
        assert self._process.returncode is not None
        return self._process.returncode

    async def stop(self) -> int:
        """End it as operators do."""
        assert self._process is not None
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
        return await self.wait()
