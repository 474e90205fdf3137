"""Exchanges of a running gateway, recorded by a process of its own and opened by others; no secret in any of it.

The recorder may lose what it counts, and nothing else; whatever happens to it, no request notices.
"""

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.sallyport_cli.test_har import assert_is_har
from tests.support.background import in_background
from tests.support.command import command
from tests.support.gateway_plans import plan, route
from tests.support.gateway_process import GatewayProcess, Setting, gateway_process
from tests.support.mitmproxy_process import in_mitmproxy_environment, mitmproxy_process, need_mitmproxy
from tests.support.origin import Answer, RecordingOrigin, recording_origin

HOST = "api.flows.test"
SECRET = "flows-canary-9b1d7c4e0a+/="
THREADS = 4
WAIT_SECONDS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """A gateway, its origin, and what sandboxes do."""

    gateway: GatewayProcess
    origin: RecordingOrigin
    folder: Path

    def request_many(self, count: int, path: str = "/v1") -> list[int]:
        """Send requests on a few links that stay open; return their statuses."""

        def some(number: int) -> list[int]:
            link = http.client.HTTPConnection("127.0.0.1", self.gateway.proxy_port, timeout=20)
            try:
                return [self._ask(link, f"{path}/{number}/{each}") for each in range(count // THREADS)]
            finally:
                link.close()

        with ThreadPoolExecutor(THREADS) as threads:
            return [status for statuses in threads.map(some, range(THREADS)) for status in statuses]

    def _ask(self, link: http.client.HTTPConnection, path: str) -> int:
        headers = {"Proxy-Authorization": f"Bearer {self.gateway.token}", "Authorization": "Bearer of-the-sandbox"}
        link.request("POST", f"http://{HOST}{path}", b"question", headers)
        answer = link.getresponse()
        answer.read()
        return answer.status

    @contextlib.contextmanager
    def recorder(self, name: str, *options: str) -> Iterator["RecorderProcess"]:
        """Record into a file until the block ends."""
        out = self.folder / name
        admin = f"127.0.0.1:{self.gateway.admin_port}"
        arguments = command("flows", "record", "--gateway", admin, "--out", out, *options)
        process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        try:
            recorder = RecorderProcess(process=process, out=out)
            recorder.wait_for(lambda: out.exists() and b'"recording"' in out.read_bytes())
            yield recorder
        finally:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class RecorderProcess:
    """A running `sallyport flows record`."""

    process: "subprocess.Popen[bytes]"
    out: Path

    def lines(self) -> list[dict[str, Any]]:
        """Return the whole lines of the file so far."""
        return [json.loads(line) for line in self.out.read_bytes().split(b"\n")[:-1]]

    def accounted(self) -> int:
        """Return how many exchanges were recorded or counted as dropped."""
        lines = self.lines()
        dropped: list[int] = [line["dropped"] for line in lines if line["kind"] == "dropped"]
        recorded = len([line for line in lines if line["kind"] == "exchange"])
        return recorded + (dropped[-1] if dropped else 0)

    def wait_for(self, condition: Callable[[], bool]) -> None:
        deadline = time.perf_counter() + WAIT_SECONDS
        while not condition():
            assert self.process.poll() is None, self.process.stdout and self.process.stdout.read()
            assert time.perf_counter() < deadline, self.out.read_bytes()[-500:]
            time.sleep(0.02)

    def stop(self) -> str:
        """End it as Ctrl-C does; return what it said."""
        self.process.send_signal(signal.SIGINT)
        said, _ = self.process.communicate(timeout=WAIT_SECONDS)
        assert self.process.returncode == 0, said
        return said.decode()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("flows")
    with in_background(recording_origin()) as origin:
        echo = b'{"you":"' + SECRET.encode() + b'"}'
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Echo: {SECRET}\r\nContent-Length: {len(echo)}"
        origin.default = Answer(parts=(head.encode() + b"\r\n\r\n" + echo,))
        big = b"x" * 60_000
        origin.answers["/big"] = Answer(parts=(b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n" + big,))
        setting = Setting(
            plan=plan([route("r", [HOST], "con_r", allowCleartext=True)]),
            credentials={"con_r": SECRET},
            connect_to={f"{HOST}:80": f"127.0.0.1:{origin.port}"},
        )
        with gateway_process(folder / "gateway", setting) as gateway:
            yield World(gateway=gateway, origin=origin, folder=folder)


@pytest.fixture(scope="module")
def recording(world: World) -> Path:
    """Record some hundreds of exchanges under load, and one that is refused."""
    with world.recorder("load.jsonl") as recorder:
        count = 400
        assert world.request_many(count) == [200] * count
        assert world.request_many(THREADS, "/v1/../x") == [400] * THREADS
        recorder.wait_for(lambda: recorder.accounted() >= count + THREADS)
        said = recorder.stop()
        lines = recorder.lines()
    exchanges = [line for line in lines if line["kind"] == "exchange"]
    dropped = [line["dropped"] for line in lines if line["kind"] == "dropped"]
    lost = dropped[-1] if dropped else 0
    assert len(exchanges) + lost == count + THREADS, "what is lost is counted"
    numbers = {line["number"] for line in exchanges}
    assert len(numbers) == len(exchanges)
    assert numbers <= set(range(1, count + THREADS + 1))
    assert f"{len(exchanges)} exchanges recorded, {lost} dropped" in said
    return recorder.out


def test_under_load_nothing_is_lost_that_is_not_counted(recording: Path) -> None:
    assert recording.stat().st_mode & 0o777 == 0o600


def test_no_secret_is_in_a_recording(world: World, recording: Path) -> None:
    content = recording.read_bytes()
    assert any(SECRET.encode() in link.received for link in world.origin.links), "it was sent"
    for secret in (SECRET, world.gateway.token, "of-the-sandbox"):
        assert secret.encode() not in content
    assert b"Bearer REDACTED" in content


def test_it_opens_in_mitmweb(world: World, recording: Path) -> None:
    need_mitmproxy()
    out = world.folder / "load.mitm"
    arguments = in_mitmproxy_environment("flows", "export", recording, "--out", out, "--format", "mitm")
    ended = subprocess.run(arguments, capture_output=True, text=True, cwd=world.folder, check=False)
    assert ended.returncode == 0, ended.stderr
    assert SECRET.encode() not in out.read_bytes()
    count = sum(b'"kind":"exchange"' in line for line in recording.read_bytes().splitlines())
    flows = _shown_by_mitmweb(world.folder / "mitmweb", out, count)
    assert len(flows) == count
    assert {flow["response"]["status_code"] for flow in flows} == {200, 400}
    sent = next(flow for flow in flows if flow["response"]["status_code"] == 200)
    assert ["Authorization", "Bearer REDACTED"] in sent["request"]["headers"]
    assert (sent["request"]["method"], sent["request"]["host"]) == ("POST", HOST)
    assert SECRET not in json.dumps(flows)


def test_it_is_har(world: World, recording: Path) -> None:
    out = world.folder / "load.har"
    ended = subprocess.run(command("flows", "export", recording, "--out", out, "--format", "har"), check=False)
    assert ended.returncode == 0
    document = json.loads(out.read_bytes())
    assert_is_har(document)
    assert SECRET not in out.read_text()
    entry = next(entry for entry in document["log"]["entries"] if entry["response"]["status"] == 200)
    assert entry["request"]["postData"]["text"] == "question"
    assert json.loads(entry["response"]["content"]["text"]).keys() == {"you"}


def test_a_recorder_that_is_killed_disturbs_no_request(world: World) -> None:
    statuses: list[int] = []
    load = threading.Thread(target=lambda: statuses.extend(world.request_many(1200)))
    with world.recorder("killed.jsonl") as recorder:
        load.start()
        recorder.wait_for(lambda: recorder.accounted() > 50)
        os.kill(recorder.process.pid, signal.SIGKILL)
        load.join()
    assert statuses == [200] * 1200
    with world.recorder("after.jsonl") as recorder:  # its place is free again
        world.request_many(THREADS)
        recorder.wait_for(lambda: recorder.accounted() == THREADS)


@pytest.mark.full
@pytest.mark.timeout(180)
def test_a_recorder_that_stands_still_loses_what_it_counts(world: World) -> None:
    with world.recorder("slow.jsonl", "--max-body", "64KiB") as recorder:
        os.kill(recorder.process.pid, signal.SIGSTOP)
        count = 2000  # 120 MB, more than the gateway and the sockets between hold
        began = time.perf_counter()
        world.origin.default, default = world.origin.answers["/big"], world.origin.default
        try:
            assert world.request_many(count, "/big") == [200] * count
        finally:
            world.origin.default = default
        assert time.perf_counter() - began < 60
        os.kill(recorder.process.pid, signal.SIGCONT)
        recorder.wait_for(lambda: recorder.accounted() >= count)
        lines = recorder.lines()
        recorder.stop()
    cut = sum(line.get("answerBody", {}).get("truncated", False) for line in lines)
    dropped = [line["dropped"] for line in lines if line["kind"] == "dropped"]
    assert cut or dropped, "something had to give"
    assert recorder.accounted() == count


def _shown_by_mitmweb(folder: Path, file: Path, count: int) -> list[dict[str, Any]]:
    """Open a flow file in a real mitmweb and ask its REST interface for what it shows, which is so many at least."""
    with socket.socket() as held:
        # mitmweb does not say which port it took when asked for any. One that is held is given to nobody else while it
        # starts, and it asks for SO_REUSEADDR, by which it may listen there all the same.
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        return _shown_at(held.getsockname()[1], folder, file, count)


def _shown_at(port: int, folder: Path, file: Path, count: int) -> list[dict[str, Any]]:
    options = {"web_port": port, "web_host": "127.0.0.1", "web_open_browser": "false", "web_password": "look"}
    settings = [word for name, value in options.items() for word in ("--set", f"{name}={value}")]
    with mitmproxy_process(folder, "mitmweb", "-n", "-r", str(file), *settings) as mitmweb:
        mitmweb.await_line(re.compile(r"Web server listening at "))
        deadline = time.perf_counter() + WAIT_SECONDS
        flows: list[dict[str, Any]] = []
        seen = -1
        while len(flows) < count or len(flows) != seen:  # it reads the file while it serves
            assert time.perf_counter() < deadline, mitmweb.output
            seen = len(flows)
            time.sleep(0.3)
            link = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            link.request("GET", "/flows", headers={"Authorization": "Bearer look"})
            answer = link.getresponse()
            body = answer.read()
            link.close()
            assert answer.status == 200, body
            flows = json.loads(body)
        return flows
