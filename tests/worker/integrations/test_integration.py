"""The life of one server: real processes, each with its fault."""

import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from mcp.shared.exceptions import MCPError

from tests.support.integration_stage import SECRET, IntegrationStage, integration_stage
from tests.support.mcp_program import PROGRAM
from tests.support.setup_documents import is_alive
from tests.support.until import until
from worker.integrations.errors import Category, IntegrationError
from worker.integrations.integration import Integration, Status


def is_in(integration: Integration, status: Status) -> Callable[[], bool]:
    return lambda: integration.status is status


def has_come_back(integration: Integration, times: int) -> Callable[[], bool]:
    return lambda: integration.status is Status.RUNNING and integration.restart_count == times


async def refused(stage: IntegrationStage, *faults: str) -> IntegrationError:
    """Return what the start of a server with these faults is answered with; it is stopped then."""
    integration = await stage.install(*faults)
    with pytest.raises(IntegrationError) as caught:
        await integration.start()
    assert (integration.status, integration.pid, integration.stored.desired) == (Status.STOPPED, None, "stopped")
    assert caught.value.category is Category.PROVIDER_ERROR
    return caught.value


def details(error: IntegrationError) -> dict[str, object]:
    assert error.details is not None
    return dict(error.details)


async def test_it_runs_only_after_the_handshake_and_every_page_of_its_tools(tmp_path: Path) -> None:
    async with integration_stage(tmp_path) as stage:
        integration = await stage.started("pages", "banner")
        document = integration.to_document()
        assert (document["status"], document["tools_count"]) == ("running", 7)
        assert document["uptime_secs"] in range(60)
        assert document["server_info"] == {"name": "test-server", "version": "1.2"}
        assert document["protocol_version"] == "2025-11-25"
        assert isinstance(document["pid"], int)
        assert is_alive(document["pid"])
        assert "[stdout] Welcome to the server!" in integration.log.tail(10)


async def test_a_stopped_one_still_tells_its_tools(tmp_path: Path) -> None:
    async with integration_stage(tmp_path) as stage:
        integration = await stage.started()
        await integration.stop()
        document = integration.to_document()
        assert (document["status"], document["pid"], document["uptime_secs"]) == ("stopped", None, 0)
        assert document["tools_count"] == 4
        assert document["last_exit"] is not None
        assert repr(integration) == "<Integration tester stopped>"


async def test_a_server_that_only_discovers_runs(tmp_path: Path) -> None:
    async with integration_stage(tmp_path) as stage:
        integration = await stage.started("discover-only")
        assert integration.to_document()["protocol_version"] == "2026-07-28"


async def test_one_that_ends_at_once_is_told_with_its_exit_and_its_last_words(tmp_path: Path) -> None:
    async with integration_stage(tmp_path) as stage:
        error = await refused(stage, "crash-now")
        assert details(error) == {"exitCode": 3, "stderr": ["cannot open the database"]}


async def test_what_an_earlier_start_said_is_not_said_of_a_later_one(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.touch(0o755)
    async with integration_stage(tmp_path) as stage:
        integration = await stage.install(transport={"type": "stdio", "command": str(program)})
        for script, exit_code, lines in (
            ("echo first >&2; exit 5", 5, ["first"]),
            ("echo second >&2; exit 6", 6, ["second"]),
            ("kill -9 $$", None, []),
        ):
            program.write_text(f"#!/bin/sh\n{script}\n")
            with pytest.raises(IntegrationError) as caught:
                await integration.start()
            assert details(caught.value) == {"exitCode": exit_code, "stderr": lines}
        assert integration.to_document()["last_error"] == "it was ended by SIGKILL"


async def test_one_that_hangs_in_the_handshake_is_ended(tmp_path: Path) -> None:
    async with integration_stage(tmp_path, TIMEOUTS_HANDSHAKE="200ms") as stage:
        assert "no handshake within 0.2 s" in str(await refused(stage, "hang"))
        assert "no handshake within 0.2 s" in str(await refused_again(stage, "mute-pages"))


async def refused_again(stage: IntegrationStage, *faults: str) -> IntegrationError:
    await stage.integrations.remove("tester")
    return await refused(stage, *faults)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("refuse", "the handshake failed: not today"),
        ("garbage", "more than 1000 lines that are no messages"),
        ("endless-line", "a line of more than 65536 bytes"),
        ("endless-pages", "its pages of tools repeat themselves"),
    ],
)
async def test_one_that_is_no_mcp_server_is_ended(tmp_path: Path, fault: str, reason: str) -> None:
    async with integration_stage(tmp_path, LIMITS_MESSAGE_BYTES="64KiB") as stage:
        assert reason in str(await refused(stage, fault))


