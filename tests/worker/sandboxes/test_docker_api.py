"""The Docker API over a socket, against a daemon that the test plays."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.docker_daemon import PlayedDaemon, played_daemon
from worker.sandboxes.docker_api import DockerApi, NotThere
from worker.sandboxes.errors import SandboxError

DOCUMENT = {"Image": "i", "Cmd": ["/bin/sleep", "100"], "Env": [], "Labels": {"a": "b"}}


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[tuple[PlayedDaemon, DockerApi]]:
    async with played_daemon(tmp_path) as (daemon, socket):
        api = DockerApi(socket)
        yield daemon, api
        await api.close()


async def test_the_life_of_a_container(daemon: tuple[PlayedDaemon, DockerApi]) -> None:
    _, api = daemon
    await api.create("one", DOCUMENT)
    await api.start("one")
    assert (await api.inspect("one"))["State"]["Running"] is True
    assert await api.labelled("a=b") == [{"Labels": {"a": "b"}}]
    assert await api.labelled("a=c") == []
    await api.stop("one", 1)
    assert (await api.inspect("one"))["State"]["Running"] is False
    await api.remove("one")
    for act in (api.inspect, api.start, api.remove):
        with pytest.raises(NotThere, match="no such container: one"):
            await act("one")


async def test_what_a_container_printed_is_put_together(daemon: tuple[PlayedDaemon, DockerApi]) -> None:
    _, api = daemon
    await api.create("one", DOCUMENT)
    assert await api.logs("one", 10) == ["one", "two"]
    assert await api.logs("one", 1) == ["two"]


async def test_a_refusal_says_what_the_daemon_says(daemon: tuple[PlayedDaemon, DockerApi]) -> None:
    played, api = daemon
    played.refuses = "the name is taken"
    with pytest.raises(SandboxError, match=r"Docker refuses POST /containers/create.*: the name is taken"):
        await api.create("one", DOCUMENT)


async def test_a_daemon_that_is_not_there(tmp_path: Path) -> None:
    api = DockerApi(tmp_path / "absent.sock")
    with pytest.raises(SandboxError, match=r"Docker cannot be asked at .*absent.sock"):
        await api.inspect("one")
    await api.close()
