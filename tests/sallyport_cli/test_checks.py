import asyncio
import datetime
from pathlib import Path

import pytest
from cryptography import x509

from sallyport.net.interception import CaStore
from sallyport.net.transports import listen
from sallyport.trust_env import variables
from sallyport_cli import checks
from sallyport_cli.finding import State
from sallyport_cli.settings import read_settings
from tests.support.plan_documents import plan_of, route_document
from worker.durable import sqlite

NOW = 1_800_000_000.0


def test_plans_are_told_and_their_absence() -> None:
    [finding] = checks.check_plans([Path("p.json")], [plan_of([route_document()])])
    assert finding.state is State.OK
    assert "sbx_one" in finding.seen
    assert checks.check_plans([], [])[0].state is State.SKIPPED


@pytest.mark.parametrize(
    ("credentials", "states"),
    [
        ("{con_one: {env: KEY}}", [State.OK]),
        ("{con_one/api_key: {env: KEY}}", [State.OK]),
        ("{con_one/other: {env: KEY}}", [State.FAILED]),
        ("{con_one: {env: NOT_SET}}", [State.FAILED]),
        ("{con_one: {file: none}}", [State.FAILED]),
        ("{}", [State.FAILED]),
    ],
)
def test_each_route_needs_a_credential_that_can_be_read(tmp_path: Path, credentials: str, states: list[State]) -> None:
    path = tmp_path / "gateway.yaml"
    path.write_text(f"tokens: {{jwks: a}}\ncredentials: {credentials}\n", encoding="utf-8")
    environment = {"KEY": "sk-a-secret-value"}
    found = checks.check_credentials(read_settings(path, {}), [plan_of([route_document()])], environment)
    assert [finding.state for finding in found] == states
    assert "sk-a-secret-value" not in repr(found)


def test_additional_credential_headers_need_theirs(tmp_path: Path) -> None:
    path = tmp_path / "gateway.yaml"
    path.write_text("tokens: {jwks: a}\ncredentials: {con_one: {env: KEY}}\n", encoding="utf-8")
    resolver = {"kind": "integration_connection", "connectionId": "con_two", "secretType": "api_key"}
    route = route_document(additionalCredentialHeaders=[{"header": "x-two", "credentialResolver": resolver}])
    found = checks.check_credentials(read_settings(path, {}), [plan_of([route])], {"KEY": "12345678"})
    assert ["con_two" in finding.seen for finding in found] == [True]


def authority(tmp_path: Path, now: float) -> tuple[str, x509.Certificate]:
    CaStore(tmp_path).authority("sbx_one", now)
    [found] = checks.stored_authorities(tmp_path)
    return found


@pytest.mark.parametrize(
    ("now", "state"),
    [
        (NOW, State.OK),
        (NOW - datetime.timedelta(days=2).total_seconds(), State.FAILED),
        (NOW + datetime.timedelta(days=31).total_seconds(), State.FAILED),
        (1_000_000_000.0, State.FAILED),
    ],
)
def test_a_clock_that_certificates_contradict(tmp_path: Path, now: float, state: State) -> None:
    assert checks.check_clock(now, [authority(tmp_path, NOW)]).state is state


def test_what_is_no_certificate_is_the_gateways_to_report(tmp_path: Path) -> None:
    (tmp_path / "a.pem").write_bytes(b"nothing")
    assert checks.stored_authorities(tmp_path) == []


@pytest.fixture
def led(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "ca.pem").touch()
    path = str(tmp_path / "ca.pem")
    return variables(proxy_url="http://x:t@127.0.0.1:3128", ca_file=path, bundle_file=path)


def states(environment: dict[str, str], proxy: str | None = None) -> set[State]:
    return {finding.state for finding in checks.check_variables(environment, proxy)}


def test_variables_that_lead_through_the_gateway(led: dict[str, str]) -> None:
    assert states(led) == states(led, "http://127.0.0.1:3128") == {State.OK}


def test_no_variables_are_nobodys_fault() -> None:
    assert states({}) == {State.SKIPPED}
    assert states({}, "http://127.0.0.1:3128") == {State.FAILED}


@pytest.mark.parametrize(
    "change",
    [
        {"https_proxy": ""},
        {"SSL_CERT_FILE": "/nowhere/all.pem"},
        {"SSL_CERT_DIR": "/etc/ssl/certs"},
        {"HTTPS_PROXY": "http://elsewhere:1"},
        {"NODE_USE_ENV_PROXY": ""},
    ],
)
def test_one_wrong_variable_is_found(led: dict[str, str], change: dict[str, str]) -> None:
    assert states(led | change, "http://127.0.0.1:3128") == {State.FAILED}


def test_a_token_in_a_variable_is_not_shown(led: dict[str, str]) -> None:
    found = checks.check_variables(led | {"HTTPS_PROXY": "http://x:to.k.en@h:1"}, "http://127.0.0.1:3128")
    assert "to.k.en" not in repr(found)


async def test_a_direct_way_out_is_a_warning() -> None:
    listener = await listen("127.0.0.1", 0, asyncio.Protocol)
    await listener.start()
    route = route_document(match={"hosts": ["127.0.0.1"], "ports": [listener.port]})
    finding = await checks.check_direct([plan_of([route])])
    await listener.close()
    assert finding.state is State.WARNING
    assert f"127.0.0.1:{listener.port}" in finding.seen


async def test_no_direct_way_out_is_good() -> None:
    route = route_document(match={"hosts": ["127.0.0.1"], "ports": [1]})
    assert (await checks.check_direct([plan_of([route])])).state is State.OK


async def test_wildcards_cannot_be_tried() -> None:
    route = route_document(match={"hosts": ["*.example.com"]})
    assert (await checks.check_direct([plan_of([route])])).state is State.SKIPPED


def test_a_gateway_that_does_not_answer() -> None:
    finding = checks.check_gateway("http://127.0.0.1:1", "to.k.en", NOW)
    assert finding.state is State.FAILED
    assert "to.k.en" not in finding.seen


def test_an_sqlite_that_is_too_old_for_a_worker_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert checks.check_sqlite().state is State.OK
    monkeypatch.setattr(sqlite, "LEAST", (99, 0, 0))
    finding = checks.check_sqlite()
    assert finding.state is State.WARNING
    assert "needs 99.0 or later" in finding.seen
