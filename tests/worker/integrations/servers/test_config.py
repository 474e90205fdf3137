"""What a server of our own reads of its environment."""

import pytest

from worker.integrations.servers.config import postgresql_url


def test_the_databases_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("POSTGRESQL_URL", raising=False)
    assert postgresql_url() is None
    monkeypatch.setenv("POSTGRESQL_URL", "")
    assert postgresql_url() is None
    monkeypatch.setenv("POSTGRESQL_URL", "postgresql:///x")
    assert postgresql_url() == "postgresql:///x"
