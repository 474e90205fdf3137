"""A child's lines: fed by hand, and real children."""

import asyncio
import subprocess
from pathlib import Path

import pytest

from sallyport.net import line_child
from sallyport.net.child import start_child
from sallyport.net.line_child import LineChild, StopTimes
from sallyport.net.tasks import TaskSet
from tests.support.setup_documents import is_alive, shell, task_set

TIMES = StopTimes(exit=0.05, terminate=2.0)


def child(log: list[bytes] | None = None, most_line_bytes: int = 1000) -> LineChild:
    return LineChild((log if log is not None else []).append, most_line_bytes)


async def started(tasks: TaskSet, script: str, most_line_bytes: int = 1000) -> LineChild:
    return await start_child(
        tasks,
        lambda: child(None, most_line_bytes),
        shell(script),
        env={"PATH": "/usr/bin:/bin"},
        cwd=None,
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


async def test_lines_come_out_however_the_bytes_come_in() -> None:
    for chunk in (1, 3, 1000):
        one = child()
        data = b"first\n\n  \nsecond\r\n\xff\n"
        for start in range(0, len(data), chunk):
            one.pipe_data_received(1, data[start : start + chunk])
        one.pipe_connection_lost(1, None)
        assert [await one.next_line() for _ in range(5)] == [b"first", b"second\r", b"\xff", None, None]
        assert one.silent.done()


async def test_what_is_on_its_standard_error_is_log() -> None:
    log: list[bytes] = []
    one = child(log)
    one.pipe_data_received(2, b"an error\n")
    assert log == [b"an error\n"]


async def test_a_line_without_an_end_is_the_last_that_is_heard() -> None:
    one = child()
    one.pipe_data_received(1, b"good\n" + b"x" * 1001)
    assert one.misbehaved == "it printed a line of more than 1000 bytes"
    assert (await one.next_line(), one.silent.done()) == (None, True)
    one.pipe_data_received(1, b"more\n")
    assert await one.next_line() is None


async def test_too_much_garbage_is_the_end_too() -> None:
    log: list[bytes] = []
    one = child(log)
    for _ in range(line_child.MAX_GARBAGE_LINES):
        one.note_garbage(b"hello")
    assert not one.silent.done()
    assert log == [b"hello\n"] * line_child.MAX_GARBAGE_LINES
    one.note_garbage(b"hello")
    assert one.misbehaved == "it printed more than 1000 lines that are no messages"
    assert await one.next_line() is None


async def test_a_session_of_lines() -> None:
    async with task_set() as tasks:
        one = await started(tasks, 'while read -r line; do echo "got $line"; done; echo bye >&2')
        await one.send_line(b"this")
        assert await one.next_line() == b"got this"
        await one.stop(StopTimes(exit=2.0, terminate=2.0))
        assert one.exited.result() == 0


@pytest.mark.parametrize(("count", "digits"), [(2000, 900), (60, 90_000)])
async def test_nothing_is_read_that_nobody_takes(count: int, digits: int) -> None:
    async with task_set() as tasks:
        one = await started(tasks, f"seq -f %0{digits}g {count}", most_line_bytes=100_000)
        await asyncio.sleep(0.2)
        assert not one.exited.done()
        lines = 0
        while await one.next_line() is not None:
            lines += 1
        assert lines == count
        await one.stop(TIMES)


async def test_one_that_does_not_read_holds_up_its_writer_and_is_ended_with_its_group(tmp_path: Path) -> None:
    async with task_set() as tasks:
        one = await started(tasks, f"sleep 60 & echo $! > {tmp_path}/pid; echo up; wait; sleep 60")
        assert await one.next_line() == b"up"
        sent = 0

        async def flood() -> None:
            nonlocal sent
            async with asyncio.timeout(0.2):
                while True:
                    await one.send_line(b"y" * 100_000)
                    sent += 1

        with pytest.raises(TimeoutError):
            await flood()
        # What the pipe and the transport's buffer hold, and no more.
        assert sent < 10
        await one.stop(TIMES)
        assert one.exited.result() == -15
        assert not is_alive(int((tmp_path / "pid").read_text()))


async def test_one_that_has_ended_holds_up_nobody() -> None:
    async with task_set() as tasks:
        one = await started(tasks, "exec 0<&-; sleep 0.05")
        async with asyncio.timeout(5):
            for _ in range(20):
                await one.send_line(b"y" * 100_000)
        await one.stop(TIMES)
