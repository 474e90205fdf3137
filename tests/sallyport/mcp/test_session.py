"""Who hears what of a server: a real child that says what it is told to say."""

import asyncio
import contextlib
import json
import subprocess
from collections.abc import AsyncIterator
from typing import Any

import pytest

from sallyport.mcp import session as module
from sallyport.mcp.exchange import Refused
from sallyport.mcp.session import McpSession, Replies
from sallyport.net.child import start_child
from sallyport.net.line_child import LineChild, StopTimes
from sallyport.wire.json_rpc import Message, read_message
from tests.support.mcp_requests import notification, request
from tests.support.setup_documents import is_alive, python, task_set
from tests.support.until import until

# Prints the lines that the `say` of a message holds; `exit` of one ends it.
TOLD = """
import json, sys
for line in sys.stdin:
    params = json.loads(line).get("params", {})
    for each in params.get("say", []):
        print(each if isinstance(each, str) else json.dumps(each), flush=True)
    if "exit" in params:
        print("so be it", file=sys.stderr)
        sys.exit(params["exit"])
"""
STOP = StopTimes(exit=0.2, terminate=0.2)


class Child(LineChild):
    """One that keeps what it printed beside its messages."""

    def __init__(self, most_line_bytes: int) -> None:
        self.log: list[bytes] = []
        super().__init__(self.log.append, most_line_bytes)

    def last_words(self) -> str:
        return self.log[-1].decode().strip() if self.log else ""


def message(document: dict[str, Any]) -> Message:
    found = read_message(json.dumps(document).encode())
    assert found is not None
    return found


def response(number: int | str, **more: object) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": number, "result": more}


@contextlib.asynccontextmanager
async def running(
    script: str = TOLD, *, most_requests: int = 64, most_line_bytes: int = 10_000
) -> AsyncIterator[tuple[McpSession, Child]]:
    async with task_set() as tasks:
        child = await start_child(
            tasks,
            lambda: Child(most_line_bytes),
            python(script),
            env={},
            cwd=None,
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        session = McpSession(child, most_requests=most_requests, stop_times=STOP)
        task = tasks.spawn(session.run(), name="session")
        yield session, child
        task.cancel()
        await asyncio.wait({task})
        child.abandon()
        await until(lambda: not is_alive(child.pid))


async def heard(replies: Replies) -> dict[str, Any] | None:
    line = await replies.next()
    return None if line is None else json.loads(line)


async def test_answers_go_to_those_who_asked_in_whatever_order() -> None:
    async with running() as (session, _):
        one = await session.ask(message(request("x", 1)))
        two = await session.ask(message(request("x", "1", say=[response("1", n=2), response(1, n=1)])))
        assert await heard(one) == response(1, n=1)
        assert await heard(two) == response("1", n=2)
        assert (one.has_more, await heard(one)) == (False, None)
        assert session.is_idle


async def test_progress_goes_by_its_token_and_the_rest_to_the_listener() -> None:
    def progress(token: str) -> dict[str, Any]:
        return notification("notifications/progress", progressToken=token, progress=1)

    async with running() as (session, _):
        listener = session.listen()
        one = await session.ask(message(request("x", 1, _meta={"progressToken": "one"})))
        said = [progress("two"), progress("one"), progress("none"), request("roots/list", 9), response(2), response(1)]
        two = await session.ask(message(request("x", 2, _meta={"progressToken": "two"}, say=said)))
        assert [await heard(one) for _ in range(3)] == [progress("one"), response(1), None]
        assert [await heard(two) for _ in range(3)] == [progress("two"), response(2), None]
        assert [await heard(listener) for _ in range(2)] == [progress("none"), request("roots/list", 9)]
        with pytest.raises(Refused, match="a listening stream already"):
            session.listen()
        session.forget(listener)
        session.forget(session.listen())


async def test_without_a_listener_the_request_that_waits_hears_it_and_else_it_is_kept() -> None:
    said = [notification("notifications/message", data=number) for number in range(module.MAX_KEPT_MESSAGES + 2)]
    async with running() as (session, _):
        await session.tell(message(notification("x", say=said)))
        await until(lambda: len(session._kept) == module.MAX_KEPT_MESSAGES and session._kept[-1].endswith(b"65}}"))
        waiting = await session.ask(message(request("x", 1, say=[request("sampling", 5), response(1)])))
        assert [await heard(waiting) for _ in range(2)] == [request("sampling", 5), response(1)]
        listener = session.listen()
        # The oldest are forgotten.
        assert [await heard(listener) for _ in range(module.MAX_KEPT_MESSAGES)] == said[2:]


async def test_a_request_that_is_given_up_is_answered() -> None:
    async with running() as (session, _):
        replies = await session.ask(message(request("x", 1)))
        await session.tell(message(notification("notifications/cancelled", requestId=1)))
        answer = await heard(replies)
        assert answer is not None
        assert answer["error"]["message"] == "the request was cancelled"
        again = await session.ask(message(request("x", 1, say=[response(1)])))
        assert await heard(again) == response(1)


async def test_what_may_wait_at_once() -> None:
    async with running(most_requests=2) as (session, _):
        await session.ask(message(request("x", 1)))
        with pytest.raises(Refused, match="a request of this id waits already"):
            await session.ask(message(request("x", 1)))
        await session.ask(message(request("x", 2)))
        with pytest.raises(Refused, match="2 requests wait already"):
            await session.ask(message(request("x", 3)))


async def test_when_it_ends_everybody_hears_how() -> None:
    async with running() as (session, _):
        listener = session.listen()
        one = await session.ask(message(request("x", 1)))
        two = await session.ask(message(request("x", 2, exit=3)))
        for replies in (one, two):
            answer = await heard(replies)
            assert answer is not None
            assert answer["error"]["message"] == "the server exited with code 3: so be it"
        assert await heard(listener) is None
        with pytest.raises(Refused, match="exited with code 3: so be it"):
            await session.ask(message(request("x", 4)))


async def test_garbage_is_log_up_to_a_limit() -> None:
    async with running() as (session, child):
        replies = await session.ask(message(request("x", 1, say=["hello", "[]", response(1)])))
        assert await heard(replies) == response(1)
        assert child.log == [b"hello\n", b"[]\n"]
        replies = await session.ask(message(request("x", 2, say=["no message"] * 1000)))
        answer = await heard(replies)
        assert answer is not None
        what = "it printed more than 1000 lines that are no messages"
        assert answer["error"]["message"] == f"the server was ended: {what}"


async def test_one_that_does_not_read_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "INPUT_SECONDS", 0.1)
    async with running("import time; time.sleep(60)") as (session, _):
        refused = None
        for number in range(50):
            try:
                await session.ask(message(request("x", number, big="y" * 100_000)))
            except Refused as error:
                refused = error
                break
        assert refused is not None
        assert (refused.status, str(refused)) == (504, "the server did not read for 0.1 s")


