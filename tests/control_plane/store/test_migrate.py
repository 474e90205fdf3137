"""Migrations from empty, their agreement with the models, replicas that start together."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from control_plane import sandboxes
from control_plane.plans import PlanDesk
from control_plane.store import events
from control_plane.store import migrate as module
from control_plane.store.database import Database, DatabaseUnavailable
from control_plane.store.migrate import SchemaError, head, migrate
from control_plane.store.models import Model
from sallyport.plan.codec import seal
from tests.support.control_plane import NOW, ORGANIZATION
from tests.support.plan_documents import mcp_servers, plan_document
from tests.support.postgres import PostgresServer


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'empty.db'}"
    postgres = request.getfixturevalue("postgres")
    assert isinstance(postgres, PostgresServer)
    return postgres.url(postgres.create())


def differences(connection: Connection) -> list[Any]:
    context = MigrationContext.configure(connection, opts={"compare_type": True})
    return list(compare_metadata(context, Model.metadata))


async def test_from_empty_the_tables_are_those_of_the_models(empty_url: str) -> None:
    database = Database.open(empty_url)
    assert await migrate(database) == (None, head())
    assert await migrate(database) == (head(), head())
    async with database.engine.connect() as connection:
        assert await connection.run_sync(differences) == []
        await connection.execute(text("DROP INDEX ix_sandboxes_organization_id_id"))
        assert len(await connection.run_sync(differences)) == 1  # a drift would be seen
        await connection.rollback()
    await database.close()


async def test_replicas_that_start_together_migrate_once(empty_url: str) -> None:
    replicas = [Database.open(empty_url) for _ in range(3)]
    async with asyncio.TaskGroup() as group:
        runs = [group.create_task(migrate(each)) for each in replicas]
    assert sorted(str(run.result()[0]) for run in runs) == [head(), head(), "None"]
    for each in replicas:
        await each.close()


async def test_plans_in_force_have_their_servers_noted_whenever_they_were_put_there(empty_url: str) -> None:
    """As a program left them that noted none, and one that noted only those with a URL."""
    database = Database.open(empty_url)
    await migrate(database)
    servers = mcp_servers()
    for sandbox_id in ("sbx_before", "sbx_half", "sbx_gone", "sbx_empty"):
        await sandboxes.create_sandbox(
            database, ORGANIZATION, sandbox_id=sandbox_id, profile_id=None, version=None, now=NOW
        )
    for sandbox_id in ("sbx_before", "sbx_half", "sbx_gone"):
        older = plan_document(sandboxId=sandbox_id, mcpServers=[{**servers[0], "serverId": "older"}])
        await PlanDesk(database).put(sandbox_id, seal(older), NOW)
        newer = plan_document(sandboxId=sandbox_id, revision=2, mcpServers=servers)
        await PlanDesk(database).put(sandbox_id, seal(newer), NOW)
    await sandboxes.delete_sandbox(database, "sbx_gone", NOW)
    async with database.engine.begin() as connection:
        await connection.execute(text("DELETE FROM plan_servers WHERE sandbox_id <> 'sbx_half' OR server_id = 'shell'"))
        await connection.execute(text("UPDATE alembic_version SET version_num = '0005'"))
    assert await migrate(database) == ("0005", head())
    async with database.engine.connect() as connection:
        found = await connection.execute(text("SELECT sandbox_id, server_id FROM plan_servers ORDER BY 1, 2"))
        noted = [tuple(row) for row in found]
    assert noted == [(each, server) for each in ("sbx_before", "sbx_half") for server in ("files", "shell")]
    await database.close()


async def test_revocations_of_before_are_of_all_that_bear_the_id(empty_url: str) -> None:
    database = Database.open(empty_url)
    await migrate(database)
    async with database.write() as tx:
        for until, organization_id in ((5, None), (9, "org_one")):
            await events.put_revocation(tx, "binding", "bnd_one", until, organization_id)
    async with database.engine.begin() as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = '0006'"))
    assert await migrate(database) == ("0006", head())
    async with database.write() as tx:
        [row] = await events.revocations(tx, 0)
    assert (row.kind, row.id, row.organization_id, row.until) == ("binding", "bnd_one", "", 9)
    async with database.engine.begin() as connection:  # as a replica of the version before writes
        await connection.execute(text("INSERT INTO revocations (kind, id, until) VALUES ('binding', 'bnd_two', 9)"))
    await database.close()


async def test_a_newer_schema_is_not_touched(empty_url: str) -> None:
    database = Database.open(empty_url)
    await migrate(database)
    async with database.engine.begin() as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(SchemaError, match="newer than this program"):
        await migrate(database)
    await database.close()


async def test_without_a_database(tmp_path: Path) -> None:
    database = Database.open(f"postgresql://nobody@/none?host={tmp_path}")
    with pytest.raises(DatabaseUnavailable):
        await migrate(database)
    await database.close()


def test_there_is_one_head_and_each_step_can_be_taken_back() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(module.__file__).with_name("migrations")))
    config.set_main_option("path_separator", "os")
    scripts = ScriptDirectory.from_config(config)
    assert scripts.get_heads() == [head()]
    assert all(hasattr(script.module, "downgrade") for script in scripts.walk_revisions())
