"""Real children and their groups."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sallyport.net.child import Child, ChildError, end_group, start_child
from tests.support.setup_documents import ENVIRONMENT, has_content, is_alive, python, shell, task_set
from tests.support.until import until

IGNORE_TERM = (
    "import signal,time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('up', flush=True)\ntime.sleep(60)"
)


INHERITED = """
import os, sys
os.write(int(sys.argv[1]), b"passed")
try:
    os.fstat(int(sys.argv[2]))
except OSError:
    print("none")
"""


async def start(args: list[str], output: bytearray | None = None, cwd: str | None = None) -> Child:
    kept = bytearray() if output is None else output
    async with task_set() as tasks:
        return await start_child(tasks, lambda: Child(kept.extend), args, env=ENVIRONMENT, cwd=cwd)


async def finished(child: Child) -> int:
    code = await child.exited
    await child.finish()
    return code


async def test_output_exit_code_and_place(tmp_path: Path) -> None:
    output = bytearray()
    child = await start(shell("echo out; echo err >&2; pwd; cat; exit 7"), output, str(tmp_path))
    assert await finished(child) == 7
    assert output.decode() == f"out\nerr\n{tmp_path}\n"
    assert repr(child) == f"<Child {child.pid} ended>"


@pytest.mark.uvloop
async def test_the_same_on_uvloop(tmp_path: Path) -> None:
    output = bytearray()
    child = await start(shell("echo out; echo err >&2; sleep 60 & exit 7"), output, str(tmp_path))
    assert await finished(child) == 7
    assert output == b"out\nerr\n"
    child = await start(shell("echo up; sleep 60"))
    await end_group(child, first=signal.SIGTERM, timeout_seconds=2, grace_seconds=0)
    assert child.exited.result() == -signal.SIGTERM


@pytest.mark.uvloop
async def test_it_inherits_the_descriptors_it_is_passed_and_no_other() -> None:
    read, write = os.pipe()
    output = bytearray()
    async with task_set() as tasks:
        child = await start_child(
            tasks,
            lambda: Child(output.extend),
            [sys.executable, "-c", INHERITED, str(write), str(read)],
            env=ENVIRONMENT,
            cwd=None,
            pass_fds=[write],
        )
        assert await finished(child) == 0
    assert (os.read(read, 64), bytes(output)) == (b"passed", b"none\n")
    os.close(read)
    os.close(write)


async def test_a_child_leads_a_session_of_its_own() -> None:
    child = await start(shell("sleep 60"))
    assert os.getsid(child.pid) == os.getpgid(child.pid) == child.pid
    await end_group(child, first=signal.SIGTERM, timeout_seconds=2, grace_seconds=0)
    assert not is_alive(child.pid)


async def test_killed_from_outside() -> None:
    child = await start(shell("sleep 60"))
    os.kill(child.pid, signal.SIGKILL)
    assert await finished(child) == -signal.SIGKILL


@pytest.mark.parametrize(
    ("args", "cwd", "message"),
    [
        (["no-such-program-here"], None, "there is no program no-such-program-here"),
        (["sh"], "/no/such/place", "the working directory /no/such/place does not exist"),
        (["/etc/passwd"], None, "/etc/passwd cannot be started: Permission denied"),
    ],
)
async def test_what_cannot_be_started(args: list[str], cwd: str | None, message: str) -> None:
    with pytest.raises(ChildError, match=message):
        await start(args, cwd=cwd)


async def test_one_that_ignores_the_signal_is_killed_with_its_group() -> None:
    output = bytearray()
    child = await start(python(IGNORE_TERM), output)
    await until(lambda: output == b"up\n")
    begun = asyncio.get_running_loop().time()
    await end_group(child, first=signal.SIGTERM, timeout_seconds=0.1, grace_seconds=0.1)
    assert asyncio.get_running_loop().time() - begun >= 0.2
    assert child.exited.result() == -signal.SIGKILL


async def test_the_rest_of_a_group_ends_too(tmp_path: Path) -> None:
    # The leader ends at the signal, its helper ignores it and everything milder than SIGKILL.
    script = f"(trap '' TERM INT; echo $$ > {tmp_path}/up; sleep 60) & echo $! > {tmp_path}/helper; wait"
    child = await start(shell(script))
    await until(lambda: has_content(tmp_path / "helper") and has_content(tmp_path / "up"))
    helper = int((tmp_path / "helper").read_text())
    await end_group(child, first=signal.SIGINT, timeout_seconds=0.1, grace_seconds=0.05)
    await until(lambda: not is_alive(helper))


async def test_what_a_dead_leader_left_is_killed_and_its_last_words_are_heard(tmp_path: Path) -> None:
    output = bytearray()
    child = await start(shell(f"sleep 60 & echo $! > {tmp_path}/helper; seq 20000; exit 1"), output)
    assert await finished(child) == 1
    assert output.endswith(b"\n20000\n")
    await until(lambda: not is_alive(int((tmp_path / "helper").read_text())))


async def test_a_descendant_that_left_the_group_and_holds_the_pipe_holds_up_nobody(tmp_path: Path) -> None:
    away = tmp_path / "away"
    leaving = f"setsid sh -c 'echo $$ > {away}; exec sleep 60' &"
    child = await start(shell(f"{leaving} while [ ! -s {away} ]; do sleep 0.01; done"))
    async with asyncio.timeout(30):  # half of what the descendant sleeps
        assert await finished(child) == 0
    os.kill(int(away.read_text()), signal.SIGKILL)


async def test_two_pipes() -> None:
    output = bytearray()
    async with task_set() as tasks:
        child = await start_child(
            tasks,
            lambda: Child(output.extend),
            shell("cat; echo err >&2"),
            env=ENVIRONMENT,
            cwd=None,
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
    stdin = child.transport.get_pipe_transport(0)
    assert isinstance(stdin, asyncio.WriteTransport)
    stdin.write(b"in\n")
    stdin.close()
    assert await finished(child) == 0
    assert output == b"in\nerr\n"


async def test_signals_to_what_is_gone_are_nothing() -> None:
    child = await start(shell("exit 0"))
    await finished(child)
    child.signal_group(signal.SIGKILL)
    await end_group(child, first=signal.SIGTERM, timeout_seconds=1, grace_seconds=1)


@pytest.mark.parametrize("turns", range(8))
async def test_a_start_that_is_given_up_leaves_nothing(tmp_path: Path, turns: int) -> None:
    # The helper is there as soon as the leader runs, which may be before the start has been waited for.
    script = f"sleep 60 & echo $! > {tmp_path}/helper; wait"
    made: list[Child] = []

    def make() -> Child:
        made.append(Child(lambda data: None))
        return made[-1]

    async with task_set() as tasks, asyncio.TaskGroup() as group:
        starting = group.create_task(start_child(tasks, make, shell(script), env=ENVIRONMENT, cwd=None))
        for _ in range(turns):
            await asyncio.sleep(0)
        time.sleep(0.02)  # noqa: ASYNC251  the program runs while this loop does not
        starting.cancel()
        await asyncio.wait({starting})
        if starting.cancelled():
            # It was waited for.
            assert not any(child.pid and is_alive(child.pid) for child in made)
        else:
            starting.result().abandon()
        await until(lambda: len(tasks) == 0)
    # The transport of what was killed closes by itself; the loop must not end before it.
    await until(lambda: all(child.closed.done() for child in made if child.pid))
    if has_content(tmp_path / "helper"):
        await until(lambda: not is_alive(int((tmp_path / "helper").read_text())))
