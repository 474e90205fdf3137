"""C14: planted credentials, a busy run with every kind of failure, and then every sink is searched for them.

Searched in the spellings a secret might be carried in: as it is, base64 at its three offsets, hex, percent. A marker
that must be found wherever it belongs shows each time that the search itself works.
"""

import base64
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest

from demo.certificates import write_origin_files
from demo.leaks import leaks, spellings
from tests.support.background import in_background
from tests.support.gateway_plans import basic, denied, header, plan, route
from tests.support.gateway_process import GatewayProcess, Setting, gateway_process
from tests.support.origin import Answer, RecordingOrigin, Then, recording_origin

CANARIES = {
    "con_bearer": "canary-bearer/Zk3+9qLx0VtT",
    "con_header": "canary-header/P0w+81mmRsQe",
    "con_basic": "canary-basic/Yy7+44ndKoHa",
    "con_query": "canary-query/Uu2+63jsBfWc",
}
SECRETS = tuple(CANARIES.values())
MARKER = "marker-of-the-client-55d1"
INJECTED = ("bearer.test", "header.test", "basic.test", "query.test")
HOSTS = (*INJECTED, "missing.test", "dead.test", "denied.test")

# A sandbox process that asks for everything, remembers every answer, and waits to be searched.
CLIENT = """
import http.client, json, os, ssl, sys
from urllib.parse import urlsplit
proxy = urlsplit(os.environ["HTTPS_PROXY"])
from base64 import b64encode
pair = b64encode(f"{proxy.username}:{proxy.password}".encode()).decode()
trust = ssl.create_default_context()
answers = []
for host, method, path, headers in json.loads(sys.stdin.readline()):
    link = http.client.HTTPSConnection(proxy.hostname, proxy.port, context=trust, timeout=10)
    link.set_tunnel(host, 443, {"Proxy-Authorization": "Basic " + pair})
    try:
        link.request(method, path, headers=headers)
        answer = link.getresponse()
        answers.append([answer.status, answer.getheaders(), answer.read().decode("latin-1")])
    except http.client.IncompleteRead as error:
        answers.append([answer.status, answer.getheaders(), error.partial.decode("latin-1")])
    except (OSError, http.client.HTTPException) as error:
        answers.append([0, [], repr(error)])
    link.close()
marker = os.environ["MARKER"]
print(json.dumps(answers), flush=True)
sys.stdin.readline()
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Busy:
    """What is left of a busy run: every sink by its name."""

    sinks: dict[str, bytes]
    memory: list[str]  # spellings found in the client's memory
    marker_in_memory: bool
    statuses: list[int]
    received: bytes


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Busy]:
    folder = tmp_path_factory.mktemp("canaries")
    files = write_origin_files(folder, list(HOSTS))
    with in_background(recording_origin(files.server_context())) as origin:
        _script(origin)
        dead = _unused_port()
        setting = Setting(
            plan=_plan(),
            credentials=CANARIES,
            in_files=True,
            connect_to={f"{host}:443": f"127.0.0.1:{origin.port if host != 'dead.test' else dead}" for host in HOSTS},
            ca_file=files.ca_file,
            further={"log": {"level": "debug"}},
        )
        with gateway_process(folder / "gateway", setting) as gateway:
            yield _run(gateway, origin, folder)


def _plan() -> bytes:
    return plan(
        [
            route("bearer", ["bearer.test", "dead.test"], "con_bearer", placeholders=[_placeholder()]),
            route("header", ["header.test"], "con_header", header("x-api-key")),
            route("basic", ["basic.test"], "con_basic", basic("user")),
            route("query", ["query.test"], "con_query", {"type": "query", "parameter": "key"}),
            route("missing", ["missing.test"], "con_nowhere"),
        ],
        [denied("denied", "denied.test", "because")],
    )


def _placeholder() -> dict[str, object]:
    return {"value": "PLACEHOLDER-0001", "in": ["header", "query", "path"]}


def _script(origin: RecordingOrigin) -> None:
    """Make each host give back the credential it was sent, in every spelling and at every moment."""
    for host, secret in zip(INJECTED, SECRETS, strict=True):
        body = b"you sent: " + b"|".join(_echoes(secret))
        head = b"HTTP/1.1 %d Said\r\nContent-Length: %d\r\nX-Echo: " + secret.encode() + b"\r\n\r\n"
        broken = b"HTTP/1.1 200 " + secret.encode() + b"\r\nBad\x00: " + body
        cut = b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n" + body
        scripts = {
            "echo": Answer(parts=(head % (200, len(body)) + body,)),
            "unauthorized": Answer(parts=(head % (401, len(body)) + body,)),
            "broken": Answer(parts=(broken,), then=Then.CLOSE),
            "reset": Answer(parts=(b"HTTP/1.1 200 OK\r\nContent-Le",), then=Then.ABORT),
            "cut": Answer(parts=(cut,), then=Then.CLOSE),
        }
        origin.answers.update({f"/{host}/{name}": answer for name, answer in scripts.items()})


def _echoes(secret: str) -> list[bytes]:
    raw = secret.encode()
    in_base64 = [before + raw + after for before in (b"", b"a", b"ab") for after in (b"", b"z", b"zz")]
    return [
        *(raw, raw.hex().encode(), raw.hex().upper().encode(), quote(secret, safe="").encode()),
        *map(base64.b64encode, in_base64),
        *map(base64.urlsafe_b64encode, in_base64),
        json.dumps(secret).replace("/", "\\/").encode(),
    ]


def _requests() -> list[tuple[str, str, str, dict[str, str]]]:
    names = ("echo", "unauthorized", "broken", "reset", "cut")
    asked = [(host, "GET", f"/{host}/{name}", {"X-Marker": MARKER}) for host in INJECTED for name in names]
    return [
        *asked,
        *((host, "GET", path, {}) for host in INJECTED for path in ("/", "/a/../b", "/%00")),
        ("bearer.test", "TRACE", "/", {}),
        ("bearer.test", "GET", "/x?token=PLACEHOLDER-0001", {"X-Token": "PLACEHOLDER-0001"}),
        ("header.test", "GET", "/x?token=PLACEHOLDER-0001", {}),
        ("missing.test", "GET", "/", {}),
        ("dead.test", "GET", "/", {}),
        ("denied.test", "GET", "/", {}),
        ("unknown.test", "GET", "/", {}),
    ]


def _run(gateway: GatewayProcess, origin: RecordingOrigin, folder: Path) -> Busy:
    environment = gateway.client_environment(folder / "home") | {"MARKER": MARKER}
    process = subprocess.Popen(
        [sys.executable, "-I", "-c", CLIENT],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=folder,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process:
        process.stdin.write(json.dumps(_requests()).encode() + b"\n")
        process.stdin.flush()
        said = process.stdout.readline()
        memory = _read_memory(process.pid)  # it waits for another line, which never comes
    problems = [
        gateway.ask_admin("PUT", "/v1/sandboxes/sbx_one/plan", b"{}")[1],
        gateway.ask_admin("GET", "/v1/sandboxes/sbx_one/plan")[1],
    ]
    metrics = gateway.metrics().encode()
    gateway.terminate()
    sinks = {
        "log": gateway.log,
        "output": gateway.output,
        "audit": gateway.audit_bytes,
        "metrics": metrics,
        "admin": b"\n".join(problems),
        "answers to the client": json.dumps(json.loads(said), ensure_ascii=False).encode("latin-1", "replace"),
        "environment of the client": json.dumps(environment).encode(),
    }
    return Busy(
        sinks=sinks,
        memory=leaks(memory, SECRETS),
        marker_in_memory=MARKER.encode() in memory,
        statuses=[answer[0] for answer in json.loads(said)],
        received=origin.received,
    )


def _read_memory(pid: int) -> bytes:
    """Read every readable page of a process: what a debugger in the sandbox could see."""
    pages = []
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            span, mode, *_ = line.split()
            if not mode.startswith("r") or line.endswith(("[vvar]", "[vsyscall]", "[vvar_vclock]")):
                continue
            begin, end = (int(text, 16) for text in span.split("-"))
            try:
                memory.seek(begin)
                pages.append(memory.read(end - begin))
            except (OSError, ValueError):
                continue  # a page that was unmapped since, or that the kernel does not give out
    return b"\n".join(pages)


def _unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_the_run_was_busy(busy: Busy) -> None:
    # Every canary went out, and every kind of failure was met: otherwise clean sinks would mean nothing.
    for connection_id in ("con_bearer", "con_header", "con_query"):
        secret = CANARIES[connection_id]
        assert secret.encode() in busy.received or spellings(secret)["percent"] in busy.received
    assert base64.b64encode(b"user:" + CANARIES["con_basic"].encode()) in busy.received
    assert {200, 400, 401, 405, 502} <= set(busy.statuses)
    assert b"denied_by_plan" in busy.sinks["audit"]
    assert b"sallyport_requests_total" in busy.sinks["metrics"]


@pytest.mark.parametrize(
    "sink",
    ["log", "output", "audit", "metrics", "admin", "answers to the client", "environment of the client"],
)
def test_c14_no_sink_holds_a_canary(busy: Busy, sink: str) -> None:
    assert leaks(busy.sinks[sink], SECRETS) == []


def test_c14_the_client_s_memory_holds_no_canary(busy: Busy) -> None:
    assert busy.marker_in_memory, "the search of the client's memory does not work"
    assert busy.memory == []


def test_c3_echoed_secrets_are_blanked_at_the_same_length(busy: Busy) -> None:
    answers = json.loads(busy.sinks["answers to the client"].decode("latin-1"))
    echoes = [body for status, _, body in answers if status == 200 and body.startswith("you sent: ")]
    assert echoes
    assert leaks("".join(echoes).encode("latin-1"), SECRETS) == []
    assert len({len(body) for body in echoes}) == 2  # whole ones, and those that were cut short


def test_c14_the_gateway_writes_no_core(tmp_path: Path) -> None:
    with gateway_process(tmp_path, Setting(plan=plan([]))) as gateway:
        limits = Path(f"/proc/{gateway.process.pid}/limits").read_text().splitlines()
        (core,) = [line.split() for line in limits if line.startswith("Max core file size")]
        assert core[4:6] == ["0", "0"]
