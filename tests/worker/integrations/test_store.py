"""What is kept survives; what is half made does not; nobody else may read it."""

from pathlib import Path

import pytest

from worker.integrations.manifest import read_manifest
from worker.integrations.store import Stored, open_store, with_desired
from worker.owned_folder import StateTaken

MANIFEST = read_manifest({"id": "x", "transport": {"type": "stdio", "command": "c"}})


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    store = open_store(tmp_path / "state")
    store.prepare("x")
    stored = with_desired(Stored(manifest=MANIFEST, program="/p", tools=({"name": "t"},)), "running")
    store.save(stored)
    assert store.load() == [stored]
    assert (tmp_path / "state" / "x" / "integration.json").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700
    mark = store.mark
    store.close()
    again = open_store(tmp_path / "state")
    assert (again.mark, again.load()) == (mark, [stored])
    again.remove("x")
    assert again.load() == []
    again.close()


def test_half_an_installation_is_taken_away_and_a_broken_file_left_alone(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    (store.prepare("half") / "env").mkdir()
    (store.prepare("broken") / "integration.json").write_text("{")
    (tmp_path / ".trust").mkdir()
    assert store.load() == []
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == [".trust", "broken"]
    store.close()


def test_one_worker_at_a_time(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    with pytest.raises(StateTaken, match="another worker uses"):
        open_store(tmp_path)
    store.close()
    open_store(tmp_path).close()


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StateTaken, match="cannot be used"):
        open_store(tmp_path / "file" / "state")
