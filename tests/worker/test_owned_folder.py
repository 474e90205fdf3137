"""A folder that one worker uses at a time."""

from pathlib import Path

import pytest

from worker.owned_folder import StateTaken, own_folder


def test_one_worker_at_a_time_with_a_mark_that_stays(tmp_path: Path) -> None:
    first = own_folder(tmp_path / "state")
    with pytest.raises(StateTaken, match="another worker uses"):
        own_folder(tmp_path / "state")
    first.close()
    second = own_folder(tmp_path / "state")
    assert second.mark == first.mark
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700
    second.close()


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StateTaken, match="cannot be used"):
        own_folder(tmp_path / "file" / "state")
