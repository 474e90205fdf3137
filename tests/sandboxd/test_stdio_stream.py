"""Streams that are a process each: real programs, both kinds of event loop."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sallyport.net.memory import MemoryTransport, memory_pair
from sandboxd import stdio_stream
from sandboxd.setup.process_log import ProcessLog
from sandboxd.stdio_stream import StdioStream
from tests.support.setup_documents import ENVIRONMENT, has_content, is_alive, python, shell, task_set
from tests.support.until import until

# Answers each line by its method, until its input ends.
ECHO = """
import json, sys
for line in sys.stdin:
    sys.stdout.write(json.dumps({"did": json.loads(line)["method"]}) + "\\n")
    sys.stdout.flush()
print("bye", file=sys.stderr)
"""


class Gateway(asyncio.Protocol):
    """The gateway's end."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.has_ended = False
        self.transport: MemoryTransport
        self.stream: StdioStream

    def data_received(self, data: bytes) -> None:
        self.received += data

    def eof_received(self) -> bool:
        self.has_ended = True
        return True

    @property
    def lines(self) -> list[bytes]:
        return bytes(self.received).partition(b"\r\n\r\n")[2].splitlines()

    @property
    def is_answered(self) -> bool:
        return b"\r\n\r\n" in self.received


@contextlib.asynccontextmanager
async def opened(tmp_path: Path, args: list[str]) -> AsyncIterator[tuple[Gateway, list[str]]]:
    """A stream to a program; the list has an item when stream and process are gone."""
    gateway = Gateway()
    ends: list[str] = []
    gateway.transport, stream = memory_pair(asyncio.get_running_loop(), gateway, asyncio.Protocol())
    async with task_set() as tasks:
        log = ProcessLog(tmp_path / "log")
        gateway.stream = StdioStream(
            stream, args, env=ENVIRONMENT, log=log, tasks=tasks, on_end=lambda: ends.append("ended")
        )
        stream.set_protocol(gateway.stream)
        yield gateway, ends
        gateway.transport.abort()
        await until(lambda: ends == ["ended"])
        await until(lambda: len(tasks) == 0)


def request(method: str) -> bytes:
    return json.dumps({"method": method}).encode() + b"\n"


async def test_a_session_from_begin_to_end(tmp_path: Path) -> None:
    async with opened(tmp_path, python(ECHO)) as (gateway, ends):
        gateway.transport.write(request("one"))
        await until(lambda: gateway.lines == [b'{"did": "one"}'])
        assert gateway.received.startswith(b"HTTP/1.1 200 Connection Established\r\n\r\n")
        gateway.transport.write(request("two")[:5])
        gateway.transport.write(request("two")[5:])
        await until(lambda: gateway.lines[1:] == [b'{"did": "two"}'])
        assert ends == []
        gateway.transport.write(request("last"))
        gateway.transport.write_eof()
        await until(lambda: gateway.has_ended)
        assert gateway.lines[2:] == [b'{"did": "last"}']
    assert (tmp_path / "log").read_text() == "bye\n"


async def test_bytes_that_came_with_the_head(tmp_path: Path) -> None:
    async with opened(tmp_path, shell("cat")) as (gateway, _):
        gateway.stream.data_received(b"early\n")
        gateway.transport.write(b"late\n")
        await until(lambda: gateway.lines == [b"early", b"late"])


async def test_a_process_for_each_stream(tmp_path: Path) -> None:
    async with opened(tmp_path, shell("echo $$; cat")) as (one, _), opened(tmp_path, shell("echo $$; cat")) as (two, _):
        await until(lambda: bool(one.lines) and bool(two.lines))
        assert one.lines != two.lines


async def test_a_process_that_ends_ends_its_stream_when_all_is_read(tmp_path: Path) -> None:
    async with opened(tmp_path, shell("sleep 60 & seq 100000; echo broken >&2; exit 3")) as (gateway, _):
        gateway.transport.pause_reading()
        await until(lambda: "running" not in repr(gateway.stream))
        gateway.transport.resume_reading()
        await until(lambda: gateway.has_ended)
        assert gateway.lines[-1] == b"100000"
        assert len(gateway.lines) == 100_000
    assert (tmp_path / "log").read_text() == "broken\n"


async def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    async with opened(tmp_path, ["no-such-program"]) as (gateway, _):
        await until(lambda: gateway.has_ended)
        assert gateway.received.startswith(b"HTTP/1.1 502 ")
        assert b'"code":"upstream_unreachable","detail":"there is no program no-such-program"' in gateway.received


