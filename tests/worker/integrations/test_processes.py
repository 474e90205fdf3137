"""Servers as they are meant to be against real processes: what died unseen, what is left of one that is gone."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.integration_stage import IntegrationStage, integration_stage
from tests.support.setup_documents import is_alive
from tests.support.until import until
from worker.integrations.integration import Status
from worker.integrations.launch import MARK
from worker.integrations.processes import ServerProcesses
from worker.reconciliation import Drift, NotRepaired, differences


async def drift(processes: ServerProcesses) -> list[Drift]:
    actual = await processes.actual()
    return differences(await processes.declared(), actual)


def left_behind(stage: IntegrationStage, server_id: str) -> "subprocess.Popen[bytes]":
    """Play a process of a server that nobody accounts for."""
    environment = {"PATH": os.defpath, MARK: f"{stage.integrations.mark}.{server_id}"}
    return subprocess.Popen([sys.executable, "-c", "input()"], env=environment, stdin=subprocess.PIPE)


async def test_nothing_differs_of_servers_that_are_as_they_are_meant_to_be(tmp_path: Path) -> None:
    async with integration_stage(tmp_path) as stage:
        processes = ServerProcesses(stage.integrations)
        await stage.started(name="runs")
        await stage.install(name="stands")
        assert await drift(processes) == []
        assert repr(processes) == "<ServerProcesses of <Integrations 2 installed>>"


async def test_what_is_left_of_a_server_is_ended_and_one_that_runs_is_left_alone(tmp_path: Path) -> None:
    async with integration_stage(tmp_path) as stage:
        processes = ServerProcesses(stage.integrations)
        running = await stage.started(name="runs")
        await stage.install(name="stands")
        left = [left_behind(stage, name) for name in ("stands", "gone/3", "runs", "runs/1")]
        try:
            found: list[Drift] = []

            async def two_are_seen() -> bool:
                found[:] = await drift(processes)
                return len(found) == 2

            while not await two_are_seen():  # a program that was just started has no environment for a moment
                pass
            assert found == [Drift("processes of gone/3", None, "1 left"), Drift("processes of stands", None, "1 left")]
            for each in found:
                await processes.repair(each.item, each.declared, each.actual)
            assert [child.wait(5) for child in left[:2]] == [-9, -9]
            assert [child.poll() for child in left[2:]] == [None, None]
            assert running.pid is not None
            assert is_alive(running.pid)
            assert await drift(processes) == []
        finally:
            for child in left:
                child.kill()
                child.communicate()


async def test_one_that_is_meant_to_run_and_does_not_is_started(tmp_path: Path) -> None:
    async with integration_stage(tmp_path) as stage:
        processes = ServerProcesses(stage.integrations)
        integration = await stage.started()
        await integration.end()
        assert await drift(processes) == [Drift("tester", "running", "stopped")]
        await processes.repair("tester", "running", "stopped")
        await until(lambda: integration.status is Status.RUNNING)
        assert await drift(processes) == []
        # The same again finds it at work.
        await processes.repair("tester", "running", "stopped")
        assert integration.status is Status.RUNNING


async def test_one_that_was_given_up_is_told_and_left_alone(tmp_path: Path) -> None:
    async with integration_stage(tmp_path, LIMITS_CRASHES="1") as stage:
        processes = ServerProcesses(stage.integrations)
        integration = await stage.started("crash-on-call")
        with pytest.raises(Exception, match=r".*"):
            await integration.ask("tools/call", {"name": "crash", "arguments": {}}, None)
        await until(lambda: integration.status is Status.CRASH_LOOP)
        assert await drift(processes) == [Drift("tester", "running", "crash_loop")]
        with pytest.raises(NotRepaired, match="mend what its log tells"):
            await processes.repair("tester", "running", "crash_loop")


async def test_one_that_was_removed_meanwhile_needs_nothing(tmp_path: Path) -> None:
    async with integration_stage(tmp_path) as stage:
        await ServerProcesses(stage.integrations).repair("gone", "running", "stopped")
