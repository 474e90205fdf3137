"""`postgresql-connector`: query, describe and change one PostgreSQL database, by MCP on standard input and output.

The database is POSTGRESQL_URL, as libpq reads it. A program of its own, which the worker starts.
"""

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import psycopg
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel.server import Server
from mcp.server.stdio import stdio_server
from mcp_types import (
    CallToolRequestParams,
    CallToolResult,
    ListToolsResult,
    PaginatedRequestParams,
    TextContent,
    Tool,
    ToolAnnotations,
)
from psycopg.rows import dict_row

from worker.integrations.servers.config import POSTGRESQL_URL, postgresql_url

# A model reads hundreds of rows at most, and an answer of MiB fills its context.
MOST_ROWS: Final = 1000
MOST_ANSWER_BYTES: Final = 1024 * 1024
STATEMENT_SECONDS: Final = 30
CONNECT_SECONDS: Final = 10
# One client asks; more at once would only take the database's connections away from others.
MOST_CONNECTIONS: Final = 4

_SQL: Final = {"type": "string", "description": "One SQL statement"}
_PARAMETERS: Final = {"type": "array", "description": "Values for $1, $2 and so on", "items": {}}
_SCHEMA: Final = {"type": "string", "description": "The schema; public unless given"}

TOOLS: Final = (
    Tool(
        name="query",
        description="Execute a read-only SQL query",
        input_schema={
            "type": "object",
            "properties": {"sql": _SQL, "parameters": _PARAMETERS},
            "required": ["sql"],
            "additionalProperties": False,
        },
        annotations=ToolAnnotations(read_only_hint=True, open_world_hint=False),
    ),
    Tool(
        name="list_tables",
        description="List all tables",
        input_schema={
            "type": "object",
            "properties": {"schema": {"type": "string", "description": "Only this schema; all of them unless given"}},
            "additionalProperties": False,
        },
        annotations=ToolAnnotations(read_only_hint=True, open_world_hint=False),
    ),
    Tool(
        name="describe_table",
        description="Show columns and types",
        input_schema={
            "type": "object",
            "properties": {"table": {"type": "string", "description": "The table's name"}, "schema": _SCHEMA},
            "required": ["table"],
            "additionalProperties": False,
        },
        annotations=ToolAnnotations(read_only_hint=True, open_world_hint=False),
    ),
    Tool(
        name="execute",
        description="Execute a write SQL statement",
        input_schema={
            "type": "object",
            "properties": {"sql": _SQL, "parameters": _PARAMETERS},
            "required": ["sql"],
            "additionalProperties": False,
        },
        annotations=ToolAnnotations(read_only_hint=False, destructive_hint=True, open_world_hint=False),
    ),
)

_TABLES: Final = """
SELECT table_schema AS schema, table_name AS name, table_type AS type
FROM information_schema.tables
WHERE table_schema NOT IN ('pg_catalog', 'information_schema') AND ($1::text IS NULL OR table_schema = $1)
ORDER BY table_schema, table_name
"""
_COLUMNS: Final = """
SELECT column_name AS name, data_type AS type, is_nullable = 'YES' AS nullable, column_default AS "default"
FROM information_schema.columns
WHERE table_schema = $1 AND table_name = $2
ORDER BY ordinal_position
"""


class Refused(Exception):
    """A call that is not made or failed; str() is for the model."""


