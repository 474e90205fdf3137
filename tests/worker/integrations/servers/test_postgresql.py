"""The connector on a real PostgreSQL: as a program under a worker, and its calls one by one."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.support.integration_stage import integration_stage
from tests.support.postgres import PostgresServer, postgres_server
from worker.integrations.integration import Integration
from worker.integrations.servers.postgresql import TOOLS, Database, Refused, call, main
from worker.integrations.sources import InstallRequest, manifest_of

TABLE = "CREATE TABLE city (id int PRIMARY KEY, name text NOT NULL, area numeric, founded date DEFAULT '1291-08-01')"


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with postgres_server() as server:
        yield server


@pytest.fixture
def name(server: PostgresServer) -> str:
    name = server.create()
    server.run(name, TABLE)
    server.run(name, "INSERT INTO city VALUES (1, 'Zürich', 87.88), (2, 'Bern', 51.6)")
    return name


@pytest.fixture
def database(server: PostgresServer, name: str) -> Database:
    return Database(server.url(name))


def count(server: PostgresServer, name: str) -> object:
    return server.run(name, "SELECT count(*) FROM city")[0][0]


async def query(database: Database, sql: str, *parameters: object) -> dict[str, object]:
    return await call(database, "query", {"sql": sql, "parameters": list(parameters)})


@pytest.mark.full
async def test_under_a_worker_it_is_what_the_contracts_say(server: PostgresServer, name: str, tmp_path: Path) -> None:
    async with integration_stage(tmp_path, {"POSTGRESQL_URL": server.url(name)}, TIMEOUTS_HANDSHAKE="30s") as stage:
        manifest = manifest_of(InstallRequest(source="postgresql-connector"))
        integration = await stage.integrations.install(manifest, lambda *_: None)
        await integration.start()
        assert [tool["name"] for tool in integration.stored.tools] == [
            "query",
            "list_tables",
            "describe_table",
            "execute",
        ]
        assert integration.to_document()["server_info"] == {"name": "postgresql-connector", "version": "1"}
        rows = (await ask(integration, "query", sql="SELECT name, area FROM city WHERE id = $1", parameters=[1]))[
            "rows"
        ]
        assert rows == [{"name": "Zürich", "area": "87.88"}]
        assert await ask(integration, "execute", sql="DELETE FROM city WHERE id = 2") == {"rowCount": 1}
        assert count(server, name) == 1
        answer = await integration.ask("tools/call", {"name": "query", "arguments": {"sql": "DELETE FROM city"}}, None)
        assert answer["isError"] is True
        assert "read-only transaction" in answer["content"][0]["text"]
        assert count(server, name) == 1


async def ask(integration: Integration, tool: str, **arguments: object) -> Any:  # noqa: ANN401  (each has its own shape)
    answer = await integration.ask("tools/call", {"name": tool, "arguments": arguments}, None)
    assert not answer.get("isError"), answer
    return json.loads(answer["content"][0]["text"])


async def test_what_is_there_is_described(database: Database) -> None:
    tables = await call(database, "list_tables", {})
    assert tables["rows"] == [{"schema": "public", "name": "city", "type": "BASE TABLE"}]
    assert (await call(database, "list_tables", {"schema": "other"}))["rows"] == []
    columns = (await call(database, "describe_table", {"table": "city"}))["rows"]
    assert isinstance(columns, list)
    assert [(column["name"], column["type"], column["nullable"]) for column in columns] == [
        ("id", "integer", False),
        ("name", "text", False),
        ("area", "numeric", True),
        ("founded", "date", True),
    ]
    with pytest.raises(Refused, match="there is no table nothing"):
        await call(database, "describe_table", {"table": "nothing"})


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM city",
        "WITH gone AS (DELETE FROM city RETURNING id) SELECT count(*) FROM gone",
        "COMMIT; DELETE FROM city",
        "ROLLBACK; DELETE FROM city; COMMIT",
        "SELECT set_config('transaction_read_only', 'off', false); DELETE FROM city",
        "SET TRANSACTION READ WRITE",
        "DO $$ BEGIN DELETE FROM city; END $$",
        "EXPLAIN ANALYZE DELETE FROM city",
        "CREATE TABLE more (id int)",
        "SELECT nextval('s')",
    ],
)
async def test_a_query_changes_nothing(server: PostgresServer, name: str, database: Database, sql: str) -> None:
    server.run(name, "CREATE SEQUENCE s")
    with contextlib.suppress(psycopg.Error):
        await query(database, sql)
    # And what was tried is of no use to the next.
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        await query(database, "DELETE FROM city")
    assert count(server, name) == 2
    assert server.run(name, "SELECT is_called FROM s") == [(False,)]


async def test_a_percent_sign_and_a_quotation_mark_mean_nothing_here(database: Database) -> None:
    found = await query(database, "SELECT name FROM city WHERE name LIKE 'B%' AND name <> $1", "O'Hara %s")
    assert found["rows"] == [{"name": "Bern"}]


async def test_long_answers_are_cut_and_said_to_be(database: Database) -> None:
    found = await query(database, "SELECT generate_series(1, 1500) AS n")
    rows = found["rows"]
    assert isinstance(rows, list)
    assert (len(rows), found["rowCount"], found["truncated"]) == (1000, 1500, True)


async def test_writing_is_one_statement_which_is_committed(
    server: PostgresServer, name: str, database: Database
) -> None:
    sql = "INSERT INTO city (id, name) VALUES ($1, $2) RETURNING id"
    assert (await call(database, "execute", {"sql": sql, "parameters": [3, "Basel"]}))["rows"] == [{"id": 3}]
    assert count(server, name) == 3
    with pytest.raises(psycopg.Error):
        await call(database, "execute", {"sql": "DELETE FROM city; DELETE FROM city"})
    assert count(server, name) == 3


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("query", {}),
        ("query", {"sql": 1}),
        ("query", {"sql": " "}),
        ("query", {"sql": "SELECT 1", "parameters": "x"}),
        ("describe_table", {}),
        ("drop", {}),
    ],
)
async def test_what_is_no_call(database: Database, tool: str, arguments: dict[str, object]) -> None:
    with pytest.raises(Refused):
        await call(database, tool, arguments)


def test_without_a_database_it_does_not_start(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("POSTGRESQL_URL", raising=False)
    assert main() == 2
    assert capsys.readouterr().err == "POSTGRESQL_URL is not set\n"


def test_what_each_may_do_is_said() -> None:
    hints = {tool.name: tool.annotations.read_only_hint for tool in TOOLS if tool.annotations is not None}
    assert hints == {"query": True, "list_tables": True, "describe_table": True, "execute": False}
