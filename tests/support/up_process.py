"""Every part as processes of their own: `sallyport up --free-ports --json`, always torn down.

What a test gets is what a user gets: the addresses it prints, the logs, and the process ids to kill.
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import yaml

from sallyport.net.trust_files import trust_files
from sallyport.trust_env import variables
from tests.support.gateway_process import ROOT, Setting

START_SECONDS = 60.0
STOP_SECONDS = 30.0
PARTS = ("control-plane", "gateway", "worker", "sandboxd")


class UpProcess:
    """A running `sallyport up` and what is known of it from outside."""

    def __init__(self, process: subprocess.Popen[bytes], data_dir: Path) -> None:
        self.process = process
        self.data_dir = data_dir
        self.addresses: dict[str, str] = {}
        self._log: list[str] = []
        self._reader = threading.Thread(target=self._read_log, name="up log", daemon=True)
        self._reader.start()
        self._started = threading.Event()
        self._output = threading.Thread(target=self._read_addresses, name="up output", daemon=True)
        self._output.start()

    @property
    def log(self) -> str:
        """Everything the parts have said so far, each line with its part's name in front."""
        return "".join(self._log)

    @property
    def sandboxd_state(self) -> Path:
        """Where sandboxd keeps what clients need."""
        return self.data_dir / "sandbox" / "state"

    def pid(self, part: str) -> int:
        """Return the process id a part has now; raises AssertionError while it has none."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        for child in map(int, children):
            if _is_part(child, part):
                return child
        raise AssertionError(f"{part} does not run")

    def kill(self, part: str) -> int:
        """Kill a part as nothing it could prepare for, and return its process id; one that restarts is waited for."""
        deadline = time.perf_counter() + START_SECONDS
        while (pid := self._try_to_kill(part)) is None:
            assert time.perf_counter() < deadline, f"{part} does not run:\n{self.log[-2000:]}"
            time.sleep(0.01)
        return pid

    def _try_to_kill(self, part: str) -> int | None:
        """Kill by a handle, not by a number that may be another process's by then."""
        with contextlib.suppress(AssertionError, ProcessLookupError):
            pid = self.pid(part)
            handle = os.pidfd_open(pid)
            try:
                if _is_part(pid, part):  # looked at again, now that the handle holds it
                    signal.pidfd_send_signal(handle, signal.SIGKILL)
                    return pid
            finally:
                os.close(handle)
        return None

    def client_environment(self, home: Path) -> dict[str, str]:
        """Return the whole environment of a sandbox process: it leads to sandboxd and holds no token."""
        return sandbox_environment(self.addresses["sandboxd"], self.sandboxd_state, home)

    def await_started(self) -> None:
        """Wait for the addresses; raises AssertionError with the log where they do not come."""
        self._started.wait(START_SECONDS)
        assert self.addresses, f"up did not start:\n{self.log}"

    def end(self) -> int:
        """Ask it to end (SIGTERM) and return its exit status."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._reader.join(STOP_SECONDS)
        self._output.join(STOP_SECONDS)
        for pipe in (self.process.stdout, self.process.stderr):
            assert pipe is not None, "both are pipes"
            pipe.close()
        return self.process.returncode

    def _read_log(self) -> None:
        assert self.process.stderr is not None, "it is a pipe"
        for line in self.process.stderr:
            self._log.append(line.decode("utf-8", "replace"))

    def _read_addresses(self) -> None:
        assert self.process.stdout is not None, "it is a pipe"
        text = b""
        for line in self.process.stdout:
            text += line
            with contextlib.suppress(ValueError):
                document = json.loads(text)
                if "error" in document:
                    self._log.append(document["error"]["message"])
                else:
                    self.addresses = {name: str(value) for name, value in document.items()}
                break
        self._started.set()


def sandbox_environment(proxy_url: str | None, state_dir: Path, home: Path) -> dict[str, str]:
    """Return the whole environment of a process beside a sandboxd that keeps its files in state_dir."""
    trust = trust_files(state_dir)
    home.mkdir(parents=True, exist_ok=True)
    return {"PATH": os.environ["PATH"], "HOME": str(home), "LANG": "C.UTF-8"} | variables(
        proxy_url=proxy_url,
        ca_file=str(trust.ca),
        bundle_file=str(trust.bundle),
        java_trust_store=str(trust.java),
        wgetrc=str(trust.wgetrc),
    )


def _is_part(pid: int, part: str) -> bool:
    """Whether a process is that part; one that has ended, reaped or not, is none."""
    try:
        return part.encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError):
        return False


@contextlib.contextmanager
def up_process(
    folder: Path, setting: Setting, *options: str, environment: Mapping[str, str] | None = None
) -> Iterator[UpProcess]:
    """Start every part over `folder`/data; all are stopped, or killed, when the block ends."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "plan.json").write_bytes(setting.plan)
    upstream: dict[str, object] = {"connect_to": dict(setting.connect_to)}
    if setting.ca_file is not None:
        upstream["ca_file"] = str(setting.ca_file)
    settings = {"upstream": upstream, "network": {"allow": ["127.0.0.0/8"]}} | dict(setting.further)
    (folder / "gateway.yaml").write_text(yaml.safe_dump(settings))
    command = [sys.executable, "-P", "-m", "sallyport_cli.main", "up", "--free-ports", "--json"]
    command += ["--data-dir", str(folder / "data"), "--plan", str(folder / "plan.json")]
    command += ["--gateway-config", str(folder / "gateway.yaml"), *options]
    variables = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)} | dict(environment or {})
    for connection_id, value in setting.credentials.items():
        name = "CREDENTIAL_" + re.sub(r"\W", "_", connection_id)
        variables[name] = value
        command += ["--credential", f"{connection_id}=env:{name}"]
    process = subprocess.Popen(
        command, env=variables, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=folder
    )
    up = UpProcess(process, folder / "data")
    try:
        up.await_started()
        yield up
    finally:
        up.end()
