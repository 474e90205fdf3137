import os
import re
from pathlib import Path

import pytest

from control_client.gateway import is_ready
from sallyport_cli.failure import ExitStatus, Failure
from sallyport_cli.keys import generate_key_files
from sallyport_cli.standalone import standalone_gateway

INHERITED = {"PATH": "/usr/bin:/bin"}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "gateway.yaml"
    path.write_text(f"tokens: {{public_key: '{generate_key_files(tmp_path / 'keys').public}'}}\n", encoding="utf-8")
    return path


def directory(tmp_path: Path) -> Path:
    path = tmp_path / "state"
    path.mkdir()
    return path


def test_a_gateway_is_ready_inside_and_gone_after(config: Path, tmp_path: Path) -> None:
    with standalone_gateway(config, {}, INHERITED, directory(tmp_path)) as gateway:
        assert re.fullmatch(r"127\.0\.0\.1:\d+", gateway.proxy)
        assert is_ready(gateway.admin)
        assert not gateway.has_ended()
        assert '"ready"' in gateway.log_tail()
    assert gateway.has_ended()
    assert gateway.process.returncode == 0


def test_it_stops_when_the_block_fails(config: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyError), standalone_gateway(config, {}, INHERITED, directory(tmp_path)) as gateway:
        raise KeyError
    with pytest.raises(ProcessLookupError):
        os.kill(gateway.process.pid, 0)


def test_what_keeps_it_from_starting_is_passed_on(config: Path, tmp_path: Path) -> None:
    settings = {"SALLYPORT_LIMITS_SANDBOXES": "none"}
    gateway = standalone_gateway(config, settings, INHERITED, directory(tmp_path))
    with pytest.raises(Failure, match="one fault in the settings") as caught, gateway:
        pytest.fail("it started")
    assert caught.value.status == ExitStatus.BAD_INPUT
    assert "SALLYPORT_LIMITS_SANDBOXES" in caught.value.hint