@pytest.mark.parametrize("how", ["reset", "half-close"])
async def test_the_whole_group_goes_with_the_stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    monkeypatch.setattr(stdio_stream, "INPUT_ENDED_SECONDS", 0.1)
    monkeypatch.setattr(stdio_stream, "END_SECONDS", 0.1)
    # Deaf to the end of its input and to SIGTERM, and so is its helper.
    script = (
        f"trap '' TERM; (while :; do sleep 1; done) & echo $$ $! > {tmp_path}/pids; echo up; while :; do sleep 1; done"
    )
    async with opened(tmp_path, shell(script)) as (gateway, _):
        await until(lambda: gateway.lines == [b"up"] and has_content(tmp_path / "pids"))
        if how == "reset":
            gateway.transport.abort()
        else:
            gateway.transport.write_eof()
            await until(lambda: gateway.has_ended)
    assert not any(is_alive(int(pid)) for pid in (tmp_path / "pids").read_text().split())


async def test_a_stream_that_ends_before_the_process_has_started(tmp_path: Path) -> None:
    async with opened(tmp_path, shell("cat")) as (gateway, ends):
        gateway.transport.abort()
        await until(lambda: ends == ["ended"])


async def test_a_slow_process_slows_the_gateway(tmp_path: Path) -> None:
    size = 4 * 1024 * 1024
    script = f"until [ -e {tmp_path}/go ]; do sleep 0.01; done; wc -c"
    async with opened(tmp_path, shell(script)) as (gateway, _):
        await until(lambda: gateway.is_answered)
        gateway.transport.write(bytes(size))
        await until(lambda: gateway.transport.get_write_buffer_size() < size)
        await asyncio.sleep(0.05)
        assert gateway.transport.get_write_buffer_size() > size // 2
        (tmp_path / "go").touch()
        await until(lambda: gateway.transport.get_write_buffer_size() == 0)
        gateway.transport.write_eof()
        await until(lambda: gateway.lines == [b"%d" % size])


async def test_a_slow_gateway_slows_the_process(tmp_path: Path) -> None:
    size = 4 * 1024 * 1024
    script = f"until [ -e {tmp_path}/go ]; do sleep 0.01; done; head -c {size} /dev/zero; touch {tmp_path}/written"
    async with opened(tmp_path, shell(script)) as (gateway, _):
        await until(lambda: gateway.is_answered)
        head_bytes = len(gateway.received)
        gateway.transport.pause_reading()
        (tmp_path / "go").touch()
        await asyncio.sleep(0.1)
        assert not (tmp_path / "written").exists()
        gateway.transport.resume_reading()
        await until(lambda: gateway.has_ended)
        assert (tmp_path / "written").exists()
        assert len(gateway.received) == head_bytes + size


async def test_a_process_that_stops_listening_breaks_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path, shell("exec 0<&-; echo closed; sleep 60")) as (gateway, _):
        await until(lambda: gateway.lines == [b"closed"])
        gateway.transport.write(b"x" * 1_000_000)
        gateway.transport.write(b"y")
        await asyncio.sleep(0.02)
        gateway.transport.write(b"z")


async def test_the_end_of_all_tasks_is_the_end_of_the_process(tmp_path: Path) -> None:
    gateway = Gateway()
    ends: list[str] = []
    gateway.transport, stream = memory_pair(asyncio.get_running_loop(), gateway, asyncio.Protocol())
    async with task_set() as tasks:
        gateway.stream = StdioStream(
            stream,
            shell("echo $$; cat"),
            env=ENVIRONMENT,
            log=ProcessLog(tmp_path / "log"),
            tasks=tasks,
            on_end=lambda: ends.append("ended"),
        )
        stream.set_protocol(gateway.stream)
        await until(lambda: bool(gateway.lines))
    assert ends == ["ended"]
    await until(lambda: not is_alive(int(gateway.lines[0])))


# sandboxd runs on uvloop, whose processes and pipes are its own.
@pytest.mark.uvloop
class TestOnUvloop:
    test_session = staticmethod(test_a_session_from_begin_to_end)
    test_all_is_read = staticmethod(test_a_process_that_ends_ends_its_stream_when_all_is_read)
    test_group = staticmethod(test_the_whole_group_goes_with_the_stream)
    test_slow_process = staticmethod(test_a_slow_process_slows_the_gateway)
    test_slow_gateway = staticmethod(test_a_slow_gateway_slows_the_process)
    test_input_closed = staticmethod(test_a_process_that_stops_listening_breaks_nothing)
