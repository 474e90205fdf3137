"""A worker's integration servers in this process, over `mcp_program` and its faults."""

import contextlib
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from sallyport.net.tasks import TaskSet
from tests.support.mcp_program import FAULTS, PROGRAM
from worker.config import IntegrationSettings, load_config
from worker.integrations.assembly import open_integrations
from worker.integrations.integration import Integration
from worker.integrations.integrations import Integrations
from worker.integrations.sources import InstallRequest, manifest_of

SECRET = "s3cr3t-value-of-a-token"
# Small numbers, so that no test waits; what a test is about it sets itself.
QUICK = {
    "TIMEOUTS_HANDSHAKE": "5s",
    "TIMEOUTS_EXIT": "200ms",
    "TIMEOUTS_TERMINATE": "200ms",
    "TIMEOUTS_FIRST_RESTART": "10ms",
    "TIMEOUTS_LONGEST_RESTART": "20ms",
}


def settings(folder: Path, **changes: str) -> IntegrationSettings:
    """Return settings for a folder."""
    given = {**QUICK, "STATE_DIR": str(folder / "state"), **changes}
    return load_config(
        {f"SALLYPORT_WORKER_INTEGRATIONS_{name}": value for name, value in given.items()}, folder
    ).integrations


class IntegrationStage:
    """Integration servers and the tasks that are theirs."""

    def __init__(self, integrations: Integrations, tasks: TaskSet, failures: list[str]) -> None:
        self.integrations = integrations
        self.tasks = tasks
        self.failures = failures

    async def install(self, *faults: str, name: str = "tester", **more: object) -> Integration:
        """Install the program with these faults."""
        return await self.integrations.install(manifest_of(order(*faults, name=name, **more)), lambda *_: None)

    async def started(self, *faults: str, name: str = "tester", **more: object) -> Integration:
        """Install it and start it."""
        integration = await self.install(*faults, name=name, **more)
        await integration.start()
        return integration


def order(*faults: str, name: str = "tester", **more: object) -> InstallRequest:
    """Return the request that installs the program with these faults."""
    assert set(faults) <= set(FAULTS)
    transport = {"type": "stdio", "command": sys.executable, "args": ["-IS", str(PROGRAM), *faults]}
    return InstallRequest.model_validate({"source": {"id": name, "transport": transport, **more}})


@contextlib.asynccontextmanager
async def integration_stage(
    folder: Path, environ: dict[str, str] | None = None, /, **changes: str
) -> AsyncIterator[IntegrationStage]:
    """Open a folder's integration servers; no task of theirs may have failed in the end."""
    failures: list[str] = []
    tasks = TaskSet(lambda name, error: failures.append(f"{name}: {error!r}"))
    inherited = {"PATH": "/usr/bin:/bin", "TOKEN_OF_A_SERVER": SECRET, "SALLYPORT_SECRET_OF_THE_WORKER": "x"}
    integrations = open_integrations(settings(folder, **changes), inherited | (environ or {}), tasks)
    try:
        await integrations.open()
        yield IntegrationStage(integrations, tasks, failures)
    finally:
        await integrations.close()
        await tasks.close()
    assert failures == []
