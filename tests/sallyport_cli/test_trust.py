"""What goes wrong with trust files is told as a failure; what is in them: tests/sallyport/net/test_trust_files.py."""

from pathlib import Path

import pytest

from sallyport_cli.failure import Failure
from sallyport_cli.trust import write_trust


def test_a_folder_that_cannot_be_made_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Failure, match="file"):
        write_trust(tmp_path / "file" / "trust", b"", {})
