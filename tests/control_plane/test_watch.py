"""The watch stream: order, resuming, replicas, slow readers."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import psycopg
import pytest

from control_client.plans import read_event
from control_plane import watch
from control_plane.foundation import Foundation
from control_plane.service_tokens import token_file
from control_plane.store import events
from control_plane.store.database import Database
from control_plane.watch import Entry, Subscription, Watch, WatchFull
from tests.support.control_plane import (
    CONNECTION,
    NOW,
    ORGANIZATION,
    SANDBOX,
    Event,
    Replica,
    WatchReader,
    client_of,
    replica,
    sealed_plan,
    settings,
)
from tests.support.until import until

ROOT = Path(__file__).resolve().parents[2]
OF_ORGANIZATION = {"kind": "connection", "id": CONNECTION, "organizationId": ORGANIZATION}


async def emit(database: Database, number: int) -> None:
    async with database.write() as tx:
        tx.emit("invalidation", {"kind": "binding", "id": f"bnd_{number}"}, NOW)


@contextlib.asynccontextmanager
async def watching(base: Foundation) -> AsyncIterator[Watch]:
    running = Watch(base.database, lambda: NOW)
    await running.start()
    try:
        yield running
    finally:
        await running.close()


async def collect(running: Watch, last_id: int | None, count: int) -> list[Entry]:
    found: list[Entry] = []
    async with asyncio.timeout(10), contextlib.aclosing(running.subscribe(last_id)) as batches:
        async for batch in batches:
            found += batch
            if len(found) >= count:
                break
    return found


async def test_a_snapshot_comes_first_then_what_happens(api: Replica) -> None:
    await api.prepare()
    until_at = 4_000_000_000
    async with api.watch() as reader:
        snapshot = await reader.next()
        assert snapshot.kind == "snapshot"
        plan = await api.ask("GET", f"/v1/sandboxes/{SANDBOX}/plans")
        digest = plan["items"][0]["digest"]
        assert snapshot.data == {
            "plans": [{"sandboxId": SANDBOX, "revision": 1, "digest": digest}],
            "revocations": [],
        }
        posted = await api.ask("POST", f"/v1/sandboxes/{SANDBOX}/plans", content=sealed_plan(2), status=201)
        assert (await reader.next())[1:] == ("plan", posted)
        await api.ask("PUT", f"/v1/integration/connections/{CONNECTION}/api-key", {"value": "x"})
        assert (await reader.next())[1:] == ("invalidation", OF_ORGANIZATION)
        await api.ask("DELETE", f"/v1/sandboxes/{SANDBOX}", status=204)
        assert (await reader.next())[1:] == ("plan_removed", {"sandboxId": SANDBOX})
        revoked = await reader.next()
        assert (revoked.kind, revoked.data["kind"], revoked.data["id"]) == ("revocation", "sandbox", SANDBOX)
        assert revoked.id > snapshot.id
    async with api.watch() as reader:
        again = await reader.next()
        assert again.data == {"plans": [], "revocations": [revoked.data]}
        assert again.data["revocations"][0]["until"] < until_at


async def test_a_gateway_that_knows_of_no_organizations_is_told_of_none(api: Replica) -> None:
    """It reads orders strictly, and would refuse the whole stream; without one an order is about all of that id."""
    await api.prepare()
    until_at = time.time_ns() // 10**9 + 1000
    order = {"kind": "binding", "id": "bnd_one", "until": until_at}
    async with api.watch() as reader, api.watch(knows_organizations=False) as older:
        for each in (reader, older):
            assert (await each.next()).kind == "snapshot"
        await api.ask("PUT", f"/v1/integration/connections/{CONNECTION}/api-key", {"value": "x"})
        await api.ask("POST", "/v1/revocations", {**order, "organizationId": ORGANIZATION}, status=201)
        assert (await reader.next()).data == OF_ORGANIZATION
        assert (await reader.next()).data == {**order, "organizationId": ORGANIZATION}
        told = [await older.next(), await older.next()]
    assert [each.data for each in told] == [{"kind": "connection", "id": CONNECTION}, order]
    assert [read_event(each.kind, orjson.dumps(each.data)) is not None for each in told] == [True, True]
    for knows, revoked in ((True, {**order, "organizationId": ORGANIZATION}), (False, order)):
        async with api.watch(knows_organizations=knows) as reader:
            assert (await reader.next()).data["revocations"] == [revoked]


async def test_a_stream_resumes_behind_its_last_id(api: Replica) -> None:
    await api.prepare()
    async with api.watch() as reader:
        last = (await reader.next()).id
    for revision in (2, 3):
        body = sealed_plan(revision)
        await api.ask("POST", f"/v1/sandboxes/{SANDBOX}/plans", content=body, status=201)
    async with api.watch(last) as reader:
        assert [(await reader.next()).data["revision"] for _ in range(2)] == [2, 3]


@pytest.mark.parametrize("last_id", [10**6, 10**18])
async def test_an_id_that_was_never_given_is_answered_by_a_snapshot(base: Foundation, last_id: int) -> None:
    await emit(base.database, 1)
    async with watching(base) as running:
        [entry] = await collect(running, last_id, 1)
    assert entry.kind == "snapshot"


async def test_an_id_whose_followers_are_forgotten_is_answered_by_a_snapshot(base: Foundation) -> None:
    for number in range(5):
        await emit(base.database, number)
    async with base.database.write() as tx:
        await events.forget_events(tx, keep=2, before=NOW + 1)
    async with base.database.read() as tx:
        oldest, newest = await events.known_range(tx)
    assert newest - oldest == 1
    async with watching(base) as running:
        assert [entry.kind for entry in await collect(running, oldest - 2, 1)] == ["snapshot"]
        assert [entry.id for entry in await collect(running, oldest - 1, 2)] == [oldest, newest]


async def test_many_events_come_page_by_page(base: Foundation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "READ_BATCH", 3)
    await emit(base.database, 0)
    async with watching(base) as running:
        [first] = await collect(running, None, 1)
        for number in range(7):
            await emit(base.database, number)
        assert [entry.id for entry in await collect(running, first.id, 7)] == [first.id + n for n in range(1, 8)]


async def test_what_is_forgotten_between_two_pages_is_made_up_for(
    base: Foundation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "READ_BATCH", 2)
    for number in range(8):
        await emit(base.database, number)
    async with watching(base) as running, contextlib.aclosing(running.subscribe(1)) as batches:
        assert [entry.id for entry in await anext(batches)] == [2, 3]
        async with base.database.write() as tx:
            await events.forget_events(tx, keep=1, before=NOW + 1)
        assert [entry.kind for entry in await anext(batches)] == ["snapshot"]


async def test_what_is_committed_while_a_stream_begins_comes_exactly_once(base: Foundation) -> None:
    await emit(base.database, 0)
    async with watching(base) as running:
        [first] = await collect(running, None, 1)
        async with asyncio.TaskGroup() as group:
            for number in range(1, 31):
                group.create_task(emit(base.database, number))
            readers = [group.create_task(collect(running, first.id, 30)) for _ in range(3)]
    expected = list(range(first.id + 1, first.id + 31))
    for each in readers:
        assert [entry.id for entry in each.result()] == expected


async def test_a_wake_up_that_was_lost_costs_a_poll(base: Foundation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "POLL_SECONDS", 0.05)
    await emit(base.database, 0)
    async with watching(base) as running:
        [first] = await collect(running, None, 1)
        # Another process, whose notification does not arrive.
        other = Database(base.database.engine)
        monkeypatch.setattr(other, "is_postgresql", False)
        await emit(other, 1)
        [entry] = await collect(running, first.id, 1)
    assert entry.id == first.id + 1


async def test_a_reader_that_does_not_read_is_cut(base: Foundation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "QUEUE_EVENTS", 3)
    await emit(base.database, 0)
    async with watching(base) as running, contextlib.aclosing(running.subscribe(None)) as batches:
        assert [entry.kind for entry in await anext(batches)] == ["snapshot"]
        for number in range(5):
            await emit(base.database, number)
        await until(lambda: not running._subscriptions or all(each.is_ended for each in running._subscriptions))
        assert [batch async for batch in batches] == []
    assert not running._subscriptions


async def test_a_quiet_stream_says_so(base: Foundation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "HEARTBEAT_SECONDS", 0.01)
    await emit(base.database, 0)
    async with watching(base) as running, contextlib.aclosing(running.subscribe(None)) as batches:
        await anext(batches)
        assert await anext(batches) == []


async def test_there_is_a_limit_to_subscribers(base: Foundation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "MAX_SUBSCRIBERS", 1)
    async with watching(base) as running, contextlib.aclosing(running.subscribe(None)) as batches:
        await anext(batches)
        with pytest.raises(WatchFull):
            await anext(running.subscribe(None))


async def test_a_stream_ends_with_its_watch(base: Foundation) -> None:
    async with watching(base) as running, contextlib.aclosing(running.subscribe(None)) as batches:
        await anext(batches)
        running.end_subscriptions()
        assert [batch async for batch in batches] == []
        assert [batch async for batch in running.subscribe(None)][1:] == []
        assert repr(running).startswith("<Watch at ")


async def test_a_subscription_keeps_the_order_it_was_given() -> None:
    subscription = Subscription()
    for number in range(3):
        subscription.offer(Entry(number, "plan", b"{}"))
    taken = await subscription.take(0)
    assert taken is not None
    assert [entry.id for entry in taken] == [0, 1, 2]
    assert await subscription.take(0) == []
    subscription.end()
    assert await subscription.take(0) is None


async def test_replicas_wake_one_another(postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "POLL_SECONDS", 3600.0)  # a notification, or nothing in the time of this test
    keys = {"SALLYPORT_MASTER_KEY_FILE": str(tmp_path / "one" / "master.keys")}
    async with (
        replica(settings(tmp_path / "one", postgres_url)) as one,
        replica(settings(tmp_path / "two", postgres_url, **keys)) as two,
    ):
        await _listening(postgres_url, 2)
        async with two.watch() as reader:
            assert (await reader.next()).kind == "snapshot"
            await one.prepare()
            kinds = [(await reader.next()).kind for _ in range(2)]
            assert kinds == ["invalidation", "plan"]
        # Each knows the other's keys and data.
        await two.ask("GET", f"/v1/sandboxes/{SANDBOX}")
        token = token_file(one.config.data_dir, "gateway").read_text().strip()
        async with client_of(two.plane.port, token) as client:
            assert (await client.get("/internal/gateways")).status_code == 200


async def test_listening_again_after_the_connection_was_lost(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "LISTEN_AGAIN_SECONDS", 0.01)
    async with replica(settings(tmp_path, postgres_url)) as api:
        await _listening(postgres_url, 1)
        killed = await _listeners(postgres_url, kill=True)
        await until_async(lambda: _listeners(postgres_url), lambda found: bool(found) and found != killed)
        monkeypatch.setattr(watch, "POLL_SECONDS", 3600.0)
        async with api.watch() as reader:
            await reader.next()
            await api.prepare()
            assert (await reader.next("plan")).data["revision"] == 1


async def test_a_killed_replica_loses_nothing(postgres_url: str, tmp_path: Path) -> None:
    """kill -9 in the middle of a stream; the reader goes on at another replica with its last id."""
    keys = {"SALLYPORT_MASTER_KEY_FILE": str(tmp_path / "one" / "master.keys")}
    async with replica(settings(tmp_path / "one", postgres_url)) as one:
        await one.prepare(plan=False)
        process = _spawn(tmp_path / "two", postgres_url, keys)
        try:
            port = await asyncio.to_thread(_port_of, process)
            seen: list[Event] = []
            token = token_file(one.config.data_dir, "gateway").read_text().strip()
            async with client_of(port, token) as client:
                with contextlib.suppress(Exception):
                    async with client.stream("GET", "/internal/plans/watch", timeout=None) as response:
                        reader = WatchReader(response)
                        await reader.next("snapshot")
                        await _plans(one, range(1, 4))
                        seen += [await reader.next("plan") for _ in range(3)]
                        process.send_signal(signal.SIGKILL)
                        await reader.end()
            assert len(seen) == 3
            await _plans(one, range(4, 6))
            async with one.watch(seen[-1].id) as reader:
                seen += [await reader.next() for _ in range(2)]
            assert [each.data["revision"] for each in seen] == [1, 2, 3, 4, 5]
        finally:
            process.kill()
            process.wait()
            if process.stderr is not None:
                process.stderr.close()


async def _plans(api: Replica, revisions: range) -> None:
    for revision in revisions:
        await api.ask("POST", f"/v1/sandboxes/{SANDBOX}/plans", content=sealed_plan(revision), status=201)


def _spawn(folder: Path, url: str, variables: dict[str, str]) -> "subprocess.Popen[bytes]":
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "SALLYPORT_DATABASE_URL": url, **variables}
    command = [sys.executable, "-P", "-m", "sallyport_cli.main", "control-plane", "serve", "--data-dir", str(folder)]
    folder.mkdir()
    return subprocess.Popen([*command, "--listen", "127.0.0.1:0"], env=environment, cwd=folder, stderr=subprocess.PIPE)


def _port_of(process: "subprocess.Popen[bytes]") -> int:
    assert process.stderr is not None
    for line in process.stderr:
        if b'"ready"' in line:
            return int(json.loads(line)["api"].rpartition(":")[2])
    raise AssertionError("the replica did not start")


async def until_async(ask: Any, holds: Any) -> None:  # noqa: ANN401  two functions
    async with asyncio.timeout(10):
        while not holds(await ask()):  # noqa: ASYNC110  there is no event to wait for
            await asyncio.sleep(0.01)


async def _listening(url: str, count: int) -> None:
    await until_async(lambda: _listeners(url), lambda found: len(found) == count)


async def _listeners(url: str, *, kill: bool = False) -> list[int]:
    action = "pg_terminate_backend(pid)" if kill else "true"
    query = (
        f"SELECT pid, {action} FROM pg_stat_activity "
        "WHERE datname = current_database() AND query = 'LISTEN sallyport_events'"
    )
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        cursor = await connection.execute(query.encode())
        return sorted(row[0] for row in await cursor.fetchall())
