"""The sandboxes of a worker, put together from its settings; what an earlier worker left is ended."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sallyport.net.proc import environment_has
from sallyport.net.tasks import TaskSet
from tests.support.until import until
from worker.config import load_config
from worker.owned_folder import StateTaken
from worker.sandboxes.assembly import MARK, open_sandboxes
from worker.sandboxes.provider import TunnelTokens


async def mint(sandbox_id: str) -> TunnelTokens:
    return TunnelTokens(token="t", renewal_token="r")


@pytest.fixture
async def tasks() -> AsyncIterator[TaskSet]:
    tasks = TaskSet(lambda name, error: None)
    yield tasks
    await tasks.close()


async def test_the_folder_is_one_worker_s_and_orphans_are_ended(tmp_path: Path, tasks: TaskSet) -> None:
    environ = {
        "SALLYPORT_WORKER_SANDBOXES_STATE_DIR": str(tmp_path / "state"),
        "SALLYPORT_WORKER_SANDBOXES_GATEWAY_URL": "ws://127.0.0.1:9",
    }
    settings = load_config(environ, tmp_path).sandboxes
    opened = await open_sandboxes(settings, environ, tasks, mint)
    assert await opened.sandboxes.declared() == await opened.sandboxes.actual() == {}
    with pytest.raises(StateTaken, match="another worker uses"):
        await open_sandboxes(settings, environ, tasks, mint)
    await opened.close()
    environment = {"PATH": os.environ["PATH"], MARK: opened.folder.mark}
    orphan = await asyncio.create_subprocess_exec("sleep", "300", env=environment)
    # A program that was just started has no environment for a moment.
    variable = f"{MARK}={opened.folder.mark}".encode()
    await until(lambda: environment_has(orphan.pid, variable))
    again = await open_sandboxes(settings, environ, tasks, mint)
    assert await orphan.wait() == -9
    await again.close()


async def test_a_folder_that_cannot_be_used(tmp_path: Path, tasks: TaskSet) -> None:
    state = tmp_path / "state"
    state.mkdir()
    (state / "local").touch()
    environ = {"SALLYPORT_WORKER_SANDBOXES_STATE_DIR": str(state)}
    with pytest.raises(StateTaken, match="the sandboxes' folder cannot be used"):
        await open_sandboxes(load_config(environ, tmp_path).sandboxes, environ, tasks, mint)
    # And it is free again.
    (state / "local").unlink()
    await (await open_sandboxes(load_config(environ, tmp_path).sandboxes, environ, tasks, mint)).close()
