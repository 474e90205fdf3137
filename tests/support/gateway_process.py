"""A real gateway in a process of its own: `sallyport gateway --config FILE`, on free ports, always torn down.

What a test gets is what a user gets: a proxy address, a token, a CA, an admin address, a log and an audit file.
"""

import contextlib
import http.client
import json
import os
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from sallyport.net.trust_files import write_trust
from sallyport.trust_env import variables
from sallyport_cli.keys import generate_key_files, mint, read_private_key
from tests.support.gateway_plans import ORGANIZATION, SANDBOX
from tests.support.raw_end import WAIT_SECONDS

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 60.0
STOP_SECONDS = 20.0
# The audit log is flushed four times a second; between two looks at a file the processor is left to the gateway.
_POLL_SECONDS = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What a gateway of a test is started with; `further` are sections of the settings file, merged over ours."""

    plan: bytes
    credentials: Mapping[str, str] = field(default_factory=dict)  # connection id to value
    in_files: bool = False  # credentials in files, not in the gateway's environment
    connect_to: Mapping[str, str] = field(default_factory=dict)
    ca_file: Path | None = None
    further: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    workers: int = 1
    environment: Mapping[str, str] = field(default_factory=dict)  # further variables of its process

    def __repr__(self) -> str:
        return f"<Setting {sorted(self.credentials)}>"


class GatewayProcess:
    """A running gateway and what is known of it from outside."""

    def __init__(self, process: subprocess.Popen[bytes], folder: Path, token: str) -> None:
        self.process = process
        self.folder = folder
        self.token = token
        self.proxy_port = 0
        self.tunnel_port = 0
        self.admin_port = 0
        self._log: list[bytes] = []
        self._ready = threading.Event()
        self._may_read = threading.Event()
        self._may_read.set()
        self._reader = threading.Thread(target=self._read_log, name="gateway log", daemon=True)
        self._reader.start()

    # -- where it is

    @property
    def proxy_url(self) -> str:
        """The proxy with the token as its password, as it stands in variables."""
        return f"http://x:{self.token}@127.0.0.1:{self.proxy_port}"

    @property
    def ca_file(self) -> Path:
        """The sandbox's CA alone, as the proxy handed it out."""
        return self.folder / "sandbox-ca.pem"

    @property
    def bundle_file(self) -> Path:
        """The system's roots and the sandbox's CA."""
        return self.folder / "bundle.pem"

    def client_environment(self, home: Path) -> dict[str, str]:
        """Return the whole environment of a sandbox process: the variables of a sandbox and nothing of ours."""
        trust = write_trust(self.folder / "trust", self.ca_file.read_bytes(), os.environ)
        ours = variables(
            proxy_url=self.proxy_url,
            ca_file=str(trust.ca),
            bundle_file=str(trust.bundle),
            java_trust_store=str(trust.java),
            wgetrc=str(trust.wgetrc),
        )
        home.mkdir(parents=True, exist_ok=True)
        return {"PATH": os.environ["PATH"], "HOME": str(home), "LANG": "C.UTF-8"} | ours

    def mint_token(self, audience: str, *, sandbox_id: str = SANDBOX, ttl_seconds: float = 3600) -> str:
        """Sign a token that the gateway accepts."""
        return _mint(self.folder, audience, sandbox_id, ttl_seconds)

    # -- what it says

    @property
    def log(self) -> bytes:
        """Everything it has written to standard error so far."""
        return b"".join(self._log)

    def told(self, event: str, times: int, within_seconds: float = WAIT_SECONDS) -> list[dict[str, Any]]:
        """Return the log's lines of one event, which are so many; raises AssertionError when they are not.

        The gateway writes its log by a thread, and another reads it here: a line may come after what it is about.
        """
        deadline = time.perf_counter() + within_seconds
        while True:
            lines = [json.loads(line) for line in self.log.splitlines() if f'"{event}"'.encode() in line]
            if len(lines) >= times or time.perf_counter() > deadline:
                assert len(lines) == times, lines
                return lines
            time.sleep(_POLL_SECONDS)

    @contextlib.contextmanager
    def unread_log(self) -> Iterator[None]:
        """Read nothing of its log while the block runs."""
        self._may_read.clear()
        try:
            yield
        finally:
            self._may_read.set()

    @property
    def output(self) -> bytes:
        """Everything it has written to standard output so far."""
        return (self.folder / "stdout").read_bytes()

    @property
    def audit_bytes(self) -> bytes:
        path = self.folder / "audit.jsonl"
        return path.read_bytes() if path.exists() else b""

    def audit(
        self, enough: Callable[[list[dict[str, Any]]], bool], within_seconds: float = WAIT_SECONDS
    ) -> list[dict[str, Any]]:
        """Return the audit records once there are enough of them; raises AssertionError when that does not come."""
        deadline = time.perf_counter() + within_seconds
        while True:
            whole = self.audit_bytes.rpartition(b"\n")[0]  # a line that is being written may be seen in part
            records = [json.loads(line) for line in whole.splitlines()]
            if enough(records):
                return records
            assert time.perf_counter() < deadline, f"only {len(records)} audit records, the last ones: {records[-3:]}"
            time.sleep(_POLL_SECONDS)

    def ask_admin(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        """Ask the admin listener."""
        link = http.client.HTTPConnection("127.0.0.1", self.admin_port, timeout=10)
        try:
            headers = {"Content-Type": "application/json"} if body is not None else {}
            link.request(method, path, body, headers)
            answer = link.getresponse()
            return answer.status, answer.read()
        finally:
            link.close()

    def metrics(self) -> str:
        """Return the metrics as they are scraped."""
        status, body = self.ask_admin("GET", "/metrics")
        assert status == 200, body
        return body.decode()

    def metric(self, name: str, **labels: str) -> float:
        """Return the sum of the samples of one metric that carry these labels."""
        total = 0.0
        for line in self.metrics().splitlines():
            sample, _, value = line.rpartition(" ")
            if sample.partition("{")[0] == name and all(f'{key}="{text}"' in sample for key, text in labels.items()):
                total += float(value)
        return total

    def put_plan(self, plan: bytes, sandbox_id: str = SANDBOX) -> tuple[int, bytes]:
        """Push a plan, as an operator of a gateway that stands alone does."""
        return self.ask_admin("PUT", f"/v1/sandboxes/{sandbox_id}/plan", plan)

    def resident_bytes(self) -> int:
        """Return how much memory the process holds now."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("the process is gone")

    # -- its life

    def terminate(self) -> int:
        """Ask it to drain (SIGTERM) and return its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def wait(self) -> int:
        """Wait for its end and return its exit status."""
        status = self.process.wait(STOP_SECONDS)
        self._reader.join(STOP_SECONDS)
        return status

    def await_ready(self) -> None:
        """Wait for the line that says where it listens; raises AssertionError with the log where it does not come."""
        self._ready.wait(START_SECONDS)
        assert self.proxy_port, f"the gateway did not start:\n{self.log.decode(errors='replace')}"

    def fetch_ca(self, system_roots: bytes) -> None:
        """Fetch the sandbox's CA from the proxy, and write it alone and beside the system's roots."""
        link = http.client.HTTPConnection("127.0.0.1", self.proxy_port, timeout=10)
        try:
            link.request("GET", "/v1/ca.pem", headers={"Proxy-Authorization": f"Bearer {self.token}"})
            answer = link.getresponse()
            pem = answer.read()
        finally:
            link.close()
        assert answer.status == 200, pem
        self.ca_file.write_bytes(pem)
        self.bundle_file.write_bytes(system_roots + b"\n" + pem)

    def _read_log(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._may_read.wait()
            self._log.append(line)
            if not self._ready.is_set() and b'"ready"' in line:
                self._note_ready(json.loads(line))
        self._ready.set()

    def _note_ready(self, event: Mapping[str, str]) -> None:
        self.proxy_port = int(event["proxy"].rpartition(":")[2])
        self.tunnel_port = 0 if event["tunnel"] == "off" else int(event["tunnel"].rpartition(":")[2])
        self.admin_port = int(event["admin"].rpartition(":")[2])
        self._ready.set()


@contextlib.contextmanager
def gateway_process(folder: Path, setting: Setting) -> Iterator[GatewayProcess]:
    """Start a gateway with its files in `folder`; it is drained, or killed, when the block ends."""
    folder.mkdir(parents=True, exist_ok=True)
    keys = generate_key_files(folder / "keys")
    token = _mint(folder, "sallyport-proxy", SANDBOX, 3600)
    environment: dict[str, str] = dict(setting.environment)
    config = _write_config(folder, setting, environment, keys.public)
    with running_gateway(folder, config, environment, token) as gateway:
        gateway.fetch_ca(_system_roots())
        yield gateway


@contextlib.contextmanager
def linked_gateway(
    folder: Path,
    control: Mapping[str, object],
    upstream: Mapping[str, object],
    further: Mapping[str, object],
    environment: Mapping[str, str] | None = None,
) -> Iterator[GatewayProcess]:
    """Start a gateway that is told everything by a control plane; it may not have heard of it yet."""
    folder.mkdir(parents=True, exist_ok=True)
    document = {
        "listen": {"proxy": "127.0.0.1:0", "tunnel": "127.0.0.1:0", "admin": "127.0.0.1:0"},
        "control": dict(control),
        "upstream": dict(upstream),
        "network": {"allow": ["127.0.0.0/8"]},
        "audit": {"path": "audit.jsonl"},
    }
    config = folder / "gateway.yaml"
    config.write_text(yaml.safe_dump(document | dict(further)))
    with running_gateway(folder, config, environment or {}) as gateway:
        yield gateway


@contextlib.contextmanager
def running_gateway(
    folder: Path, config: Path, environment: Mapping[str, str], token: str = ""
) -> Iterator[GatewayProcess]:
    """Start a gateway by a settings file that is there, and wait until it says where it listens."""
    # -P: not the test's folder, only what is installed or on the path.
    command = [sys.executable, "-P", "-m", "sallyport_cli.main", "gateway", "--config", str(config)]
    ours = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    with open(folder / "stdout", "wb") as output:
        process = subprocess.Popen(
            command, env=ours | dict(environment), stdout=output, stderr=subprocess.PIPE, cwd=folder
        )
    gateway = GatewayProcess(process, folder, token)
    try:
        gateway.await_ready()
        yield gateway
    finally:
        _end(gateway)


def _mint(folder: Path, audience: str, sandbox_id: str, ttl_seconds: float) -> str:
    return mint(
        read_private_key(folder / "keys" / "private.pem"),
        sandbox_id=sandbox_id,
        organization_id=ORGANIZATION,
        audience=audience,
        issuer="sallyport",
        ttl_seconds=ttl_seconds,
        now=time.time_ns() / 1e9,
    ).token


def _write_config(folder: Path, setting: Setting, environment: dict[str, str], public_key: Path) -> Path:
    (folder / "plan.json").write_bytes(setting.plan)
    document: dict[str, Any] = {
        "listen": {"proxy": "127.0.0.1:0", "tunnel": "127.0.0.1:0", "admin": "127.0.0.1:0"},
        "plans": ["plan.json"],
        "credentials": {},
        "tokens": {"public_key": str(public_key)},
        "interception": {"ca_dir": "ca"},
        "upstream": {"connect_to": dict(setting.connect_to)},
        "network": {"allow": ["127.0.0.0/8"]},
        "audit": {"path": "audit.jsonl"},
        "workers": setting.workers,
    }
    if setting.ca_file is not None:
        document["upstream"]["ca_file"] = str(setting.ca_file)
    for number, (connection_id, value) in enumerate(setting.credentials.items()):
        if setting.in_files:
            path = folder / f"credential-{number}"
            path.write_text(value)
            document["credentials"][connection_id] = {"file": str(path)}
        else:
            environment[f"CREDENTIAL_{number}"] = value
            document["credentials"][connection_id] = {"env": f"CREDENTIAL_{number}"}
    for section, values in setting.further.items():
        document[section] = document.get(section, {}) | values
    config = folder / "gateway.yaml"
    config.write_text(yaml.safe_dump(document))
    return config


def _system_roots() -> bytes:
    path = ssl.get_default_verify_paths().cafile
    return Path(path).read_bytes() if path is not None else b""


def _end(gateway: GatewayProcess) -> None:
    process = gateway.process
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    gateway._reader.join(STOP_SECONDS)
    if process.stderr is not None:
        process.stderr.close()
