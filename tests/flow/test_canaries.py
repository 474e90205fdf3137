"""C14: planted credentials, a busy run with every kind of failure, and then every sink is searched for them.

Searched in the spellings a secret might be carried in: as it is, base64 at its three offsets, hex, percent. A marker
that must be found wherever it belongs shows each time that the search itself works. Once by a gateway that stands
alone, once the whole way: sandboxd, its tunnel, and the parts that `sallyport up` starts.
"""

import base64
import http.client
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from demo.leaks import leaks, spellings
from demo.tap import Tap, tapping
from tests.support.background import in_background
from tests.support.busy_run import CANARIES, MARKER, SECRETS, Asked, BusyScene, ask_everything, busy_scene, read_memory
from tests.support.figures import RecordProperty
from tests.support.gateway_plans import SANDBOX, plan
from tests.support.gateway_process import Setting, gateway_process
from tests.support.operator import Operator
from tests.support.sandboxd_process import SandboxdProcess, sandboxd_process
from tests.support.up_process import UpProcess, up_process

# Four processes start one after the other, on a machine that may be busy with other tests.
pytestmark = pytest.mark.timeout(120)


@dataclass(frozen=True, slots=True, kw_only=True)
class Busy:
    """What is left of a busy run: every sink by its name, and what stands in it when the search works."""

    sinks: dict[str, bytes]
    markers: dict[str, bytes]
    answers: Asked
    received: bytes


ALONE = ("log", "output", "audit", "metrics", "admin")
WHOLE = (
    *(
        "log",
        "log of sandboxd",
        "audit",
        "metrics",
        "admin",
        "tunnel",
        "memory of sandboxd",
        "environment of the parts",
    ),
    *("files of the control plane", "files of the gateway", "files of sandboxd"),
)
OF_THE_CLIENT = ("answers to the client", "environment of the client", "memory of the client")


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Busy]:
    folder = tmp_path_factory.mktemp("canaries")
    with busy_scene(folder) as scene, gateway_process(folder / "gateway", scene.setting) as gateway:
        environment = gateway.client_environment(folder / "home") | {"MARKER": MARKER}
        asked = ask_everything(environment, folder)
        problems = [
            gateway.ask_admin("PUT", f"/v1/sandboxes/{SANDBOX}/plan", b"{}")[1],
            gateway.ask_admin("GET", f"/v1/sandboxes/{SANDBOX}/plan")[1],
        ]
        metrics = gateway.metrics().encode()
        gateway.terminate()
        sinks = {
            "log": gateway.log,
            "output": gateway.output,
            "audit": gateway.audit_bytes,
            "metrics": metrics,
            "admin": b"\n".join(problems),
        }
        yield _busy(scene, asked, environment, sinks, {})


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Busy]:
    folder = tmp_path_factory.mktemp("whole")
    with busy_scene(folder) as scene, up_process(folder / "up", scene.setting, "--no-sandbox") as up:
        tokens = Operator(up).mint(SANDBOX)
        host, _, port = up.addresses["tunnel"].partition("://")[2].rpartition(":")
        with in_background(tapping(host, int(port))) as tap, _sandboxd(folder, tap, tokens) as sandboxd:
            environment = sandboxd.client_environment(folder / "home") | {"MARKER": MARKER}
            asked = ask_everything(environment, folder)
            sinks = _sinks_of_all(up, sandboxd, tap, folder)
            assert up.end() == 0
            # What is written last: the audit's last records, the log's last lines, the database without its journal.
            sinks |= {"log": up.log.encode()} | _files_of_all(up, sandboxd)
        sinks["log of sandboxd"] = sandboxd.log
        markers = {
            "log": b"tunnel_opened",
            "log of sandboxd": b"tunnel_opened",
            "tunnel": MARKER.encode(),
            "memory of sandboxd": str(tokens["token"]).encode(),
            "environment of the parts": b"SALLYPORT_GATEWAY_URL=",
            "files of the control plane": b"con_bearer",
            "files of the gateway": b"con_bearer",
            "files of sandboxd": b"BEGIN CERTIFICATE",
        }
        yield _busy(scene, asked, environment, sinks, markers)


@contextmanager
def _sandboxd(folder: Path, tap: Tap, tokens: dict[str, object]) -> Iterator[SandboxdProcess]:
    with sandboxd_process(
        folder / "sandboxd", f"ws://127.0.0.1:{tap.port}", tokens, settings={"SALLYPORT_LOG_LEVEL": "debug"}
    ) as sandboxd:
        yield sandboxd


def _sinks_of_all(up: UpProcess, sandboxd: SandboxdProcess, tap: Tap, folder: Path) -> dict[str, bytes]:
    """Read what is gone when the parts have ended."""
    admin = urlsplit(up.addresses["admin"]).netloc
    pids = [up.pid("control-plane"), up.pid("gateway"), up.pid("worker"), sandboxd.process.pid]
    parts = {
        "metrics": _get(admin, "/metrics"),
        "admin": b"\n".join(
            [_get(admin, f"/v1/sandboxes/{SANDBOX}/plan"), _get(admin, "/readyz"), _get(admin, "/none")]
        ),
        "tunnel": tap.everything(),
    }
    try:
        memory = {
            "memory of sandboxd": read_memory(sandboxd.process.pid),
            "environment of the parts": b"\0".join(Path(f"/proc/{pid}/environ").read_bytes() for pid in pids),
        }
    except PermissionError:
        memory = {}  # nobody but root may look; the tests of these are skipped by name
    return parts | memory


