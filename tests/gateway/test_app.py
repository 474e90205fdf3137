"""A gateway as a process of its own."""

import os
import signal
import socket
import time
from pathlib import Path

import pytest

from tests.support.gateway_plans import plan, route
from tests.support.gateway_process import Setting, gateway_process
from tests.support.plan_documents import rule_document

pytestmark = pytest.mark.uvloop

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
ROUTES = [route("managed", ["api.test"], "con_one", allowCleartext=True)]
RULES = [rule_document("open", "allow", "open.test")]
API = "http://api.test/"


def test_a_process_reopens_its_audit_file_leaves_no_core_and_drains_to_status_0(tmp_path: Path) -> None:
    denied = b"CONNECT nowhere.test:443 HTTP/1.1\r\nHost: nowhere.test\r\nProxy-Authorization: Bearer %b\r\n\r\n"
    with gateway_process(tmp_path, Setting(plan=plan(ROUTES, RULES))) as running:
        limits = Path(f"/proc/{running.process.pid}/limits").read_text()
        (core,) = (line for line in limits.splitlines() if line.startswith("Max core file size"))
        assert core.split()[4:6] == ["0", "0"]

        def connect() -> bytes:
            with socket.create_connection(("127.0.0.1", running.proxy_port), timeout=5) as link:
                link.sendall(denied % running.token.encode())
                return link.recv(64)

        assert connect().startswith(b"HTTP/1.1 403 ")
        running.audit(lambda records: len(records) == 1)
        os.rename(tmp_path / "audit.jsonl", tmp_path / "audit.jsonl.1")
        running.process.send_signal(signal.SIGHUP)
        deadline = time.perf_counter() + 5
        while not (tmp_path / "audit.jsonl").exists() and time.perf_counter() < deadline:
            time.sleep(0.02)
        assert connect().startswith(b"HTTP/1.1 403 ")
        assert running.audit(lambda records: len(records) == 1)[0]["host"] == "nowhere.test"
        assert (tmp_path / "audit.jsonl.1").read_bytes().count(b"\n") == 1
        with socket.create_connection(("127.0.0.1", running.proxy_port), timeout=5) as idle:
            idle.sendall(b"GET /healthz HTTP/1.1\r\nHost: gw\r\n\r\n")
            assert idle.recv(64).startswith(b"HTTP/1.1 200 ")
            running.process.send_signal(signal.SIGTERM)
            while idle.recv(64):
                pass
        assert running.wait() == 0
        assert b'"cut_streams": 0' in running.log
        assert running.token.encode() not in running.log
