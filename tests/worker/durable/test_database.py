"""The worker's database by its URL, and how each connection to SQLite is prepared."""

from pathlib import Path

import pytest
from sqlalchemy import text

from worker.durable.database import DatabaseConfigError, open_engine


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("nothing", "it is not a URL"),
        ("mysql://root:s3cret@host/db", "mysql is not supported"),
        ("sqlite://", "a database in memory does not outlive the worker"),
        ("sqlite:///:memory:", "a database in memory does not outlive the worker"),
    ],
)
def test_a_url_that_cannot_be_used_is_told_without_its_password(url: str, why: str) -> None:
    with pytest.raises(DatabaseConfigError, match=why) as error:
        open_engine(url)
    assert "s3cret" not in f"{error.value.message} {error.value.hint}"


def test_a_postgresql_url_is_taken_by_either_name() -> None:
    for scheme in ("postgresql", "postgres", "postgresql+psycopg2"):
        assert open_engine(f"{scheme}://u@host/db").url.drivername == "postgresql+psycopg"


def test_what_is_committed_to_sqlite_survives_a_power_loss(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path / 'worker.db'}")
    with engine.connect() as connection:
        pragmas = {
            name: connection.execute(text(f"PRAGMA {name}")).scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        }
    engine.dispose()
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}