async def test_one_with_too_many_tools_is_refused(tmp_path: Path) -> None:
    async with integration_stage(tmp_path, LIMITS_TOOLS="3") as stage:
        assert "more than 3 tools" in str(await refused(stage))


async def test_one_that_floods_its_errors_runs_and_costs_a_ring(tmp_path: Path) -> None:
    async with integration_stage(tmp_path, LIMITS_LOG_LINES="10", LIMITS_LOG_LINE_BYTES="256B") as stage:
        integration = await stage.started("flood")
        lines = integration.log.tail(1000)
        assert (len(lines), lines[-1], max(map(len, lines))) == (10, "after the flood", 256)


async def test_a_deaf_one_is_ended_by_sigterm_and_then_by_sigkill(tmp_path: Path) -> None:
    async with integration_stage(tmp_path, TIMEOUTS_EXIT="10ms", TIMEOUTS_TERMINATE="1s") as stage:
        for name, fault, end in (("one", "deaf", "SIGTERM"), ("two", "deaf-to-term", "SIGKILL")):
            integration = await stage.started(fault, name=name)
            await integration.stop()
            assert integration.to_document()["last_exit"] == {"code": None, "signal": end, "at": exit_time(integration)}


def exit_time(integration: Integration) -> object:
    last = integration.to_document()["last_exit"]
    return last["at"] if isinstance(last, dict) else None


@pytest.mark.parametrize("fault", ["linger", "escape"])
async def test_what_it_forked_ends_with_it(tmp_path: Path, fault: str) -> None:
    async with integration_stage(tmp_path) as stage:
        integration = await stage.started(fault, environment={"PIDS": str(tmp_path / "pid")})
        child = int((tmp_path / "pid").read_text())
        assert is_alive(child)
        await integration.stop()
        # Killed, but no child of ours: nobody tells us when it is gone.
        await until(lambda: not is_alive(child))


async def test_one_that_crashes_while_its_child_lingers_is_started_again(tmp_path: Path) -> None:
    async with integration_stage(tmp_path) as stage:
        integration = await stage.started("linger", environment={"PIDS": str(tmp_path / "pid")})
        child = int((tmp_path / "pid").read_text())
        await crash(integration)
        await until(has_come_back(integration, 1))
        assert not is_alive(child)


async def crash(integration: Integration) -> None:
    """Call the tool that ends the server; its caller hears that, and is not left waiting."""
    with pytest.raises(MCPError, match="Connection closed"):
        await integration.ask("tools/call", {"name": "crash"}, None)


async def test_after_a_crash_it_runs_again_and_says_why(tmp_path: Path) -> None:
    async with integration_stage(tmp_path) as stage:
        integration = await stage.started()
        first = integration.pid
        await crash(integration)
        await until(has_come_back(integration, 1))
        document = integration.to_document()
        assert document["pid"] not in (None, first)
        assert isinstance(document["last_exit"], dict)
        assert document["last_exit"]["code"] == 4
        assert "I was told to crash" in integration.log.tail(10)
        assert "[worker] it exited with code 4" in integration.log.tail(10)


