"""A busy run with planted credentials: every kind of injection and failure, by a client that waits to be searched.

Each host gives back the credential it was sent, in every spelling and at every moment, so that what is not blanked on
its way is found afterwards.
"""

import base64
import json
import secrets
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from demo.certificates import write_origin_files
from tests.support.background import in_background
from tests.support.gateway_plans import basic, denied, header, plan, route
from tests.support.gateway_process import Setting
from tests.support.origin import Answer, RecordingOrigin, Then, recording_origin
from tests.support.refusing_port import refusing_port

# Made anew for each run: what is found was put there by this run, and by no source file, cache or earlier process. The
# characters are some that the spellings of a secret differ in.
CANARIES = {
    f"con_{kind}": f"canary-{kind}/{secrets.token_hex(4)}+{secrets.token_hex(4)}"
    for kind in ("bearer", "header", "basic", "query")
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
shown = {"Proxy-Authorization": "Basic " + pair} if proxy.username else {}
trust = ssl.create_default_context()
answers = []
for host, method, path, headers in json.loads(sys.stdin.readline()):
    link = http.client.HTTPSConnection(proxy.hostname, proxy.port, context=trust, timeout=10)
    link.set_tunnel(host, 443, shown)
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
class BusyScene:
    """The origins of a busy run, and how a gateway is to be set for it."""

    origin: RecordingOrigin
    setting: Setting


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the client was told, and its memory while it still held it."""

    answers: list[tuple[int, list[list[str]], str]]
    memory: bytes

    @property
    def everything(self) -> bytes:
        """All answers with their fields, as bytes to be searched."""
        return json.dumps(self.answers, ensure_ascii=False).encode("latin-1", "replace")


@contextmanager
def busy_scene(folder: Path) -> Iterator[BusyScene]:
    """Play the origins until the block ends."""
    files = write_origin_files(folder, list(HOSTS))
    with in_background(recording_origin(files.server_context())) as origin, refusing_port() as dead:
        _script(origin)
        setting = Setting(
            plan=_plan(),
            credentials=CANARIES,
            in_files=True,
            connect_to={f"{host}:443": f"127.0.0.1:{origin.port if host != 'dead.test' else dead}" for host in HOSTS},
            ca_file=files.ca_file,
            # Idle tunnels are waited for until half of the drain.
            further={"log": {"level": "debug"}, "timeouts": {"drain": "1s"}},
        )
        yield BusyScene(origin=origin, setting=setting)


def ask_everything(environment: Mapping[str, str], folder: Path) -> Asked:
    """Run the client with this environment and nothing else; it is searched before it ends."""
    process = subprocess.Popen(
        [sys.executable, "-I", "-c", CLIENT],
        env=dict(environment),
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
        memory = read_memory(process.pid)  # it waits for another line, which never comes
    return Asked(answers=json.loads(said), memory=memory)


def read_memory(pid: int) -> bytes:
    """Read every readable page of a process, each span behind its line of maps; PermissionError where not allowed."""
    pages = []
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            span, mode, *_ = line.split()
            if not mode.startswith("r") or line.endswith(("[vvar]", "[vsyscall]", "[vvar_vclock]")):
                continue
            begin, end = (int(text, 16) for text in span.split("-"))
            try:
                memory.seek(begin)
                pages.append(line.encode() + b"\n" + memory.read(end - begin))
            except (OSError, ValueError):
                continue  # a page that was unmapped since, or that the kernel does not give out
    return b"\n".join(pages)


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
