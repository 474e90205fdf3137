"""One supervised process: policies, crash loops, stopping. Real programs."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from sandboxd.setup.process import Launch, ProcessState, SupervisedProcess
from sandboxd.setup.steps import StepFailed
from tests.support.setup_documents import (
    ENVIRONMENT,
    QUICK,
    has_content,
    is_alive,
    process_of,
    python,
    setup_parts,
    shell,
)
from tests.support.until import until

DEAF = "import signal,time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('up', flush=True)\ntime.sleep(60)"


@contextlib.asynccontextmanager
async def supervised(
    tmp_path: Path, args: list[str], **fields: object
) -> AsyncIterator[tuple[SupervisedProcess, list[str]]]:
    ends: list[str] = []
    async with setup_parts(tmp_path) as parts:
        launch = Launch(args=tuple(args), env=ENVIRONMENT, cwd=None)
        process = SupervisedProcess(parts, "agent/main", launch, process_of(args, **fields), ends.append)
        try:
            yield process, ends
        finally:
            async with asyncio.timeout(10):
                await process.stop()


async def test_it_runs_until_it_is_stopped(tmp_path: Path) -> None:
    async with supervised(tmp_path, shell("echo hello; exec sleep 60"), restart="always") as (process, ends):
        await process.started()
        assert process.is_up()
        assert repr(process) == "<SupervisedProcess agent/main running>"
        await until(lambda: process.log.tail(100) == b"hello\n")
        await process.stop()
        assert process.state is ProcessState.STOPPED
        assert process.exit_code == -signal.SIGTERM
        assert process.issue is None
    assert ends == []
    assert (tmp_path / "logs/processes/agent/main.log").read_text().splitlines() == [
        "hello",
        "[sandboxd] ended by SIGTERM: hello",
    ]


async def test_never_and_a_good_end(tmp_path: Path) -> None:
    async with supervised(tmp_path, shell("exit 0")) as (process, ends):
        await until(lambda: process.state is ProcessState.EXITED)
        assert process.has_ended_well
        assert not process.is_up()
    assert ends == []


async def test_never_and_a_bad_end(tmp_path: Path) -> None:
    async with supervised(tmp_path, shell("echo why it failed >&2; exit 3")) as (process, ends):
        await until(lambda: bool(ends))
        assert (process.exit_code, process.issue) == (3, "exited with code 3: why it failed")
        with pytest.raises(StepFailed, match="why it failed"):
            process.is_up()


async def test_killed_and_started_again(tmp_path: Path) -> None:
    script = shell(f"echo $$ >> {tmp_path}/pids; exec sleep 60")
    async with supervised(tmp_path, script, restart="on-failure") as (process, _):
        for count in (1, 2, 3):
            await until(lambda count=count: _lines(tmp_path / "pids") == count)  # type: ignore[misc]  # mypy on lambdas
            await until(process.is_up)
            os.kill(int((tmp_path / "pids").read_text().split()[-1]), signal.SIGKILL)
        await until(lambda: _lines(tmp_path / "pids") == 4)


async def test_on_failure_leaves_a_good_end_alone(tmp_path: Path) -> None:
    script = shell(f"echo x >> {tmp_path}/runs; [ $(wc -l < {tmp_path}/runs) -ge 3 ]")
    async with supervised(tmp_path, script, restart="on-failure") as (process, ends):
        await until(lambda: process.state is ProcessState.EXITED)
        assert _lines(tmp_path / "runs") == 3
        assert (process.has_ended_well, ends) == (True, [])


@pytest.mark.parametrize(("code", "restart"), [(1, "on-failure"), (0, "always")])
async def test_a_crash_loop_ends(tmp_path: Path, code: int, restart: str) -> None:
    script = shell(f"echo x >> {tmp_path}/runs; exit {code}")
    async with supervised(tmp_path, script, restart=restart) as (process, ends):
        await until(lambda: bool(ends))
        assert process.state is ProcessState.CRASH_LOOP
        assert process.issue == f"crash loop after {QUICK.most_failures} failures: exited with code {code}"
        assert _lines(tmp_path / "runs") == QUICK.most_failures


async def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    async with supervised(tmp_path, ["no-such-program"], restart="on-failure") as (process, ends):
        with pytest.raises(StepFailed, match="there is no program no-such-program"):
            await process.started()
        await until(lambda: bool(ends))
        assert process.issue == "crash loop after 4 failures: there is no program no-such-program"


async def test_a_program_that_comes_later_is_started_after_all(tmp_path: Path) -> None:
    program = tmp_path / "program"
    async with supervised(tmp_path, [str(program)], restart="on-failure") as (process, _):
        with pytest.raises(StepFailed):
            await process.started()
        _write_program(program, "#!/bin/sh\nexec sleep 60\n")
        await until(process.is_up)


async def test_stopped_while_it_waits_to_be_started_again(tmp_path: Path) -> None:
    async with setup_parts(tmp_path) as parts:
        slow = type(QUICK)(first_delay_seconds=60, most_delay_seconds=60, stable_seconds=1, most_failures=4)
        declared = process_of(shell("exit 1"), restart="always")
        process = SupervisedProcess(
            type(parts)(directory=tmp_path, environment={}, tasks=parts.tasks, restart_limits=slow),
            "agent/main",
            Launch(args=declared.command.args, env=ENVIRONMENT, cwd=None),
            declared,
            lambda name: None,
        )
        await until(lambda: process.state is ProcessState.WAITING)
        async with asyncio.timeout(30):  # half of what it would wait before it starts again
            await process.stop()
        assert process.state is ProcessState.STOPPED


async def test_stopped_before_it_has_started(tmp_path: Path) -> None:
    async with supervised(tmp_path, shell("exec sleep 60")) as (process, _):
        await process.stop()
        assert process.state is ProcessState.STOPPED


async def test_one_that_ignores_sigterm(tmp_path: Path) -> None:
    stop = {"signal": "SIGTERM", "timeoutMs": 50, "gracePeriodMs": 50}
    async with supervised(tmp_path, python(DEAF), stop=stop, restart="always") as (process, _):
        await until(lambda: process.log.tail(10) == b"up\n")
        await process.stop()
        assert process.exit_code == -signal.SIGKILL


async def test_the_declared_signal_comes_first(tmp_path: Path) -> None:
    script = shell(f"trap 'echo INT > {tmp_path}/got; exit 5' INT; echo up; while :; do sleep 0.01; done")
    async with supervised(tmp_path, script, stop={"signal": "SIGINT", "timeoutMs": 2000}) as (process, _):
        await until(lambda: process.log.tail(10) == b"up\n")
        await process.stop()
        assert (process.exit_code, (tmp_path / "got").read_text()) == (5, "INT\n")


async def test_a_stop_that_is_given_up_goes_on(tmp_path: Path) -> None:
    stop = {"signal": "SIGTERM", "timeoutMs": 200}
    async with supervised(tmp_path, python(DEAF), stop=stop) as (process, _):
        await until(lambda: process.log.tail(10) == b"up\n")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await process.stop()
        assert process.is_over
        await until(lambda: process.state is ProcessState.STOPPED)


async def test_helpers_end_before_it_is_started_again(tmp_path: Path) -> None:
    script = shell(f"sleep 60 & echo $! >> {tmp_path}/helpers; [ $(wc -l < {tmp_path}/helpers) -lt 2 ] || wait")
    async with supervised(tmp_path, script, restart="always") as (_, _):
        await until(lambda: _lines(tmp_path / "helpers") == 2)
        assert not is_alive(int((tmp_path / "helpers").read_text().split()[0]))
    assert not is_alive(int((tmp_path / "helpers").read_text().split()[1]))


async def test_nothing_survives_the_end_of_all_tasks(tmp_path: Path) -> None:
    async with setup_parts(tmp_path) as parts:
        declared = process_of(python(DEAF))
        launch = Launch(args=declared.command.args, env=ENVIRONMENT, cwd=None)
        process = SupervisedProcess(parts, "agent/main", launch, declared, lambda name: None)
        await until(lambda: process.log.tail(10) == b"up\n")
        pid = process._child.pid if process._child is not None else 0
    await until(lambda: not is_alive(pid))


async def test_idle_costs_nothing(tmp_path: Path) -> None:
    async with supervised(tmp_path, shell("echo up; exec sleep 60")) as (process, _):
        await until(lambda: process.log.tail(10) == b"up\n")
        await asyncio.sleep(0.05)  # what the start has left to do
        wakes = 0
        loop = asyncio.get_running_loop()
        select = loop._selector.select  # type: ignore[attr-defined]  # how often the loop wakes is nobody's business else

        def counted(timeout: float | None) -> Any:  # noqa: ANN401  the selector's own
            nonlocal wakes
            wakes += 1
            return select(timeout)

        loop._selector.select = counted  # type: ignore[attr-defined]
        await asyncio.sleep(0.3)
        loop._selector.select = select  # type: ignore[attr-defined]
        assert wakes <= 2


def _lines(path: Path) -> int:
    return path.read_text().count("\n") if has_content(path) else 0


def _write_program(path: Path, text: str) -> None:
    beside = path.with_suffix(".new")
    beside.write_text(text)
    beside.chmod(0o755)
    beside.rename(path)


# sandboxd runs on uvloop, whose processes and pipes are its own.
@pytest.mark.uvloop
class TestOnUvloop:
    test_runs = staticmethod(test_it_runs_until_it_is_stopped)
    test_killed = staticmethod(test_killed_and_started_again)
    test_not_there = staticmethod(test_a_program_that_is_not_there)
    test_deaf = staticmethod(test_one_that_ignores_sigterm)
    test_helpers = staticmethod(test_helpers_end_before_it_is_started_again)
    test_tasks_end = staticmethod(test_nothing_survives_the_end_of_all_tasks)