async def test_crash_after_crash_ends_in_a_loop_which_a_start_leaves(tmp_path: Path) -> None:
    async with integration_stage(tmp_path, LIMITS_CRASHES="3") as stage:
        integration = await stage.started()
        for number in range(3):
            await until(has_come_back(integration, number))
            await crash(integration)
        await until(is_in(integration, Status.CRASH_LOOP))
        assert integration.to_document()["last_error"] == "it exited with code 4"
        await integration.start()
        assert (integration.status, integration.restart_count) == (Status.RUNNING, 0)
        await integration.stop()
        assert integration.status is Status.STOPPED


async def test_a_loop_can_be_stopped(tmp_path: Path) -> None:
    async with integration_stage(tmp_path, LIMITS_CRASHES="1") as stage:
        integration = await stage.started()
        await crash(integration)
        await until(is_in(integration, Status.CRASH_LOOP))
        await integration.stop()
        assert integration.status is Status.STOPPED


async def test_it_waits_before_it_is_started_again_and_a_start_does_not(tmp_path: Path) -> None:
    async with integration_stage(tmp_path, TIMEOUTS_FIRST_RESTART="5m", TIMEOUTS_LONGEST_RESTART="5m") as stage:
        integration = await stage.started()
        await crash(integration)
        await until(is_in(integration, Status.RESTARTING))
        # A call that comes now waits for the new start.
        asking = asyncio.get_running_loop().create_task(outcome(integration))
        await integration.start()
        assert (integration.status, await asking) == (Status.RUNNING, "answered")


@pytest.mark.full
async def test_a_call_waits_for_a_new_start_as_long_as_for_a_handshake(tmp_path: Path) -> None:
    async with integration_stage(
        tmp_path, TIMEOUTS_FIRST_RESTART="5m", TIMEOUTS_LONGEST_RESTART="5m", TIMEOUTS_HANDSHAKE="1s"
    ) as stage:
        integration = await stage.started()
        await crash(integration)
        await until(is_in(integration, Status.RESTARTING))
        with pytest.raises(MCPError, match="the server tester is restarting"):
            await integration.ask("tools/list", None, None)


async def test_a_start_between_two_crashes_that_fails_is_told(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM.read_text())
    transport = {"type": "stdio", "command": sys.executable, "args": ["-IS", str(program)]}
    async with integration_stage(tmp_path, TIMEOUTS_FIRST_RESTART="5m", TIMEOUTS_LONGEST_RESTART="5m") as stage:
        integration = await stage.started(transport=transport)
        program.write_text("import sys\nsys.exit(7)\n")
        await crash(integration)
        await until(is_in(integration, Status.RESTARTING))
        with pytest.raises(IntegrationError, match="exited with code 7"):
            await integration.start()
        await until(is_in(integration, Status.RESTARTING))
        await integration.stop()


async def test_start_and_stop_mean_the_same_when_they_come_twice(tmp_path: Path) -> None:
    async with integration_stage(tmp_path) as stage:
        integration = await stage.install()
        async with asyncio.TaskGroup() as group:
            for _ in range(5):
                group.create_task(integration.start())
        pid = integration.pid
        await integration.start()
        assert (integration.pid, integration.status) == (pid, Status.RUNNING)
        async with asyncio.TaskGroup() as group:
            for _ in range(5):
                group.create_task(integration.stop())
        await integration.stop()
        assert integration.status is Status.STOPPED


async def test_what_contradicts_a_change_that_goes_on_is_refused(tmp_path: Path) -> None:
    async with integration_stage(tmp_path) as stage:
        integration = await stage.install("hang")
        starting = asyncio.get_running_loop().create_task(integration.start())
        await until(is_in(integration, Status.STARTING))
        for change in (integration.restart, integration.leave):
            with pytest.raises(IntegrationError, match="is starting") as caught:
                await change()
            assert caught.value.category is Category.INVALID_STATE
        stopping = asyncio.get_running_loop().create_task(integration.stop())
        await until(is_in(integration, Status.STOPPING))
        for change in (integration.start, integration.restart, integration.leave):
            with pytest.raises(IntegrationError, match="is stopping"):
                await change()
        await stopping
        with pytest.raises(IntegrationError, match="was stopped while it was being started"):
            await starting


