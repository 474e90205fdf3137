"""`sallyport status` and `top` against servers that answer as a control plane and a gateway do."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from sallyport_cli.up_directory import UpDirectory
from tests.support.command import call
from tests.support.scripted_http import ScriptedHttp, scripted_http


@pytest.fixture
def data_dir(tmp_path: Path, control: ScriptedHttp) -> Path:
    directory = UpDirectory(tmp_path)
    directory.control_plane.mkdir()
    directory.operator_token.write_text("service-token\n")
    directory.addresses.write_text(json.dumps({"controlPlane": control.url}))
    return tmp_path


@pytest.fixture
def control() -> Iterator[ScriptedHttp]:
    with scripted_http() as control, scripted_http() as gateway:
        control.answer("/internal/gateways", {"items": [{"id": "gw_1", "adminUrl": gateway.url}]})
        control.answer("/v1/sandboxes?limit=100", {"items": [{"sandboxId": "sbx_1", "organizationId": "org_1"}]})
        gateway.answer("/v1/sandboxes", {"items": [{"sandboxId": "sbx_1", "tunnel": True, "planRevision": 4}]})
        gateway.answers["/metrics"] = 200, b'sallyport_denied_total{code="denied_by_plan"} 3.0\n'
        gateway.answer("/readyz", {"status": "ready"})
        yield control


def test_status_is_a_table_for_people(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outcome = call(capsys, "status", "--data-dir", data_dir)
    assert outcome.status == 0
    for word in ("sbx_1", "org_1", "gw_1", "ready", "denied_by_plan"):
        assert word in outcome.out


def test_status_is_a_document_for_programs(
    data_dir: Path, control: ScriptedHttp, capsys: pytest.CaptureFixture[str]
) -> None:
    document = call(capsys, "status", "--json", "--data-dir", data_dir).json()
    assert document["sandboxes"][0]["tunnel"] == "up"
    assert document["denials"] == {"denied_by_plan": "3"}
    assert {asked.authorization for asked in control.asked} == {"Bearer service-token"}


def test_top_looks_as_often_as_it_is_told(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outcome = call(capsys, "top", "--data-dir", data_dir, "--looks", 2, "--every", 0.2)
    assert outcome.status == 0
    assert "0.0/s" in outcome.out


def test_without_anything_running_it_says_what_to_start(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outcome = call(capsys, "status", "--data-dir", tmp_path)
    assert outcome.status == 3
    assert "sallyport up" in outcome.err


def test_a_control_plane_that_is_gone_is_told(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outcome = call(capsys, "status", "--data-dir", data_dir, "--control", "http://127.0.0.1:1")
    assert outcome.status == 3
    assert "refused" in outcome.err
    assert call(capsys, "status", "--data-dir", data_dir, "--control", "nonsense").status == 2
    assert call(capsys, "status", "--data-dir", data_dir, "--control", "http://control.test").status == 2


@pytest.mark.parametrize("content", [None, "noise"])
def test_roots_that_are_none_are_bad_input(
    data_dir: Path, capsys: pytest.CaptureFixture[str], content: str | None
) -> None:
    roots = data_dir / "roots.pem"
    if content is not None:
        roots.write_text(content)
    outcome = call(capsys, "status", "--data-dir", data_dir, "--gateway-ca-file", roots)
    assert outcome.status == 2
    assert str(roots) in outcome.err