class Database:
    """The database. Each call has a connection of its own, so that nothing of one is left for the next."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._room = asyncio.Semaphore(MOST_CONNECTIONS)

    async def read(self, sql: str, parameters: Sequence[object] = ()) -> dict[str, object]:
        """Run one statement in a read-only transaction, which is rolled back."""
        async with self._connection() as connection:
            # Of the session, and not of one transaction: no statement can begin another that may write.
            await connection.set_read_only(True)
            try:
                return await _rows(connection, sql, parameters)
            finally:
                await connection.rollback()

    async def write(self, sql: str, parameters: Sequence[object]) -> dict[str, object]:
        """Run one statement and commit it."""
        async with self._connection() as connection:
            done = await _rows(connection, sql, parameters)
            await connection.commit()
            return done

    @contextlib.asynccontextmanager
    async def _connection(self) -> AsyncIterator["psycopg.AsyncConnection[dict[str, object]]"]:
        async with self._room:
            connection = await psycopg.AsyncConnection[dict[str, object]].connect(
                self._url,
                row_factory=dict_row,
                connect_timeout=CONNECT_SECONDS,
                application_name="sallyport postgresql-connector",
                options=f"-c statement_timeout={STATEMENT_SECONDS}s -c idle_in_transaction_session_timeout=60s",
            )
            try:
                yield connection
            finally:
                await connection.close()


async def _rows(
    connection: "psycopg.AsyncConnection[dict[str, object]]", sql: str, parameters: Sequence[object]
) -> dict[str, object]:
    # A raw cursor sends the statement as it is, by the extended protocol: one statement, and `%` means nothing.
    async with psycopg.AsyncRawCursor(connection, row_factory=dict_row) as cursor:
        await cursor.execute(sql.encode(), parameters, prepare=True)
        if cursor.description is None:
            return {"rowCount": max(cursor.rowcount, 0)}
        rows = await cursor.fetchmany(MOST_ROWS)
        return {"rows": rows, "rowCount": cursor.rowcount, "truncated": cursor.rowcount > len(rows)}


async def call(database: Database, name: str, arguments: Mapping[str, object]) -> dict[str, object]:
    """Carry out one call; raises Refused, psycopg.Error."""
    match name:
        case "query":
            return await database.read(_text(arguments, "sql"), _list(arguments, "parameters"))
        case "execute":
            return await database.write(_text(arguments, "sql"), _list(arguments, "parameters"))
        case "list_tables":
            schema = arguments.get("schema")
            return await database.read(_TABLES, [None if schema is None else str(schema)])
        case "describe_table":
            table = _text(arguments, "table")
            found = await database.read(_COLUMNS, [str(arguments.get("schema", "public")), table])
            if not found["rows"]:
                raise Refused(f"there is no table {table}")
            return found
        case _:
            raise Refused(f"there is no tool {name}")


def build_server(database: Database) -> Server[Any]:
    """Return the MCP server."""

    async def list_tools(_: ServerRequestContext[Any], __: PaginatedRequestParams | None) -> ListToolsResult:
        return ListToolsResult(tools=list(TOOLS))

    async def call_tool(_: ServerRequestContext[Any], params: CallToolRequestParams) -> CallToolResult:
        try:
            document = await call(database, params.name, params.arguments or {})
            text = json.dumps(document, default=_plain, ensure_ascii=False)
            if len(text) > MOST_ANSWER_BYTES:
                raise Refused(f"the answer is longer than {MOST_ANSWER_BYTES} bytes; ask for less")
        except (Refused, psycopg.Error) as error:
            # A connection's error may quote the URL it was given; a statement's is the database's own words.
            is_ours = isinstance(error, psycopg.OperationalError) and error.sqlstate is None
            reason = "the database does not answer" if is_ours else str(error)
            return CallToolResult(content=[TextContent(text=reason)], is_error=True)
        return CallToolResult(content=[TextContent(text=text)])

    return Server("postgresql-connector", version="1", on_list_tools=list_tools, on_call_tool=call_tool)


def _text(arguments: Mapping[str, object], name: str) -> str:
    value = arguments.get(name)
    if not isinstance(value, str) or not value.strip():
        raise Refused(f"{name} has to be a text")
    return value


def _list(arguments: Mapping[str, object], name: str) -> list[object]:
    value = arguments.get(name, [])
    if not isinstance(value, list):
        raise Refused(f"{name} has to be a list")
    return value


def _plain(value: object) -> object:
    """Write as JSON what PostgreSQL has and JSON has not."""
    match value:
        case Decimal() | UUID() | timedelta():
            return str(value)
        case datetime() | date() | time():
            return value.isoformat()
        case bytes() | bytearray() | memoryview():
            return bytes(value).hex()
        case _:
            return str(value)


async def serve(url: str) -> None:
    """Serve until standard input ends."""
    server = build_server(Database(url))
    async with stdio_server() as (read, write):
        await server.run(read, write, server.create_initialization_options())


def main() -> int:
    """Serve the database that the environment names."""
    url = postgresql_url()
    if url is None:
        sys.stderr.write(f"{POSTGRESQL_URL} is not set\n")
        return 2
    asyncio.run(serve(url))
    return 0


if __name__ == "__main__":
    sys.exit(main())
