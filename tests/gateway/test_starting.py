"""What stops a gateway from starting, and how it is told."""

import asyncio
import threading
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.app import start_gateway
from gateway.config import load_config
from gateway.metrics import Metrics
from gateway.running import Gateway
from gateway.starting import StartError, failed_callbacks, failed_tasks
from sallyport_cli.keys import new_private_key, public_pem
from tests.support.gateway_plans import plan, route
from tests.support.plan_documents import rule_document

pytestmark = pytest.mark.uvloop

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
ROUTES = [route("managed", ["api.test"], "con_one", allowCleartext=True)]
RULES = [rule_document("open", "allow", "open.test")]
API = "http://api.test/"


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, dict[str, object]]:
    (tmp_path / "tokens.pem").write_bytes(public_pem(new_private_key()))
    (tmp_path / "plan.json").write_bytes(plan(ROUTES, RULES))
    (tmp_path / "noise").write_bytes(b"noise")
    (tmp_path / "key").touch(mode=0o600)
    return {
        "listen": {"proxy": "127.0.0.1:0", "tunnel": "127.0.0.1:0", "admin": "127.0.0.1:0"},
        "tokens": {"public_key": "tokens.pem"},
        "audit": {"path": "off"},
    }


async def start(settings: dict[str, dict[str, object]], folder: Path, **further: object) -> Gateway:
    return await start_gateway(load_config({**settings, **further}, {}, folder))


@pytest.mark.parametrize(
    ("further", "words"),
    [
        ({"tokens": {"public_key": "gone.pem"}}, ["tokens.public_key", "gone.pem", "No such file"]),
        ({"tokens": {"public_key": "noise"}}, ["tokens.public_key", "noise", "not a PEM public key"]),
        ({"tokens": {"jwks": "noise"}}, ["tokens.jwks", "noise", "JSON"]),
        ({"plans": ["gone.json"]}, ["gone.json", "No such file"]),
        ({"plans": ["noise"]}, ["noise"]),
        ({"plans": ["plan.json", "plan.json"]}, ["plan.json", "sbx_one"]),
        ({"upstream": {"ca_file": "gone.pem"}}, ["upstream.ca_file", "gone.pem", "No such file"]),
        ({"upstream": {"ca_file": "noise"}}, ["upstream.ca_file", "noise", "certificate"]),
        ({"audit": {"path": "no-folder/audit.jsonl"}}, ["audit.path", "no-folder", "No such file"]),
        (
            {"tunnel": {"tls": {"certificate_file": "gone.pem", "key_file": "key"}}},
            ["tunnel.tls", "gone.pem", "No such"],
        ),
        (
            {"tunnel": {"tls": {"certificate_file": "noise", "key_file": "key"}}},
            ["tunnel.tls", "noise", "certificate"],
        ),
        (
            {"admin": {"tls": {"certificate_file": "noise", "key_file": "noise"}}},
            ["admin.tls", "noise", "others may read"],
        ),
    ],
)
async def test_what_stops_a_start_is_named_with_its_setting_and_a_hint(
    settings: dict[str, dict[str, object]], tmp_path: Path, further: dict[str, object], words: list[str]
) -> None:
    threads = threading.active_count()
    with pytest.raises(StartError) as caught:
        await start(settings, tmp_path, **further)
    assert all(word in caught.value.message for word in words), caught.value.message
    assert caught.value.hint
    assert str(caught.value) == f"{caught.value.message}; {caught.value.hint}"
    assert caught.value.__suppress_context__
    assert threading.active_count() == threads


def test_a_task_that_failed_is_a_defect() -> None:
    metrics = Metrics()
    with capture_logs() as logs:
        failed_tasks(metrics)("exchange", ValueError("ours"))
    assert metrics.defects == 1
    assert [(event["event"], event["task"]) for event in logs] == [("task_failed", "exchange")]


async def test_a_callback_that_failed_is_a_defect_and_a_socket_s_failure_is_not(
    caplog: pytest.LogCaptureFixture,
) -> None:
    metrics, loop = Metrics(), asyncio.get_running_loop()
    loop.set_exception_handler(failed_callbacks(metrics))
    try:
        for number, error in enumerate((ValueError("ours"), OSError(113, "No route to host"), KeyError("ours")), 1):
            loop.call_exception_handler({"message": f"failure {number}", "exception": error})
    finally:
        loop.set_exception_handler(None)
    assert metrics.defects == 2
    assert [record.message.splitlines()[0] for record in caplog.records] == ["failure 1", "failure 2", "failure 3"]
