"""Transactions, the order of events, and a database that is away."""

import asyncio
import shutil
from pathlib import Path

import psycopg
import pytest

from control_plane.foundation import Foundation
from control_plane.store import database as database_module
from control_plane.store import events
from control_plane.store.database import AlreadyExists, Database, DatabaseConfigError, DatabaseUnavailable
from control_plane.store.models import DataKey, Profile
from tests.support.control_plane import NOW
from tests.support.postgres import PostgresServer


def profile(name: str = "sbp_one") -> Profile:
    return Profile(id=name, organization_id="org_one", display_name=None, created_at=1)


async def waiting_for_the_event_lock(url: str) -> int:
    query = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        row = await (await connection.execute(query)).fetchone()
    assert row is not None
    return int(row[0])


async def event_ids(database: Database) -> list[int]:
    async with database.read() as tx:
        return [event.id for event in await events.events_after(tx, 0, 1_000)]


async def test_what_is_written_is_there_after_the_block_only(base: Foundation) -> None:
    async with base.database.write() as tx:
        await tx.add(profile())
        async with base.database.read() as other:
            assert await other.get(Profile, "sbp_one") is None
    async with base.database.read() as tx:
        assert await tx.get(Profile, "sbp_one") is not None


async def test_a_block_that_fails_leaves_nothing(base: Foundation) -> None:
    woken = []
    base.database.subscribe(lambda: woken.append(1))

    async def fail() -> None:
        async with base.database.write() as tx:
            await tx.add(profile())
            tx.emit("plan", {}, NOW)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    async with base.database.read() as tx:
        assert await tx.get(Profile, "sbp_one") is None
    assert await event_ids(base.database) == []
    assert woken == []


async def test_a_key_that_is_taken_is_told_as_such(base: Foundation) -> None:
    async with base.database.write() as tx:
        await tx.add(profile())
    with pytest.raises(AlreadyExists):
        async with base.database.write() as tx:
            await tx.add(profile())


async def test_of_two_first_writers_one_is_taken(base: Foundation) -> None:
    async def write(number: int) -> bytes:
        async with base.database.write() as tx:
            values = {"organization_id": "org_one", "version": 1, "master_version": 1, "wrapped": b"%d" % number}
            await tx.add_unless_there(DataKey, **values)
            found = await tx.get(DataKey, ("org_one", 1))
            assert found is not None
            return found.wrapped

    async with asyncio.TaskGroup() as group:
        written = [group.create_task(write(number)) for number in range(5)]
    assert len({each.result() for each in written}) == 1


async def test_an_event_waits_for_the_commit_of_the_one_before(postgres_url: str) -> None:
    """The lower id is never the later one to be seen: PostgreSQL's sequences alone do not promise that."""
    database = Database.open(postgres_url)
    committed: list[str] = []

    async def later() -> None:
        async with database.write() as tx:
            tx.emit("plan", {"who": "later"}, NOW)
        committed.append("later")

    async with asyncio.TaskGroup() as group, database.write() as tx:
        tx.emit("plan", {"who": "first"}, NOW)
        await tx.write_events()
        tx.events.clear()
        task = group.create_task(later())
        async with asyncio.timeout(10):
            while not await waiting_for_the_event_lock(postgres_url):  # noqa: ASYNC110  no event tells
                await asyncio.sleep(0.01)
        assert not task.done()
        assert await event_ids(database) == []
        committed.append("first")
    assert committed == ["first", "later"]
    async with database.read() as tx:
        found = await events.events_after(tx, 0, 10)
    assert ['"first"' in found[0].body, '"later"' in found[1].body] == [True, True]
    await database.close()


async def test_a_reader_by_id_misses_nothing_of_many_writers(base: Foundation) -> None:
    """Writers whose transactions overlap in every way, some of which fail, and a reader that never looks back."""
    seen: list[int] = []
    done = asyncio.Event()

    async def write(number: int) -> None:
        try:
            async with base.database.write() as tx:
                await tx.add(profile(f"sbp_{number}"))
                await asyncio.sleep(number % 5 * 0.002)
                tx.emit("plan", {"number": number}, NOW)
                tx.emit("plan", {"number": number}, NOW)
                if number % 7 == 0:
                    raise ZeroDivisionError
        except ZeroDivisionError:
            pass

    async def read() -> None:
        while True:
            ended = done.is_set()
            async with base.database.read() as tx:
                seen.extend(event.id for event in await events.events_after(tx, seen[-1] if seen else 0, 3))
            if ended and seen == await event_ids(base.database):
                return

    async with asyncio.TaskGroup() as group:
        reading = group.create_task(read())
        async with asyncio.TaskGroup() as writers:
            for number in range(40):
                writers.create_task(write(number))
        done.set()
        async with asyncio.timeout(10):
            await reading
    assert len(seen) == 2 * (40 - 6)
    assert seen == sorted(set(seen))


async def test_ids_of_events_are_not_used_again(base: Foundation) -> None:
    for _ in range(2):
        async with base.database.write() as tx:
            tx.emit("plan", {}, NOW)
    [first, last] = await event_ids(base.database)
    async with base.database.write() as tx:
        await events.forget_events(tx, keep=0, before=NOW + 1)
    async with base.database.write() as tx:
        tx.emit("plan", {}, NOW)
    assert await event_ids(base.database) == [last + 1]
    assert first < last


async def test_a_database_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    for url in (f"postgresql://nobody@/none?host={tmp_path}", f"sqlite:///{tmp_path}/none/none.db"):
        database = Database.open(url)
        with pytest.raises(DatabaseUnavailable):
            await database.ping()
        with pytest.raises(DatabaseUnavailable):
            async with database.write() as tx:
                await tx.add(profile())
        await database.close()


async def test_it_recovers_when_the_database_does(postgres: PostgresServer, postgres_url: str) -> None:
    database = Database.open(postgres_url)
    await database.ping()
    name = database.engine.url.database
    assert name is not None
    postgres.run("postgres", f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
    postgres.run("postgres", f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
    with pytest.raises(DatabaseUnavailable):
        await database.ping()
    with pytest.raises(DatabaseUnavailable):
        async for _ in database.notifications():
            pass
    postgres.run("postgres", f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
    await database.ping()
    await database.close()


async def test_a_writer_that_waits_too_long_is_told(
    migrated_sqlite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "BUSY_SECONDS", 0.05)
    path = shutil.copy(migrated_sqlite, tmp_path / "busy.db")
    one, two = Database.open(f"sqlite:///{path}"), Database.open(f"sqlite:///{path}")
    async with one.write() as tx:
        await tx.add(profile())
        with pytest.raises(DatabaseUnavailable):
            async with two.write():
                pass
        async with two.read() as reading:  # readers are not held up
            assert await reading.get(Profile, "sbp_one") is None
    async with two.write() as tx:
        assert await tx.get(Profile, "sbp_one") is not None
    await one.close()
    await two.close()


@pytest.mark.parametrize("url", ["nonsense", "mysql://u@h/d", "sqlite://", "sqlite:///:memory:"])
def test_urls_that_cannot_be_used(url: str) -> None:
    with pytest.raises(DatabaseConfigError):
        Database.open(url)


def test_no_password_in_a_repr_or_an_error() -> None:
    database = Database.open("postgresql://user:canary-password@localhost/name")
    assert "canary" not in repr(database)
    with pytest.raises(DatabaseConfigError) as caught:
        Database.open("mysql://user:canary-password@localhost/name")
    assert "canary" not in str(caught.value)
