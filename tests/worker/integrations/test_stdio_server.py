"""A child's lines as messages: fed by hand, and one real child that does not read."""

import asyncio
from pathlib import Path

import anyio
from mcp.shared.message import SessionMessage
from mcp_types import JSONRPCNotification

from sallyport.net.line_child import StopTimes
from sallyport.net.tasks import TaskSet
from worker.integrations.launch import Launch
from worker.integrations.server_log import ServerLog
from worker.integrations.stdio_server import StdioServer, start_stdio_server, stdio_streams

PING = b'{"jsonrpc":"2.0","id":1,"method":"ping"}\n'
TIMES = StopTimes(exit=0.05, terminate=2.0)


def server(log: ServerLog | None = None) -> StdioServer:
    return StdioServer(log or ServerLog(most_lines=10, most_line_bytes=100), 1000)


async def test_messages_come_out_however_the_bytes_come_in() -> None:
    for chunk in (1, 7, 1000):
        one = server()
        data = PING + b"\n  \n" + PING
        for start in range(0, len(data), chunk):
            one.pipe_data_received(1, data[start : start + chunk])
        one.pipe_connection_lost(1, None)
        found = [await one.next_message() for _ in range(3)]
        assert [message is not None for message in found] == [True, True, False]
        assert await one.next_message() is None
        assert one.silent.done()


async def test_what_is_no_message_is_log() -> None:
    log = ServerLog(most_lines=10, most_line_bytes=100)
    one = server(log)
    one.pipe_data_received(1, b"hello\n" + b'{"a":1}\n' + b"\xff\xfe\n" + PING)
    one.pipe_data_received(2, b"an error\n")
    assert await one.next_message() is not None
    assert log.tail(9) == ["an error", "[stdout] hello", '[stdout] {"a":1}', "[stdout] \ufffd\ufffd"]


async def test_a_line_without_an_end_ends_the_session() -> None:
    one = server()
    one.pipe_data_received(1, b"x" * 1001)
    assert one.misbehaved == "it printed a line of more than 1000 bytes"
    assert (await one.next_message(), one.silent.done()) == (None, True)
    one.pipe_data_received(1, PING)
    assert await one.next_message() is None


async def test_one_that_does_not_read_holds_up_its_writer_and_can_be_stopped(tmp_path: Path) -> None:
    tasks = TaskSet(lambda name, error: None)
    launch = Launch(args=("/bin/sleep", "60"), env={}, cwd=tmp_path, hidden=())
    log = ServerLog(most_lines=5, most_line_bytes=100)
    child = await start_stdio_server(tasks, launch, log, lambda: StdioServer(log, 1000))
    message = SessionMessage(JSONRPCNotification(jsonrpc="2.0", method="x", params={"big": "y" * 100_000}))
    sent = 0
    async with stdio_streams(child) as (_, write):
        with anyio.move_on_after(0.2):
            while True:
                await write.send(message)
                sent += 1
    # What the pipe and the transport's buffer hold, and no more.
    assert sent < 10
    await child.stop(TIMES)
    assert (child.exited.result(), len(tasks)) == (-15, 0)
    await asyncio.sleep(0)


class Written(StdioServer):
    """Keeps the lines that would go to the process."""

    line = b""

    async def send_line(self, line: bytes) -> None:
        self.line = line


async def test_half_of_a_surrogate_pair_is_sent_as_it_is_written() -> None:
    one = Written(ServerLog(most_lines=10, most_line_bytes=100), 1000)
    await one.send(SessionMessage(JSONRPCNotification(jsonrpc="2.0", method="x", params={"a": "\ud800"})))
    assert one.line == b'{"jsonrpc":"2.0","method":"x","params":{"a":"\\ud800"}}'
