"""Which sandboxes there shall be, on disk."""

from pathlib import Path

from tests.support.sandbox_stage import definition
from worker.sandboxes.store import Declared, DeclaredSandboxes


def test_what_is_saved_is_there_after_a_restart(tmp_path: Path) -> None:
    store = DeclaredSandboxes(tmp_path / "declared")
    assert store.load() == ({}, [])
    one = Declared(definition=definition("/bin/true", environment={"A": "b"}), desired="running")
    store.save(one)
    store.save(one.meant_to("stopped", 3))
    again = DeclaredSandboxes(tmp_path / "declared")
    assert again.load() == ({"sbx_one": one.meant_to("stopped", 3)}, [])
    assert (tmp_path / "declared" / "sbx_one.json").stat().st_mode & 0o777 == 0o600
    again.remove("sbx_one")
    again.remove("sbx_one")
    assert again.load() == ({}, [])


def test_what_cannot_be_read_is_named_and_left(tmp_path: Path) -> None:
    (tmp_path / "broken.json").write_text("{")
    assert DeclaredSandboxes(tmp_path).load() == ({}, ["broken"])
    assert (tmp_path / "broken.json").exists()