async def test_whoever_does_not_hear_holds_up_nobody_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WRITE_SECONDS", 0.1)
    told = [notification("notifications/message", data=number) for number in range(module.MAX_WAITING_MESSAGES + 1)]
    async with running() as (session, _):
        listener = session.listen()
        replies = await session.ask(message(request("x", 1, say=[*told, response(1)])))
        assert await heard(replies) == response(1)
        assert session.is_idle  # the listener was let go
        lines = [await listener.next() for _ in range(module.MAX_WAITING_MESSAGES + 1)]
        assert lines[-1] is None


async def test_large_messages_are_few_that_wait_and_few_that_are_kept() -> None:
    large = [notification("notifications/message", data=str(number) * 400_000) for number in range(5)]
    async with running(most_line_bytes=1_000_000) as (session, _):
        await session.tell(message(notification("x", say=large)))
        await until(lambda: len(session._kept) == 2 and b"4444" in session._kept[-1])
        listener = session.listen()
        assert [await heard(listener) for _ in range(2)] == large[3:]
        replies = await session.ask(message(request("x", 1, say=[*large, response(1)])))
        await until(lambda: not listener._has_room.is_set())
        assert listener._lines.qsize() == 3
        assert [await heard(listener) for _ in range(5)] == large
        assert await heard(replies) == response(1)


async def test_one_whose_reader_goes_is_released() -> None:
    told = [notification("notifications/message", data=number) for number in range(module.MAX_WAITING_MESSAGES + 1)]
    async with running() as (session, _):
        listener = session.listen()
        replies = await session.ask(message(request("x", 1, say=[*told, response(1)])))
        await until(lambda: not listener._has_room.is_set())
        session.forget(listener)
        assert await heard(replies) == response(1)