async def test_restart_is_another_process(tmp_path: Path) -> None:
    async with integration_stage(tmp_path) as stage:
        integration = await stage.started()
        first = integration.pid
        await integration.restart()
        assert integration.status is Status.RUNNING
        assert integration.pid != first


async def test_progress_reaches_who_asked(tmp_path: Path) -> None:
    async with integration_stage(tmp_path) as stage:
        integration = await stage.started()
        seen = []

        async def note(progress: float, total: float | None, message: str | None) -> None:
            seen.append((progress, total))

        answer = await integration.ask("tools/call", {"name": "grow"}, note)
        assert answer["content"] == [{"type": "text", "text": "grown"}]
        assert seen == [(0, 3), (1, 3), (2, 3)]


async def test_calls_beyond_the_limit_are_refused(tmp_path: Path) -> None:
    async with integration_stage(tmp_path, LIMITS_CALLS="1") as stage:
        integration = await stage.started()
        async with asyncio.TaskGroup() as group:
            calls = [group.create_task(outcome(integration)) for _ in range(3)]
        assert sorted(call.result() for call in calls) == ["answered", "refused", "refused"]


async def outcome(integration: Integration) -> str:
    try:
        await integration.ask("tools/call", {"name": "echo", "arguments": {}}, None)
    except MCPError:
        return "refused"
    return "answered"


async def test_a_secret_reaches_the_server_and_nothing_else(tmp_path: Path) -> None:
    async with integration_stage(tmp_path) as stage:
        secrets = {"TOKEN": {"env": "TOKEN_OF_A_SERVER"}}
        integration = await stage.started("secret", secrets=secrets)
        answer = await integration.ask("tools/call", {"name": "whoami"}, None)
        seen = json.loads(answer["content"][0]["text"])
        assert seen == {
            "TOKEN": SECRET,
            "HTTPS_PROXY": None,
            "HOME": str(tmp_path / "state" / "tester" / "home"),
            "SALLYPORT_SECRET_OF_THE_WORKER": None,
        }
        assert integration.log.tail(10) == ["my token is <Secret>", "and so it is"]
        told = json.dumps(integration.to_document()) + repr(integration.stored)
        kept = (tmp_path / "state" / "tester" / "integration.json").read_text()
        command = cmdline(integration.pid)
        assert SECRET not in told + kept + command


async def test_a_missing_secret_is_named_before_anything_is_tried(tmp_path: Path) -> None:
    async with integration_stage(tmp_path) as stage:
        integration = await stage.install(secrets={"TOKEN": {"env": "NOT_THERE"}})
        with pytest.raises(IntegrationError, match="NOT_THERE") as caught:
            await integration.start()
        assert (caught.value.category, caught.value.details) == (Category.INVALID_STATE, {"variable": "NOT_THERE"})
        assert (integration.status, integration.to_document()["last_error"]) == (Status.STOPPED, None)


async def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    async with integration_stage(tmp_path) as stage:
        integration = await stage.install(transport={"type": "stdio", "command": "no-such-program"})
        with pytest.raises(IntegrationError, match="there is no program no-such-program"):
            await integration.start()


async def test_nothing_is_left_when_the_worker_ends(tmp_path: Path) -> None:
    async with integration_stage(tmp_path) as stage:
        pids = [(await stage.started(name=f"n{number}")).pid for number in range(3)]
        assert all(pid is not None and is_alive(pid) for pid in pids)
    assert not any(pid is not None and is_alive(pid) for pid in pids)


def cmdline(pid: int | None) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().decode()
