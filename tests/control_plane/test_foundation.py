"""What a control plane stands on: made where it is missing, and refused in words where it does not fit."""

from pathlib import Path

import pytest

from control_plane.foundation import StartError, foundation
from control_plane.vault.master_keys import make_master_keys
from tests.support.control_plane import NOW, settings


async def test_master_keys_are_made_only_where_none_are_named(tmp_path: Path) -> None:
    named = settings(tmp_path, None, SALLYPORT_MASTER_KEY_FILE=str(tmp_path / "keys"))
    with pytest.raises(StartError, match="keygen"):
        async with foundation(named, now=NOW):
            pass
    make_master_keys(tmp_path / "keys")
    async with foundation(named, now=NOW) as base:
        assert len(await base.ring.published(NOW)) == 1
    assert not (tmp_path / "master.keys").exists()
