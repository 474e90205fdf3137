"""Sandboxes in containers: against a daemon that is played, and with --full in Podman's, which is real."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from sallyport.deputy import PYTHON_LABEL, SHELL_FILE
from sallyport.net.tasks import TaskSet
from sandboxd.deputy.program import EXIT_OK
from tests.support.docker_daemon import IMAGE, played_daemon, podman_service
from tests.support.sandbox_stage import NO_TOKENS, ended, open_folder, outside_settings
from worker.sandboxes.docker import OF_WORKER, DockerSandboxes, DockerSettings
from worker.sandboxes.docker_api import DockerApi
from worker.sandboxes.errors import SandboxError
from worker.sandboxes.provider import Definition, Running

pytestmark = pytest.mark.uvloop

NOWHERE = "ws://127.0.0.1:9"
MARK = "0123456789abcdef"
# Until it has its network it finds no way, and asks again.
ASK = """
while :; do
  code=$(curl -s -o /dev/null -w '%{http_code}' --max-time 20 http://192.0.2.7/)
  if [ "$code" = 503 ]; then echo asked; exit 0; fi
done
"""


@pytest.fixture(params=["played", pytest.param("podman", marks=pytest.mark.full)])
async def provider(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[DockerSandboxes]:
    async with AsyncExitStack() as opened:
        folder = opened.enter_context(open_folder())
        if request.param == "played":
            _, socket = await opened.enter_async_context(played_daemon(tmp_path))
        else:
            (folder / "podman").mkdir()
            socket = opened.enter_context(podman_service(folder / "podman"))
        failures: list[BaseException] = []
        tasks = TaskSet(lambda name, error: failures.append(error))
        settings = DockerSettings(root=folder / "docker", mark=MARK, stop_seconds=0.0)
        provider = DockerSandboxes(tasks, DockerApi(socket), settings, outside_settings(NOWHERE))
        await _until_there(provider)
        yield provider
        for sandbox_id in await provider.list():
            await provider.destroy(sandbox_id)
        await provider.close()
        await tasks.close()
        assert failures == []


async def _until_there(provider: DockerSandboxes) -> None:
    async with asyncio.timeout(20):
        while True:
            try:
                await provider.list()
            except SandboxError:
                await asyncio.sleep(0.05)
            else:
                return


def container(*command: str, sandbox_id: str = "sbx_one") -> Definition:
    return Definition(sandbox_id=sandbox_id, provider="docker", image=IMAGE, command=list(command))


async def test_the_life_of_one(provider: DockerSandboxes) -> None:
    assert await provider.state("sbx_one") is None
    made = container("sleep", "1000")
    await provider.create(made)
    assert await provider.state("sbx_one") == Running(is_running=False)
    assert await provider.list() == ["sbx_one"]
    await provider.start(made, NO_TOKENS)
    state = await provider.state("sbx_one")
    assert state is not None
    assert state.is_running
    await provider.stop("sbx_one")
    assert await provider.state("sbx_one") == Running(is_running=False)
    await provider.start(made, NO_TOKENS)  # a network anew
    await provider.destroy("sbx_one")
    await provider.destroy("sbx_one")
    assert await provider.state("sbx_one") is None
    assert await provider.list() == []


async def test_what_it_sends_comes_to_its_sandboxd(provider: DockerSandboxes) -> None:
    made = container("sh", "-c", ASK)
    await provider.create(made)
    await provider.start(made, NO_TOKENS)
    state = await ended(provider)
    # There is no gateway: it was held, and then told so in its own protocol.
    assert state.exit_code == 0, await provider.log("sbx_one", 100)
    # The container's own come last; those of the played daemon are always the same.
    assert (await provider.log("sbx_one", 2))[-1] in ("two", "asked")


async def test_what_runs_without_us_counts_as_stopped_and_is_started_again(provider: DockerSandboxes) -> None:
    made = container("sleep", "1000")
    await provider.create(made)
    await provider._api.start(provider._name("sbx_one"))  # as a worker before us did
    assert await provider.state("sbx_one") == Running(is_running=False)
    await provider.start(made, NO_TOKENS)
    state = await provider.state("sbx_one")
    assert state is not None
    assert state.is_running


async def test_a_container_that_ends_at_once_leaves_no_sandboxd(provider: DockerSandboxes) -> None:
    made = container("sh", "-c", "exit 3")
    await provider.create(made)
    try:
        await provider.start(made, NO_TOKENS)
    except SandboxError as error:
        said = str(error)
    else:
        # It lived just long enough.
        assert (await ended(provider)).exit_code == 3
        return
    assert "before it had its network" in said
    assert provider._sandboxes == {}


async def test_an_image_with_sallyport_has_a_deputy(tmp_path: Path) -> None:
    async with AsyncExitStack() as opened:
        folder = opened.enter_context(open_folder())
        daemon, socket = await opened.enter_async_context(played_daemon(tmp_path))
        daemon.labels[PYTHON_LABEL] = sys.executable
        failures: list[BaseException] = []
        tasks = TaskSet(lambda name, error: failures.append(error))
        settings = DockerSettings(root=folder / "docker", mark=MARK, stop_seconds=0.0)
        provider = DockerSandboxes(tasks, DockerApi(socket), settings, outside_settings(NOWHERE))
        made = container("sleep", "1000")
        made = made.model_copy(update={"environment": {"HOME": str(tmp_path)}})
        await provider.create(made)
        await provider.start(made, NO_TOKENS)
        await _came(provider, 1)
        assert (tmp_path / SHELL_FILE).exists()
        # One that ends is started again.
        (first,) = daemon.programs.values()
        assert first is not None
        first.kill()
        await _came(provider, 2)
        assert len(daemon.programs) == 2
        await provider.destroy("sbx_one")
        # The second was told to end before its container was, and did.
        assert [each and each.returncode for each in daemon.programs.values()] == [-signal.SIGKILL, EXIT_OK]
        await provider.close()
        await tasks.close()
        assert failures == []


async def _came(provider: DockerSandboxes, times: int) -> None:
    log = provider._logs["sbx_one"]
    async with asyncio.timeout(30):
        while sum('"deputy_came"' in line for line in log.tail(1000)) < times:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def test_an_image_is_needed(provider: DockerSandboxes) -> None:
    with pytest.raises(SandboxError, match="needs an image"):
        await provider.create(Definition(sandbox_id="sbx_one", provider="docker", command=["true"]))


async def test_a_container_may_do_nothing_more_than_it_needs(provider: DockerSandboxes) -> None:
    document = provider._container(container("true"))
    host = document["HostConfig"]
    assert isinstance(host, dict)
    assert (host["NetworkMode"], host["CapDrop"], host["SecurityOpt"]) == ("none", ["ALL"], ["no-new-privileges"])
    assert document["Labels"] == {OF_WORKER: MARK, "sallyport.sandbox": "sbx_one"}
    assert not any("PROXY" in entry for entry in document["Env"])  # type: ignore[attr-defined]  # a list
