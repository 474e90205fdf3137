"""Server-sent events on the wire, and how a stream ends."""

import asyncio
from collections.abc import AsyncGenerator

import pytest
from starlette.types import Message

from control_plane import watch
from control_plane.api import stream
from control_plane.api.stream import EventStream, encode
from control_plane.watch import Entry
from tests.support.control_plane import Replica
from tests.support.until import until

# The wire knows no database: one is enough.
ON_SQLITE = pytest.mark.parametrize("url", ["sqlite"], indirect=True)


def entry(number: int) -> Entry:
    return Entry(number, "plan", b'{"a":1}')


async def served(
    entries: AsyncGenerator[list[Entry]], *, ended: bool = False, disconnects: bool = False, stalls: bool = False
) -> bytes:
    """Serve a stream to a reader that stays, leaves at once, or does not read."""
    sent: list[Message] = []

    async def receive() -> Message:
        if not disconnects:
            await asyncio.Event().wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        if stalls and len(sent) >= 2:
            await asyncio.Event().wait()
        sent.append(message)

    async with asyncio.timeout(10):
        await EventStream(entries, encode, until=lambda: ended)({"type": "http"}, receive, send)
    assert sent[0]["status"] == 200
    return b"".join(message.get("body", b"") for message in sent[1:])


async def endless() -> AsyncGenerator[list[Entry]]:
    yield [entry(1)]
    number = 1
    while True:
        await asyncio.sleep(0)
        number += 1
        yield [entry(number)]


async def finite() -> AsyncGenerator[list[Entry]]:
    yield [entry(1)]
    yield []
    yield [entry(2), entry(3)]


def test_an_event_on_the_wire() -> None:
    assert encode([entry(7)]) == b'id: 7\nevent: plan\ndata: {"a":1}\n\n'
    assert encode([]) == b""


async def test_a_stream_from_its_beginning_to_its_end() -> None:
    expected = b"retry: 1000\n\n" + encode([entry(1)]) + b": heartbeat\n\n" + encode([entry(2), entry(3)])
    assert await served(finite()) == expected


async def test_a_stream_begins_before_anything_has_happened() -> None:
    async def quiet() -> AsyncGenerator[list[Entry]]:
        yield []
        yield [entry(1)]

    assert await served(quiet()) == b"retry: 1000\n\n: heartbeat\n\n" + encode([entry(1)])


async def test_it_ends_when_the_reader_is_gone_no_longer_allowed_or_does_not_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await served(endless(), disconnects=True)
    assert await served(endless(), ended=True) == b"retry: 1000\n\n" + encode([entry(1)])
    monkeypatch.setattr(stream, "SEND_SECONDS", 0.02)
    await served(endless(), stalls=True)


@ON_SQLITE
async def test_a_reader_that_leaves_is_forgotten(api: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    async with api.watch() as reader:
        await reader.next()
        running = api.plane._watch
        assert len(running._subscriptions) == 1
    await until(lambda: not running._subscriptions)


@ON_SQLITE
async def test_heartbeats_and_the_end_of_a_token(api: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "HEARTBEAT_SECONDS", 0.02)
    async with api.watch() as reader:
        await reader.next()
        assert (await reader.next(":")).data == ": heartbeat"


@ON_SQLITE
async def test_who_has_missed_nothing_hears_so_at_once(api: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "HEARTBEAT_SECONDS", 3600)
    async with api.watch() as reader:
        last = (await reader.next()).id
    async with api.watch(last) as reader:
        assert (await reader.next(":")).data == ": heartbeat"
        await api.prepare()
        assert (await reader.next("plan")).data["revision"] == 1


@ON_SQLITE
@pytest.mark.parametrize("last_id", ["", "x", "-1", "1.5", "9" * 30, "²"])
async def test_an_id_that_is_none_begins_with_a_snapshot(api: Replica, last_id: str) -> None:
    headers = [(b"Last-Event-ID", last_id.encode("utf-8"))]
    async with api.client.stream("GET", "/internal/plans/watch", headers=headers) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        lines = response.aiter_lines()
        found = [await anext(lines) for _ in range(4)]
    assert found[3] == "event: snapshot"
