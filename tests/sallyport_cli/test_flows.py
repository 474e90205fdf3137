"""`sallyport flows`: what it writes, what it prints, and that nothing half-written is ever left."""

import asyncio
import json
import signal
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from sallyport_cli.failure import ExitStatus
from tests.support.command import call, command
from tests.support.recorded import recorded_exchange, write_recording
from tests.support.stage import stage
from tests.support.until import until

type Capture = pytest.CaptureFixture[str]
ABOUT = {"kind": "recording", "formatVersion": 1, "maxBodyBytes": 10}


class Gateway(ThreadingHTTPServer):
    """What answers as an admin listener does, with what a test puts in."""

    daemon_threads = True
    status = 200
    lines: tuple[object, ...] = ()
    is_cut = False
    asked = ""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Gateway

    def do_GET(self) -> None:
        self.server.asked = self.path
        self.send_response(self.server.status)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for line in self.server.lines:
            piece = json.dumps(line).encode() + b"\n"
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        if not self.server.is_cut:
            self.wfile.write(b"0\r\n\r\n")
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    server = Gateway(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def address(gateway: Gateway) -> str:
    return f"127.0.0.1:{gateway.server_address[1]}"


def test_lines_are_written_as_they_come(gateway: Gateway, tmp_path: Path, capsys: Capture) -> None:
    gateway.lines = (
        ABOUT,
        recorded_exchange(),
        {"kind": "alive"},
        {"kind": "dropped", "dropped": 2},
        recorded_exchange(),
    )
    out = tmp_path / "new" / "r.jsonl"
    arguments = (
        "--gateway",
        address(gateway),
        "--out",
        out,
        "--sandbox",
        "sbx_1",
        "--max-body",
        "1KiB",
        "--duration",
        "2s",
    )
    done = call(capsys, "flows", "record", *arguments, "--json")
    assert (done.status, done.json()) == (0, {"file": str(out), "recorded": 2, "dropped": 2})
    assert gateway.asked == "/v1/flows?maxBody=1024&sandbox=sbx_1&durationMs=2000"
    kinds = [json.loads(line)["kind"] for line in out.read_bytes().splitlines()]
    assert kinds == ["recording", "exchange", "dropped", "exchange"]
    assert out.stat().st_mode & 0o777 == 0o600


def test_a_gateway_that_goes_leaves_what_was_recorded(gateway: Gateway, tmp_path: Path, capsys: Capture) -> None:
    gateway.lines, gateway.is_cut = (ABOUT, recorded_exchange()), True
    done = call(capsys, "flows", "record", "--gateway", address(gateway), "--out", tmp_path / "r")
    assert done.status == ExitStatus.ENVIRONMENT
    assert "1 exchange recorded before that" in done.err
    assert len((tmp_path / "r").read_bytes().splitlines()) == 2


def test_a_refusal_is_passed_on_and_leaves_no_file(gateway: Gateway, tmp_path: Path, capsys: Capture) -> None:
    gateway.status, gateway.lines = 409, ({"detail": "somebody records already"},)
    done = call(capsys, "flows", "record", "--gateway", address(gateway), "--out", tmp_path / "r")
    assert done.status == ExitStatus.ENVIRONMENT
    assert "409 somebody records already" in done.err
    assert not (tmp_path / "r").exists()


def test_nobody_answers(tmp_path: Path, capsys: Capture) -> None:
    done = call(capsys, "flows", "record", "--gateway", "127.0.0.1:1", "--out", tmp_path / "r")
    assert done.status == ExitStatus.ENVIRONMENT
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("option", [("--max-body", "2MiB"), ("--max-body", "x"), ("--duration", "-1s")])
def test_options_are_checked(tmp_path: Path, capsys: Capture, option: tuple[str, str]) -> None:
    done = call(capsys, "flows", "record", "--out", tmp_path / "r", *option)
    assert done.status == ExitStatus.BAD_INPUT
    assert not (tmp_path / "r").exists()


def test_what_is_there_is_not_overwritten(tmp_path: Path, capsys: Capture) -> None:
    there = tmp_path / "r"
    there.write_text("mine")
    recording = write_recording(tmp_path / "recording")
    assert call(capsys, "flows", "record", "--out", there).status == ExitStatus.ENVIRONMENT
    assert (
        call(capsys, "flows", "export", recording, "--out", there, "--format", "har").status == ExitStatus.ENVIRONMENT
    )
    assert there.read_text() == "mine"


def test_export_writes_a_whole_file(tmp_path: Path, capsys: Capture) -> None:
    recording = write_recording(tmp_path / "r", recorded_exchange(), recorded_exchange())
    done = call(capsys, "flows", "export", recording, "--out", tmp_path / "r.har", "--format", "har", "--json")
    assert done.json() == {"file": str(tmp_path / "r.har"), "exchanges": 2, "brokenLines": []}
    assert len(json.loads((tmp_path / "r.har").read_bytes())["log"]["entries"]) == 2


def test_every_broken_line_is_named_and_nothing_is_written(tmp_path: Path, capsys: Capture) -> None:
    recording = write_recording(tmp_path / "r", b"{", recorded_exchange(), b"[]", *[b"x"] * 60)
    done = call(capsys, "flows", "export", recording, "--out", tmp_path / "r.har", "--format", "har")
    assert done.status == ExitStatus.BAD_INPUT
    assert "62 broken lines" in done.err
    assert "line 2: " in done.err
    assert "line 4: " in done.err
    assert "and 12 more" in done.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r"]


def test_broken_lines_can_be_left_out(tmp_path: Path, capsys: Capture) -> None:
    recording = write_recording(tmp_path / "r", recorded_exchange())
    recording.write_bytes(recording.read_bytes() + b'{"kind":"exch')  # a recorder that was killed
    done = call(capsys, "flows", "export", recording, "--out", tmp_path / "r.har", "--format", "har", "--skip-broken")
    assert done.status == 0
    assert "left out: line 4" in done.out
    assert len(json.loads((tmp_path / "r.har").read_bytes())["log"]["entries"]) == 1


def test_a_file_that_cannot_be_read(tmp_path: Path, capsys: Capture) -> None:
    done = call(capsys, "flows", "export", tmp_path / "none", "--out", tmp_path / "r.har", "--format", "har")
    assert done.status == ExitStatus.ENVIRONMENT
    assert list(tmp_path.iterdir()) == []


async def test_ctrl_c_ends_a_recording_in_good_order(tmp_path: Path) -> None:
    """As a process of its own, in front of a gateway that would go on."""
    async with stage(tmp_path) as scene:
        recorder = scene.gateway.parts.recorder
        admin = f"127.0.0.1:{scene.gateway.gateway.admin_port}"
        out = tmp_path / "r.jsonl"
        process = await asyncio.create_subprocess_exec(
            *command("flows", "record", "--gateway", admin, "--out", out), stdout=asyncio.subprocess.PIPE
        )
        async with asyncio.timeout(20):
            while b'"recording"' not in _content(out):  # noqa: ASYNC110  there is no event to wait for
                await asyncio.sleep(0.01)
            process.send_signal(signal.SIGINT)
            said, _ = await process.communicate()
        await until(lambda: recorder.recording is None)
        assert process.returncode == 0
        assert b"0 exchanges recorded, 0 dropped" in said


def _content(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""
