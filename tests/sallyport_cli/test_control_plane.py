"""`sallyport control-plane` and tokens of its key."""

import json
import re
import signal
import stat
import subprocess
import sys
from pathlib import Path

import httpx
import jwt
import pytest

from control_plane.service_tokens import token_file
from control_plane.store.migrate import head
from control_plane.vault.master_keys import add_master_key
from tests.support.command import call

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def data_dir(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    assert call(capsys, "control-plane", "migrate", "--data-dir", tmp_path / "data").status == 0
    return tmp_path / "data"


def test_serve_needs_nothing_prepared_and_ends_when_told(tmp_path: Path) -> None:
    data = tmp_path / "data"
    command = [sys.executable, "-P", "-m", "sallyport_cli.main", "control-plane", "serve", "--data-dir", str(data)]
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [*command, "--listen", "127.0.0.1:0"], env=environment, cwd=tmp_path, stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    with process, process.stderr:
        try:
            events = (json.loads(line) for line in process.stderr)
            address = next(event["api"] for event in events if event["event"] == "ready")
            assert httpx.get(f"http://{address}/readyz", trust_env=False).json() == {"status": "ready"}
            token = token_file(data, "cli").read_text().strip()
            headers = {"Authorization": f"Bearer {token}"}
            with httpx.stream(
                "GET", f"http://{address}/internal/plans/watch", headers=headers, trust_env=False
            ) as stream:
                assert stream.status_code == 200  # an open stream does not keep it from ending
                process.send_signal(signal.SIGTERM)
                assert process.wait(10) == 0
        finally:
            process.kill()
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in data.iterdir()}
    assert stat.S_IMODE(data.stat().st_mode) == 0o700
    assert set(modes.values()) == {0o600}
    assert {"control-plane.db", "master.keys", "service-token.gateway"} <= set(modes)


