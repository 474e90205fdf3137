"""Where `up` keeps things, and how others find them."""

import json
from pathlib import Path

import pytest

from sallyport_cli.failure import ExitStatus, Failure
from sallyport_cli.up_directory import UpDirectory


def test_everything_lies_below_one_folder(tmp_path: Path) -> None:
    directory = UpDirectory(tmp_path)
    paths = (
        *(directory.control_plane, directory.gateway, directory.sandbox, directory.sandbox_token),
        *(directory.addresses, directory.operator_token, directory.service_token("gateway")),
    )
    assert all(path.is_relative_to(tmp_path) for path in paths)
    assert len(set(paths)) == len(paths)


def test_the_control_plane_is_found(tmp_path: Path) -> None:
    directory = UpDirectory(tmp_path)
    directory.addresses.write_text(json.dumps({"controlPlane": "http://127.0.0.1:7500"}))
    assert directory.control_url() == "http://127.0.0.1:7500"


def test_nothing_there_says_what_to_start(tmp_path: Path) -> None:
    with pytest.raises(Failure) as caught:
        UpDirectory(tmp_path).control_url()
    assert caught.value.status is ExitStatus.ENVIRONMENT
    assert "sallyport up" in caught.value.hint


@pytest.mark.parametrize("content", ["", "[]", "{}", "nonsense"])
def test_a_file_that_cannot_be_read_is_told(tmp_path: Path, content: str) -> None:
    directory = UpDirectory(tmp_path)
    directory.addresses.write_text(content)
    with pytest.raises(Failure, match="cannot be read"):
        directory.control_url()
