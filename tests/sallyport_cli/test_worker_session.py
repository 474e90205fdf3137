"""The worker that options name: an address, a token in a file, roots in a file."""

from pathlib import Path

import pytest

from sallyport_cli.failure import ExitStatus, Failure
from sallyport_cli.worker_session import open_worker


def test_a_worker_is_found_by_its_address_or_that_of_up(tmp_path: Path) -> None:
    named = open_worker(tmp_path, "http://127.0.0.1:4300/", None, None, timeout_seconds=1)
    assert named.url == "http://127.0.0.1:4300"
    (tmp_path / "addresses.json").write_text('{"worker": "http://127.0.0.1:4200"}')
    assert open_worker(tmp_path, None, None, None, timeout_seconds=1).url == "http://127.0.0.1:4200"


def test_what_names_no_worker_is_told(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="there is no") as missing:
        open_worker(tmp_path, None, None, None, timeout_seconds=1)
    assert (missing.value.status, "--worker" in missing.value.hint) == (ExitStatus.ENVIRONMENT, True)
    with pytest.raises(Failure, match="not an address"):
        open_worker(tmp_path, "worker:4200", None, None, timeout_seconds=1)
    (tmp_path / "token").write_text("t")
    with pytest.raises(Failure, match="cleartext off loopback"):
        open_worker(tmp_path, "http://10.0.0.1", tmp_path / "token", None, timeout_seconds=1)
    with pytest.raises(Failure, match="holds no certificates"):
        open_worker(tmp_path, "https://10.0.0.1", None, tmp_path / "token", timeout_seconds=1)
