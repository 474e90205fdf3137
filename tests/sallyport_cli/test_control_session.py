import json
from pathlib import Path

import pytest

from sallyport_cli.control_session import open_session, read_token
from sallyport_cli.failure import Failure
from sallyport_cli.up_directory import UpDirectory


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    directory = UpDirectory(tmp_path)
    directory.control_plane.mkdir()
    directory.operator_token.write_text("service-token\n")
    directory.addresses.write_text(json.dumps({"controlPlane": "http://127.0.0.1:1"}))
    return tmp_path


def test_the_control_plane_of_up_or_another(data_dir: Path) -> None:
    assert open_session(data_dir, None, None).url == "http://127.0.0.1:1"
    assert open_session(data_dir, "https://control.example", None).url == "https://control.example"
    (data_dir / "key").write_text("sp_ak_x\n")
    assert read_token(data_dir / "key") == "sp_ak_x"


@pytest.mark.parametrize("control", ["nowhere", "http://control.example"])
def test_where_no_token_goes(data_dir: Path, control: str) -> None:
    with pytest.raises(Failure):
        open_session(data_dir, control, None)