def _files_of_all(up: UpProcess, sandboxd: SandboxdProcess) -> dict[str, bytes]:
    return {
        "audit": (up.data_dir / "gateway" / "audit.jsonl").read_bytes(),
        "files of the control plane": _content(up.data_dir / "control-plane"),
        "files of the gateway": _content(up.data_dir / "gateway"),
        "files of sandboxd": _content(sandboxd.folder),
    }


def _content(folder: Path) -> bytes:
    return b"\n".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def _get(address: str, path: str) -> bytes:
    link = http.client.HTTPConnection(address, timeout=10)
    try:
        link.request("GET", path)
        return link.getresponse().read()
    finally:
        link.close()


def _busy(
    scene: BusyScene, asked: Asked, environment: dict[str, str], sinks: dict[str, bytes], markers: dict[str, bytes]
) -> Busy:
    return Busy(
        sinks=sinks
        | {
            "answers to the client": asked.everything,
            "environment of the client": json.dumps(environment).encode(),
            "memory of the client": asked.memory,
        },
        markers=markers
        | {
            "audit": b"denied_by_plan",
            "metrics": b"sallyport_requests_total",
            "answers to the client": b"you sent: ",
            "environment of the client": MARKER.encode(),
            "memory of the client": MARKER.encode(),
        },
        answers=asked,
        received=scene.origin.received,
    )


@pytest.fixture(scope="module", params=["alone", "whole"])
def busy(request: pytest.FixtureRequest) -> Busy:
    found: Busy = request.getfixturevalue(request.param)
    return found


def test_the_run_was_busy(busy: Busy) -> None:
    # Every canary went out, and every kind of failure was met: otherwise clean sinks would mean nothing.
    for connection_id in ("con_bearer", "con_header", "con_query"):
        secret = CANARIES[connection_id]
        assert secret.encode() in busy.received or spellings(secret)["percent"] in busy.received
    assert base64.b64encode(b"user:" + CANARIES["con_basic"].encode()) in busy.received
    assert {200, 400, 401, 405, 502} <= {status for status, _, _ in busy.answers.answers}


def _assert_clean(busy: Busy, sink: str) -> None:
    if sink not in busy.sinks:
        pytest.skip(f"only root may read it: {sink}")
    content = busy.sinks[sink]
    assert busy.markers.get(sink, b"") in content, f"the search of the {sink} does not work"
    assert leaks(content, SECRETS) == [], f"in the {sink}:\n{_surroundings(content)}"


def _surroundings(content: bytes) -> str:
    """Show what stands around each secret, so that it can be told how it got there; never the secret."""
    shown = []
    for needle in (needle for secret in SECRETS for needle in spellings(secret).values()):
        at = content.find(needle)
        if at >= 0:
            around = content[max(at - 300, 0) : at + 300]
            shown.append(f"{at}: {_span_of(content, at)!r} {around.replace(needle, b'<secret>')!r}")
    return "\n".join(shown)


def _span_of(content: bytes, at: int) -> bytes:
    """Return the line of maps before this place of a process's memory; empty for what is no memory."""
    lines = re.findall(rb"(?m)^[0-9a-f]+-[0-9a-f]+ [-rwxps]{4} .*$", content[:at])
    return lines[-1] if lines else b""


@pytest.mark.counted("sinks", "leaks")
@pytest.mark.parametrize("sink", [*ALONE, *OF_THE_CLIENT])
def test_c14_no_sink_of_a_gateway_alone_holds_a_canary(alone: Busy, sink: str) -> None:
    _assert_clean(alone, sink)


@pytest.mark.counted("sinks", "leaks")
@pytest.mark.parametrize("sink", [*WHOLE, *OF_THE_CLIENT])
def test_c14_no_sink_of_the_whole_way_holds_a_canary(whole: Busy, sink: str) -> None:
    _assert_clean(whole, sink)


@pytest.mark.counted("echoes of a credential", "leaks")
def test_c3_echoed_secrets_are_blanked_at_the_same_length(busy: Busy, record_property: RecordProperty) -> None:
    echoes = [body for status, _, body in busy.answers.answers if status == 200 and body.startswith("you sent: ")]
    assert echoes
    record_property("tried", ["echoes of a credential", len(echoes)])
    assert leaks("".join(echoes).encode("latin-1"), SECRETS) == []
    assert len({len(body) for body in echoes}) == 2  # whole ones, and those that were cut short


def test_c14_the_gateway_writes_no_core(tmp_path: Path) -> None:
    with gateway_process(tmp_path, Setting(plan=plan([]))) as gateway:
        limits = Path(f"/proc/{gateway.process.pid}/limits").read_text().splitlines()
        (core,) = [line.split() for line in limits if line.startswith("Max core file size")]
        assert core[4:6] == ["0", "0"]
