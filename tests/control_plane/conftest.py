"""The same tests on SQLite and on PostgreSQL: `url` is an empty, migrated database of one or the other."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from control_plane.foundation import Foundation, foundation
from control_plane.store.database import Database
from control_plane.store.migrate import migrate
from control_plane.store.models import Model
from tests.support.authorization_server import AuthorizationServer, authorization_server
from tests.support.control_plane import NOW, Replica, replica, settings
from tests.support.oauth_stage import OAuthStage, oauth_stage
from tests.support.postgres import PostgresServer, postgres_server
from tests.support.subscriber import Subscriber, subscriber_server


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A server for this worker's tests."""
    with postgres_server() as server:
        yield server


@pytest.fixture(scope="session")
def migrated_postgres(postgres: PostgresServer) -> str:
    """The name of a migrated database, which the tests of this worker use one after the other."""
    name = postgres.create()
    asyncio.run(_migrate(postgres.url(name)))
    return name


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated database file, to be copied."""
    path = tmp_path_factory.mktemp("sqlite") / "template.db"
    asyncio.run(_migrate(f"sqlite:///{path}"))
    return path


@pytest.fixture
def postgres_url(postgres: PostgresServer, migrated_postgres: str) -> str:
    """A migrated PostgreSQL database with nothing in it. Emptying one takes a tenth of what copying one takes."""
    tables = ", ".join(Model.metadata.tables)
    postgres.run(migrated_postgres, f"TRUNCATE {tables} RESTART IDENTITY CASCADE")
    return postgres.url(migrated_postgres)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A migrated database of this test's own, of either kind."""
    if request.param == "postgresql":
        found = request.getfixturevalue("postgres_url")
        assert isinstance(found, str)
        return found
    path = tmp_path / "test.db"
    shutil.copy(request.getfixturevalue("migrated_sqlite"), path)
    return f"sqlite:///{path}"


@pytest.fixture
async def base(url: str, tmp_path: Path) -> AsyncIterator[Foundation]:
    """Database, vault and keys, at the time NOW."""
    async with foundation(settings(tmp_path / "data", url), now=NOW) as opened:
        yield opened


@pytest.fixture
async def api(url: str, tmp_path: Path) -> AsyncIterator[Replica]:
    """A running control plane."""
    async with replica(settings(tmp_path / "data", url)) as running:
        yield running


@pytest.fixture
def provider(tmp_path: Path) -> Iterator[AuthorizationServer]:
    """A provider of its own thread."""
    with authorization_server(tmp_path / "provider") as server:
        yield server


@pytest.fixture(scope="session")
def subscriber_of_all(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subscriber]:
    """One that runs as long as the tests do."""
    with subscriber_server(tmp_path_factory.mktemp("subscriber")) as server:
        yield server


@pytest.fixture
def subscriber(subscriber_of_all: Subscriber) -> Subscriber:
    """The subscriber, who has forgotten everything."""
    subscriber_of_all.told.clear()
    subscriber_of_all.answers.clear()
    subscriber_of_all.always.clear()
    return subscriber_of_all


@pytest.fixture
async def stage(base: Foundation, provider: AuthorizationServer) -> AsyncIterator[OAuthStage]:
    """A provider, and what connects it."""
    async with oauth_stage(base, provider) as staged:
        yield staged


async def _migrate(url: str) -> None:
    database = Database.open(url)
    await migrate(database)
    await database.close()
