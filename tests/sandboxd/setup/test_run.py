"""One program as a step."""

import asyncio
from pathlib import Path

import pytest

from sandboxd.setup.process_log import ProcessLog
from sandboxd.setup.run import run_program
from sandboxd.setup.steps import StepFailed
from tests.support.setup_documents import ENVIRONMENT, has_content, is_alive, shell, task_set
from tests.support.until import until


async def run(tmp_path: Path, script: str, seconds: float = 5.0) -> str:
    log = ProcessLog(tmp_path / "log")
    async with task_set() as tasks:
        try:
            cwd = str(tmp_path)
            await run_program(tasks, shell(script), env=ENVIRONMENT, cwd=cwd, timeout_seconds=seconds, log=log)
        finally:
            log.close()
    return log.path.read_text()


async def test_it_ends_well(tmp_path: Path) -> None:
    assert await run(tmp_path, "pwd") == f"[sandboxd] runs sh\n{tmp_path}\n"


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo first; echo no disk >&2; exit 9", "sh exited with code 9: no disk"),
        ("exit 1", "sh exited with code 1$"),
        ("kill -9 $$", "sh was ended by signal 9"),
    ],
)
async def test_it_ends_badly(tmp_path: Path, script: str, message: str) -> None:
    with pytest.raises(StepFailed, match=message):
        await run(tmp_path, script)


async def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    log = ProcessLog(tmp_path / "log")
    async with task_set() as tasks:
        with pytest.raises(StepFailed, match="no program nothing-of-this-name"):
            await run_program(tasks, ["nothing-of-this-name"], env=ENVIRONMENT, cwd=None, timeout_seconds=1, log=log)
    log.close()


async def test_it_takes_too_long(tmp_path: Path) -> None:
    with pytest.raises(StepFailed, match="sh did not end within 1 s"):
        await run(tmp_path, f"sleep 60 & echo $! > {tmp_path}/helper; wait", seconds=1.0)
    await until(lambda: not is_alive(int((tmp_path / "helper").read_text())))


@pytest.mark.parametrize("when", ["starting", "running"])
async def test_given_up_it_leaves_nothing(tmp_path: Path, when: str) -> None:
    script = f"trap '' TERM; sleep 60 & echo $! > {tmp_path}/helper; echo $$ > {tmp_path}/pid; wait"
    async with task_set() as tasks, asyncio.TaskGroup() as group:
        log = ProcessLog(tmp_path / "log")
        program = run_program(tasks, shell(script), env=ENVIRONMENT, cwd=None, timeout_seconds=9, log=log)
        running = group.create_task(program)
        if when == "starting":
            await asyncio.sleep(0)
        else:
            await until(lambda: has_content(tmp_path / "pid"))
        running.cancel()
        await asyncio.wait({running})
        await until(lambda: len(tasks) == 0)
        await asyncio.sleep(0.05)  # the transport of what was killed closes by itself; the loop must not end before it
        log.close()
    for name in ("helper", "pid"):
        if has_content(tmp_path / name):
            await until(lambda name=name: not is_alive(int((tmp_path / name).read_text())))  # type: ignore[misc]  # mypy on lambdas
