"""Bring a database to the newest schema. Every replica may try at its start: one does, the others wait."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from control_plane.store.database import START_LOCK, Database, DatabaseUnavailable

# A migration of a large table may take minutes; a replica that waits for one must not give up.
MIGRATION_SECONDS = 600


class SchemaError(Exception):
    """The database's schema is not one this program knows; the text says what to do."""


async def migrate(database: Database) -> tuple[str | None, str]:
    """Run the missing migrations; return (revision before, revision now). Raises DatabaseUnavailable, SchemaError."""
    try:
        async with database.engine.begin() as connection:
            if database.is_postgresql:
                for name in ("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout"):
                    await connection.execute(text(f"SET LOCAL {name} = '{MIGRATION_SECONDS}s'"))
                await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": START_LOCK})
            return await connection.run_sync(_upgrade)
    except SchemaError:
        raise
    except Exception as error:
        if database.says_unavailable(error):
            raise DatabaseUnavailable from error
        raise


def head() -> str:
    """Return the newest revision this program knows."""
    revision = ScriptDirectory.from_config(_config(None)).get_current_head()
    assert revision is not None, "there is a first migration"
    return revision


def _upgrade(connection: Connection) -> tuple[str | None, str]:
    config = _config(connection)
    scripts = ScriptDirectory.from_config(config)
    before = MigrationContext.configure(connection).get_current_revision()
    if before is not None and before not in {script.revision for script in scripts.walk_revisions()}:
        raise SchemaError(f"the schema is at {before}, which is newer than this program; run a newer sallyport")
    command.upgrade(config, "head")
    return before, head()


def _config(connection: Connection | None) -> Config:
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    config.set_main_option("path_separator", "os")
    return config
