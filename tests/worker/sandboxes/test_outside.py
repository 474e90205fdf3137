"""The sandboxd of a sandbox, started outside of it and kept running: a real process."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from sallyport.net.sandbox_network import SandboxNetwork
from sallyport.net.tasks import TaskSet
from tests.support.dns_questions import answered, question
from tests.support.sandbox_network import ask, sandbox_network
from tests.support.sandbox_stage import NO_TOKENS, outside_settings
from tests.support.until import until
from worker.integrations.server_log import ServerLog
from worker.sandboxes.errors import SandboxError
from worker.sandboxes.outside import OutsideSandboxd

pytestmark = pytest.mark.uvloop

NOWHERE = "ws://127.0.0.1:9"
START_SECONDS = 30.0


@pytest.fixture
def network() -> Iterator[SandboxNetwork]:
    with sandbox_network() as network:
        yield network


@pytest.fixture
async def tasks() -> AsyncIterator[TaskSet]:
    failures: list[BaseException] = []
    tasks = TaskSet(lambda name, error: failures.append(error))
    yield tasks
    await tasks.close()
    assert failures == []


def sandboxd(
    tasks: TaskSet, folder: Path, network: SandboxNetwork | None, gateway: str = NOWHERE
) -> tuple[OutsideSandboxd, ServerLog]:
    log = ServerLog(most_lines=100, most_line_bytes=1000)
    return OutsideSandboxd(tasks, outside_settings(gateway), folder / "sandboxd", network, log), log


async def test_it_answers_inside_and_is_started_again_when_it_ends(
    tasks: TaskSet, tmp_path: Path, network: SandboxNetwork
) -> None:
    outside, log = sandboxd(tasks, tmp_path, network)
    await outside.start(NO_TOKENS)
    first = outside.pid
    assert first is not None
    assert (tmp_path / "sandboxd" / "trust" / "bundle.pem").exists()
    assert (tmp_path / "sandboxd" / "trust").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "sandboxd" / "token.json").stat().st_mode & 0o777 == 0o600
    assert len(answered(ask(network, question("api.test"))).addresses) == 1
    os.kill(first, signal.SIGKILL)
    # The question waits in the socket for the next one.
    answer = await asyncio.to_thread(ask, network, question("api.test"), seconds=START_SECONDS)
    assert len(answered(answer).addresses) == 1
    await until(lambda: outside.pid not in (None, first))
    await outside.stop()
    assert outside.pid is None
    assert any("ready" in line for line in log.tail(100))


async def test_without_a_network_it_is_a_proxy(tasks: TaskSet, tmp_path: Path) -> None:
    outside, _ = sandboxd(tasks, tmp_path, None)
    await outside.start(NO_TOKENS)
    assert outside.proxy is not None
    assert outside.proxy.startswith("127.0.0.1:")
    await outside.stop()


async def test_one_that_cannot_start_says_why(tasks: TaskSet, tmp_path: Path) -> None:
    outside, _ = sandboxd(tasks, tmp_path, None, gateway="nonsense")
    with pytest.raises(SandboxError, match=r"sandboxd ended with 2; it said: .*SALLYPORT_GATEWAY_URL"):
        await outside.start(NO_TOKENS)
    assert outside.pid is None


async def test_a_folder_that_cannot_be_written_to(tasks: TaskSet, tmp_path: Path) -> None:
    (tmp_path / "sandboxd").touch()
    outside, _ = sandboxd(tasks, tmp_path, None)
    with pytest.raises(SandboxError, match="cannot be written to"):
        await outside.start(NO_TOKENS)
