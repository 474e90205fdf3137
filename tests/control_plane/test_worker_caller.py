"""The control plane has a real worker install, start, stop and remove; what it refuses is told in its words."""

import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from control_plane.foundation import foundation
from control_plane.refusals import ControlCode, Refused
from control_plane.service_tokens import token_file
from control_plane.worker_caller import CallTimes, WorkerCaller
from control_plane.workers import DeclaredServer, Workers
from demo.certificates import write_origin_files
from sallyport.net.clock import read_wall
from tests.support.control_plane import Replica, replica, settings
from tests.support.integration_stage import order
from tests.support.working_worker import working_worker
from worker.config import load_config

pytestmark = pytest.mark.uvloop


def wanted(server_id: str = "tester", *faults: str) -> DeclaredServer:
    source = order(*faults, name=server_id).source
    return DeclaredServer(server_id=server_id, source=source, tier="standard", desired="running")


@contextlib.asynccontextmanager
async def calling(folder: Path, **variables: str) -> AsyncIterator[tuple[Replica, Workers, WorkerCaller]]:
    """Run a control plane and a worker with TLS that is registered with it; yield a caller of its workers."""
    files = write_origin_files(folder, ["127.0.0.1"])
    trust = ssl.create_default_context(cafile=files.ca_file)
    async with (
        replica(settings(folder / "plane", None)) as plane,
        foundation(plane.config, now=read_wall(), prepare=False) as base,
    ):
        given = {
            "LISTEN": "127.0.0.1:0",
            "TLS_CERTIFICATE_FILE": str(files.certificate_file),
            "TLS_KEY_FILE": str(files.key_file),
            "CONTROL_URL": f"http://127.0.0.1:{plane.plane.port}",
            "CONTROL_TOKEN_FILE": str(token_file(plane.config.data_dir, "worker")),
            **variables,
        }
        config = load_config({f"SALLYPORT_WORKER_{name}": value for name, value in given.items()}, folder)
        async with working_worker(config, trust):
            workers = Workers(base.database, read_wall)
            await _live(workers)
            times = CallTimes(answer=20, install=20)
            yield plane, workers, WorkerCaller(workers, base.ring, read_wall, trust=trust, times=times)


async def _live(workers: Workers) -> None:
    while not (await workers.page("", 1)):
        pass


async def statuses(plane: Replica) -> dict[str, str]:
    """Return what the one worker reported last."""
    [worker] = (await plane.ask("GET", "/api/workers"))["items"]
    return {each["serverId"]: each["status"] for each in worker["servers"]}


async def reported(plane: Replica, expected: dict[str, str]) -> None:
    while await statuses(plane) != expected:
        pass


@pytest.mark.timeout(60)
async def test_a_server_s_whole_life(tmp_path: Path) -> None:
    async with calling(tmp_path) as (plane, workers, caller):
        placed = await caller.install(None, wanted())
        assert placed == ("wrk_local", "tester")
        await caller.start(*placed)
        await reported(plane, {"tester": "running"})
        [found] = (await workers.registered()).servers
        assert (found.worker_id, found.tier, len(found.tools)) == ("wrk_local", "standard", 4)
        # What was asked for before and may have been done is done.
        assert await caller.install("wrk_local", wanted()) == placed
        await caller.start(*placed)
        await caller.stop(*placed)
        await reported(plane, {"tester": "stopped"})
        await caller.remove(*placed)
        await reported(plane, {})
        assert repr(caller) == "<WorkerCaller>"


@pytest.mark.timeout(60)
async def test_what_a_worker_refuses_is_told_in_its_words(tmp_path: Path) -> None:
    async with calling(tmp_path) as (_, _, caller):
        for call, code, words in (
            (caller.start("wrk_local", "none"), ControlCode.MCP_SERVER_NOT_FOUND, "there is no integration none"),
            (caller.install(None, wanted("a/b")), ControlCode.MCP_SERVER_REFUSED, "the request is not"),
            (caller.start("wrk_9", "x"), ControlCode.WORKER_NOT_FOUND, "never registered"),
        ):
            with pytest.raises(Refused, match=words) as caught:
                await call
            assert caught.value.code is code
        await caller.install(None, wanted("faulty", "crash-now"))
        with pytest.raises(Refused, match="exited with code 3") as caught:
            await caller.start("wrk_local", "faulty")
        assert caught.value.code is ControlCode.MCP_SERVER_FAILED
        with pytest.raises(Refused, match="installed already") as caught:
            await caller.install(None, wanted("faulty"))
        assert caught.value.code is ControlCode.MCP_SERVER_CONFLICT


async def test_one_that_does_not_answer(tmp_path: Path) -> None:
    async with (
        replica(settings(tmp_path / "plane", None)) as plane,
        foundation(plane.config, now=read_wall(), prepare=False) as base,
    ):
        workers = Workers(base.database, read_wall)
        trust = ssl.create_default_context()
        caller = WorkerCaller(workers, base.ring, read_wall, trust=trust, times=CallTimes(1, 1))
        for url in ("http://127.0.0.1:1", "http://worker.test:4200"):
            await workers.report("wrk_1", epoch=1, api_url=url, front_url=None, servers=[])
            with pytest.raises(Refused) as caught:
                await caller.start("wrk_1", "time")
            assert caught.value.code is ControlCode.WORKER_UNAVAILABLE
