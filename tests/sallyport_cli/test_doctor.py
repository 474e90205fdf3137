from pathlib import Path

import pytest

from sallyport_cli import canary, checks
from sallyport_cli.doctor import is_healthy
from sallyport_cli.finding import Finding, failed, ok, skipped, warning
from tests.support.command import call, write_plan


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_plan(tmp_path / "plan.json")
    (tmp_path / "key").write_text("sk-real-canary\n", encoding="utf-8")
    path = tmp_path / "gateway.yaml"
    path.write_text("plans: [plan.json]\ncredentials: {con_one: {file: key}}\n", encoding="utf-8")
    for name in ("HTTPS_PROXY", "https_proxy", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
    return path


@pytest.fixture
def no_canary(monkeypatch: pytest.MonkeyPatch) -> list[Finding]:
    """Stand in for the canary, which has tests of its own and takes a second."""
    result: list[Finding] = []

    async def send(*_: object) -> list[Finding]:
        return result

    async def direct(_: object) -> Finding:
        return ok(checks.DIRECT, "")

    monkeypatch.setattr(canary, "send_canary", send)
    monkeypatch.setattr(checks, "check_direct", direct)
    return result


def test_a_healthy_whole(config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    async def direct(_: object) -> Finding:
        return ok(checks.DIRECT, "")

    monkeypatch.setattr(checks, "check_direct", direct)  # asks the resolver of whatever network there is
    outcome = call(capsys, "doctor", "--config", config, "--json")
    assert outcome.status == 0, outcome.out
    document = outcome.json()
    assert document["healthy"] is True
    states = {finding["check"]: finding["state"] for finding in document["findings"]}
    assert states["canary request"] == states["intercepted TLS"] == states["credentials"] == "ok"
    assert "sk-real-canary" not in outcome.out


def test_green_without_a_canary_cannot_happen(
    config: Path, no_canary: list[Finding], capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(capsys, "doctor", "--config", config).status == 1
    no_canary.append(ok(canary.CANARY, "arrived"))
    assert call(capsys, "doctor", "--config", config).status == 0


def test_every_failure_says_what_to_do(
    config: Path, no_canary: list[Finding], capsys: pytest.CaptureFixture[str]
) -> None:
    (config.parent / "key").unlink()
    (config.parent / "plan.json").write_text("{}", encoding="utf-8")
    outcome = call(capsys, "doctor", "--config", config, "--json")
    assert outcome.status == 1
    found = [finding for finding in outcome.json()["findings"] if finding["state"] == "failed"]
    assert {finding["check"] for finding in found} == {"plan", "credentials"}
    assert all(finding["remedy"] for finding in found)


@pytest.mark.usefixtures("no_canary")
def test_faulty_settings_end_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("nonsense: 1\n", encoding="utf-8")
    outcome = call(capsys, "doctor", "--config", path)
    assert outcome.status == 1
    assert "nonsense" in outcome.out


def test_a_gateway_that_runs_is_looked_at_too(
    config: Path, no_canary: list[Finding], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("a.b.c", encoding="utf-8")
    options = ["--proxy", "http://127.0.0.1:1", "--token-file", str(tmp_path / "token")]
    outcome = call(capsys, "doctor", "--config", config, "--json", *options)
    assert outcome.status == 1
    assert checks.GATEWAY in {finding["check"] for finding in outcome.json()["findings"]}


def test_proxy_and_token_belong_together(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(capsys, "doctor", "--config", config, "--proxy", "http://h:1").status == 2


@pytest.mark.parametrize(
    ("findings", "healthy"),
    [
        ([ok(canary.CANARY, "")], True),
        ([ok(canary.CANARY, ""), warning("a", "", ""), skipped("b", "")], True),
        ([ok(canary.CANARY, ""), failed("a", "", "")], False),
        ([ok("a", "")], False),
        ([skipped(canary.CANARY, "")], False),
    ],
)
def test_health(findings: list[Finding], *, healthy: bool) -> None:
    assert is_healthy(findings) is healthy
