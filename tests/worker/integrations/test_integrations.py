"""All servers of a worker: installed once, removed whole, as they were after a restart, however that came."""

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.integration_stage import integration_stage, order
from tests.support.setup_documents import is_alive
from tests.support.until import until
from worker.integrations.errors import Category, IntegrationError
from worker.integrations.integration import Status
from worker.integrations.sources import InstallRequest, manifest_of


async def test_one_id_is_one_installation(tmp_path: Path) -> None:
    async with integration_stage(tmp_path) as stage:
        await stage.install()
        with pytest.raises(IntegrationError) as caught:
            await stage.install()
        assert caught.value.category is Category.DUPLICATE
        assert [integration.id for integration in stage.integrations.list()] == ["tester"]
        assert repr(stage.integrations) == "<Integrations 1 installed>"


async def test_limits(tmp_path: Path) -> None:
    async with integration_stage(tmp_path, LIMITS_SERVERS="2", LIMITS_INSTALLATIONS="1") as stage:
        async with asyncio.TaskGroup() as group:
            made = [group.create_task(outcome(stage.install(name=name))) for name in ("a", "b")]
        assert sorted(task.result() for task in made) == ["1 installations run already; try again", "done"]
        await stage.install(name="c")
        assert await outcome(stage.install(name="d")) == "2 integrations are installed already"


async def outcome(installing: object) -> str:
    assert asyncio.iscoroutine(installing)
    try:
        await installing
    except IntegrationError as error:
        return str(error)
    return "done"


async def test_what_is_not_there(tmp_path: Path) -> None:
    async with integration_stage(tmp_path) as stage:
        for act in (stage.integrations.remove("x"), find(stage.integrations.find)):
            with pytest.raises(IntegrationError, match="there is no integration x") as caught:
                await act
            assert caught.value.category is Category.NOT_FOUND


async def find(look: object) -> None:
    assert callable(look)
    look("x")


async def test_nothing_is_left_of_a_failed_installation_or_a_removed_server(tmp_path: Path) -> None:
    async with integration_stage(tmp_path, NPM="/no/npm") as stage:
        request = InstallRequest(source="npm:x")
        with pytest.raises(IntegrationError):
            await stage.integrations.install(manifest_of(request), lambda *_: None)
        integration = await stage.started(name="y")
        assert (tmp_path / "state" / "y").is_dir()
        pid = integration.pid
        assert pid is not None
        await stage.integrations.remove("y")
        assert not is_alive(pid)
        assert [path.name for path in (tmp_path / "state").iterdir() if path.is_dir()] == []
        with pytest.raises(IntegrationError, match="is removing"):
            await integration.start()


async def test_after_a_restart_those_run_that_ran(tmp_path: Path) -> None:
    async with integration_stage(tmp_path) as stage:
        await stage.started("pages", name="up")
        stopped = await stage.started("pages", name="down")
        await stopped.stop()
    async with integration_stage(tmp_path) as stage:
        up, down = stage.integrations.find("up"), stage.integrations.find("down")
        await until(lambda: up.status is Status.RUNNING)
        assert (down.status, down.row()["tools_count"]) == (Status.STOPPED, 7)
        assert down.to_document()["server_info"] == {"name": "test-server", "version": "1.2"}


async def test_one_that_cannot_start_after_a_restart_is_tried_again_and_then_left(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    async with integration_stage(tmp_path) as stage:
        program.write_text((Path(order.__code__.co_filename).with_name("mcp_program.py")).read_text())
        transport = {"type": "stdio", "command": sys.executable, "args": ["-IS", str(program)]}
        await stage.started(transport=transport)
    program.unlink()
    async with integration_stage(tmp_path, LIMITS_CRASHES="2") as stage:
        integration = stage.integrations.find("tester")
        await until(lambda: integration.status is Status.CRASH_LOOP)
        assert integration.restart_count == 1
        assert integration.stored.desired == "running"


LEFT = """
import asyncio, sys
from pathlib import Path
from tests.support.integration_stage import integration_stage

async def main():
    async with integration_stage(Path(sys.argv[1])) as stage:
        for name in ("deaf", "escape"):
            integration = await stage.started(name, name=name, environment={"PIDS": sys.argv[1] + "/child"})
            session = await integration._start_session()
            print(integration.pid, session.pid, sep="\\n", flush=True)
        await asyncio.sleep(60)

asyncio.run(main())
"""


def other_worker(folder: Path) -> "subprocess.Popen[str]":
    root = Path(__file__).resolve().parents[3]
    return subprocess.Popen([sys.executable, "-c", LEFT, str(folder)], cwd=root, stdout=subprocess.PIPE, text=True)


@pytest.mark.full
async def test_what_a_killed_worker_left_is_ended_and_started_anew(tmp_path: Path) -> None:
    worker = other_worker(tmp_path)
    assert worker.stdout is not None
    lines = [await asyncio.to_thread(next_number, worker) for _ in range(4)]
    child = int((tmp_path / "child").read_text())
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    worker.stdout.close()
    assert is_alive(lines[0])
    assert is_alive(lines[1])
    assert is_alive(child)
    async with integration_stage(tmp_path) as stage:
        await until(lambda: not any(map(is_alive, (*lines, child))))
        await until(lambda: all(each.status is Status.RUNNING for each in stage.integrations.list()))


def next_number(worker: "subprocess.Popen[str]") -> int:
    """Return the next line that is a number; the log goes the same way."""
    assert worker.stdout is not None
    return next(int(line) for line in worker.stdout if line.strip().isdecimal())
