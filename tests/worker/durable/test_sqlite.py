"""Which SQLite is taken, and what is said where none is new enough."""

import pytest

from worker.durable import sqlite


def test_the_newest_one_is_taken_and_it_is_new_enough() -> None:
    module = sqlite.usable_sqlite()
    assert module.sqlite_version_info >= sqlite.LEAST
    connection = module.connect(":memory:")
    ((seconds,),) = connection.execute("SELECT unixepoch('subsec')").fetchall()
    connection.close()
    assert isinstance(seconds, float)


def test_one_that_is_too_old_is_named_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "LEAST", (99, 1, 0))
    with pytest.raises(
        sqlite.SqliteTooOld, match=r"^SQLite here is 3\.\d+\.\d+, and .* needs 99\.1 or later$"
    ) as error:
        sqlite.usable_sqlite()
    assert "pysqlite3" in error.value.hint
