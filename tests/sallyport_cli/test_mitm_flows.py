"""Flow files, written and read back by the mitmproxy of its own environment; without it a sentence says what to do."""

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sallyport_cli.failure import Failure
from sallyport_cli.mitm_flows import write_mitm_flows
from tests.support.gateway_process import ROOT
from tests.support.mitmproxy_process import BIN, in_mitmproxy_environment, need_mitmproxy
from tests.support.recorded import cancelled_exchange, recorded_exchange, refused_exchange, write_recording

READ_BACK = """
import json, sys
from mitmproxy.io import FlowReader
for flow in FlowReader(open(sys.argv[1], "rb")).stream():
    response = flow.response
    print(json.dumps({
        "method": flow.request.method, "url": flow.request.url,
        "fields": [list(map(repr, pair)) for pair in flow.request.headers.fields],
        "content": flow.request.raw_content.hex(), "status": response and response.status_code,
        "answer": response and response.raw_content.hex(), "error": flow.error and flow.error.msg,
        "comment": flow.comment,
    }))
"""


@pytest.fixture(scope="module")
def flows(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Export three exchanges where mitmproxy is installed, and read them by it."""
    need_mitmproxy()
    folder = tmp_path_factory.mktemp("flows")
    recording = write_recording(folder / "r.jsonl", recorded_exchange(), refused_exchange(), cancelled_exchange())
    command = in_mitmproxy_environment("flows", "export", recording, "--out", folder / "r.mitm", "--format", "mitm")
    ended = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)
    assert (ended.returncode, ended.stderr) == (0, ""), ended.stderr
    read = [str(BIN / "python"), "-c", READ_BACK, str(folder / "r.mitm")]
    lines = subprocess.run(read, capture_output=True, text=True, check=True).stdout.splitlines()
    return [json.loads(line) for line in lines]


def test_what_was_sent_and_answered(flows: list[dict[str, Any]]) -> None:
    sent = flows[0]
    assert (sent["method"], sent["url"], sent["status"]) == ("POST", "https://api.test/v1?a=b&c=", 200)
    assert ["b'Authorization'", "b'Bearer REDACTED'"] in sent["fields"]
    assert ["b'X-Latin'", "b'\\xe9'"] in sent["fields"]
    assert bytes.fromhex(sent["content"]) == b"question"
    assert bytes.fromhex(sent["answer"]) == b"\xff\x00"
    assert "decision: inject" in sent["comment"]


def test_refusals_and_exchanges_without_an_answer(flows: list[dict[str, Any]]) -> None:
    _, refused, cancelled = flows
    assert (refused["url"], refused["status"]) == ("http://api.test/x?y", 403)
    assert "code: denied_by_plan" in refused["comment"]
    assert "answer body cut short, it had 9 bytes" in refused["comment"]
    assert (cancelled["status"], cancelled["error"]) == (None, "cancelled")
    assert "request body not recorded: it is coded" in cancelled["comment"]


def test_without_mitmproxy_a_sentence_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mitmproxy", None)
    with pytest.raises(Failure) as caught:
        write_mitm_flows([], io.BytesIO())
    assert "sallyport[mitmproxy]" in caught.value.hint


def test_nothing_else_imports_it() -> None:
    """Its flow classes cost 40 MB: they come with the export alone."""
    code = "import sys, sallyport_cli.app, gateway.app, gateway.mitm_addon; sys.exit('mitmproxy' in sys.modules)"
    need_mitmproxy()
    assert subprocess.run([str(BIN / "python"), "-P", "-c", code], cwd=Path(ROOT), check=False).returncode == 0