def test_migrate_tells_the_schema(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(capsys, "control-plane", "migrate", "--data-dir", data_dir, "--json").json() == {"schema": head()}


def test_keygen_makes_a_file_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "keys" / "master"
    assert call(capsys, "control-plane", "keygen", "--out", path).status == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    again = call(capsys, "control-plane", "keygen", "--out", path)
    assert again.status == 3
    assert "exists already" in again.err


def test_rotating_keys(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = mint(capsys, data_dir)
    rotated = call(capsys, "control-plane", "keys", "rotate", "--data-dir", data_dir, "--json").json()
    assert kid(mint(capsys, data_dir)) == kid(before) != rotated["keyId"]
    at_once = call(capsys, "control-plane", "keys", "rotate", "--data-dir", data_dir, "--at-once", "--json").json()
    assert kid(mint(capsys, data_dir)) == at_once["keyId"]
    master = call(capsys, "control-plane", "keys", "rotate-master", "--data-dir", data_dir, "--json").json()
    assert master == {"masterVersion": 2, "dataKeys": 1}
    assert kid(mint(capsys, data_dir)) == at_once["keyId"]


def test_a_service_token_says_who_calls_whom(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    claims = jwt.decode(mint(capsys, data_dir), options={"verify_signature": False})
    assert (claims["aud"], claims["sub"]) == ("sallyport-control", "ci")
    assert claims["exp"] - claims["iat"] == 24 * 3600
    assert not {"org", "sid"} & set(claims)
    for_gateway = mint(capsys, data_dir, "--audience", "sallyport-gateway", "--ttl", "1h")
    assert jwt.decode(for_gateway, options={"verify_signature": False})["aud"] == "sallyport-gateway"


def test_a_sandbox_s_token_by_the_control_plane_s_key(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outcome = call(capsys, "token", "mint", "--data-dir", data_dir, "--sandbox", "sbx_1", "--org", "org_1", "--json")
    claims = jwt.decode(str(outcome.json()["token"]), options={"verify_signature": False})
    assert (claims["aud"], claims["sub"], claims["org"]) == ("sallyport-proxy", "sbx_1", "org_1")
    assert claims["sid"].startswith("sid_")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--service", "a b"), "would be refused"),
        (("--service", "ci", "--ttl", "40d"), "would be refused"),
        (("--service", "ci", "--audience", "sallyport-proxy"), "not for this kind"),
        (("--sandbox", "s", "--org", "o", "--audience", "sallyport-control"), "not for this kind"),
        (("--service", "ci", "--sandbox", "s", "--org", "o"), "whose token"),
        (("--sandbox", "s"), "whose token"),
        ((), "whose token"),
        (("--service", "ci", "--key", "k"), "two keys"),
    ],
)
def test_tokens_that_make_no_sense(
    data_dir: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], told: str
) -> None:
    outcome = call(capsys, "token", "mint", "--data-dir", data_dir, *arguments)
    assert outcome.status == 2
    assert told in outcome.err


def test_a_mistyped_folder_does_not_become_a_control_plane(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (("token", "mint", "--service", "ci"), ("control-plane", "keys", "rotate")):
        assert call(capsys, *command, "--data-dir", tmp_path / "none").status == 3
    assert not (tmp_path / "none").exists()


def test_master_keys_that_others_may_read(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (data_dir / "master.keys").chmod(0o644)
    outcome = call(capsys, "control-plane", "serve", "--data-dir", data_dir)
    assert outcome.status == 3
    assert "chmod 600" in outcome.err
    assert call(capsys, "control-plane", "keys", "rotate-master", "--data-dir", data_dir).status == 2


def test_a_database_that_is_not_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SALLYPORT_DATABASE_URL", f"postgresql://u:canary-password@/none?host={tmp_path}")
    outcome = call(capsys, "control-plane", "migrate", "--data-dir", tmp_path / "data")
    assert outcome.status == 3
    assert "SALLYPORT_DATABASE_URL" in outcome.err
    assert "canary" not in outcome.err
    monkeypatch.setenv("SALLYPORT_DATABASE_URL", "nonsense")
    assert call(capsys, "control-plane", "migrate", "--data-dir", tmp_path / "data").status == 3


def test_faulty_settings(capsys: pytest.CaptureFixture[str]) -> None:
    outcome = call(capsys, "control-plane", "serve", "--listen", "nowhere")
    assert outcome.status == 2
    assert "/api/listen" in outcome.err


def mint(capsys: pytest.CaptureFixture[str], data_dir: Path, *arguments: str) -> str:
    outcome = call(capsys, "token", "mint", "--data-dir", data_dir, "--service", "ci", *arguments)
    assert outcome.status == 0, outcome.err
    return outcome.out.strip()


def kid(token: str) -> object:
    return jwt.get_unverified_header(token)["kid"]


def test_the_first_api_key_of_an_operator(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ("control-plane", "api-key", "create", "--data-dir", data_dir)
    printed = call(capsys, *command, "--role", "operator")
    assert re.fullmatch(r"sp_ak_[0-9a-f]{64}\n", printed.out)
    member = call(
        capsys, *command, "--role", "member", "--org", "org_1", "--name", "CI", "--ttl", "1d", "--json"
    ).json()
    assert (member["role"], member["organizationId"], member["displayName"]) == ("member", "org_1", "CI")
    assert member["expiresAt"] == member["createdAt"] + 86_400
    for wrong in (("admin",), ("member",), ("operator", "--org", "org_1")):
        assert call(capsys, *command, "--role", *wrong).status == 2, wrong


def test_keys_that_a_command_has_are_added_there(
    data_dir: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    add_master_key(data_dir / "master.keys")
    monkeypatch.setenv("SALLYPORT_MASTER_KEY_COMMAND", f"cat {data_dir / 'master.keys'}")
    rotated = call(capsys, "control-plane", "keys", "rotate-master", "--data-dir", data_dir, "--json").json()
    assert rotated == {"masterVersion": 2, "dataKeys": 1}
    monkeypatch.setenv("SALLYPORT_MASTER_KEY_COMMAND", "false")
    outcome = call(capsys, "control-plane", "migrate", "--data-dir", data_dir)
    assert (outcome.status, "SALLYPORT_MASTER_KEY_COMMAND" in outcome.err) == (3, True)
