"""A real sandboxd in a process of its own, at a gateway and with a token of the test's choice; always torn down."""

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support.gateway_process import ROOT
from tests.support.up_process import sandbox_environment

START_SECONDS = 30.0
STOP_SECONDS = 20.0
_POLL_SECONDS = 0.01


class SandboxdProcess:
    """A running sandboxd and what is known of it from outside."""

    def __init__(self, process: subprocess.Popen[bytes], folder: Path) -> None:
        self.process = process
        self.folder = folder
        self._log: list[bytes] = []
        self._reader = threading.Thread(target=self._read_log, name="sandboxd log", daemon=True)
        self._reader.start()

    @property
    def state_dir(self) -> Path:
        """What it writes for clients and for itself."""
        return self.folder / "state"

    @property
    def ca_file(self) -> Path:
        """Its CA alone."""
        return self.state_dir / "ca.pem"

    @property
    def log(self) -> bytes:
        """Everything it has said so far."""
        return b"".join(self._log)

    @property
    def events(self) -> list[dict[str, Any]]:
        """Its log, line by line."""
        return [json.loads(line) for line in list(self._log) if line.startswith(b"{")]

    @property
    def proxy_url(self) -> str:
        """Where programs reach it; await_event("ready") comes first."""
        return f"http://{next(event['proxy'] for event in self.events if event['event'] == 'ready')}"

    def count(self, name: str, **members: object) -> int:
        """Say how often it has told of something."""
        return sum(event["event"] == name and members.items() <= event.items() for event in self.events)

    def await_event(self, name: str, times: int = 1, within_seconds: float = START_SECONDS, **members: object) -> None:
        """Wait until it has told of something so often."""
        self.until(lambda: self.count(name, **members) >= times, within_seconds, f"{times} x {name}")

    def until(self, condition: Callable[[], bool], within_seconds: float, what: str) -> None:
        """Wait for something that shows outside; raises AssertionError with the log."""
        deadline = time.perf_counter() + within_seconds
        while not condition():
            assert time.perf_counter() < deadline, f"no {what}:\n{self.log.decode(errors='replace')[-3000:]}"
            assert self.process.poll() is None, f"sandboxd has ended:\n{self.log.decode(errors='replace')[-3000:]}"
            time.sleep(_POLL_SECONDS)

    def client_environment(self, home: Path) -> dict[str, str]:
        """Return the whole environment of a sandbox process."""
        return sandbox_environment(self.proxy_url, self.state_dir, home)

    def kept_renewal_token(self) -> str:
        """Return the renewal token it keeps for when it is killed."""
        return str(json.loads((self.state_dir / "renewal.json").read_bytes())["renewalToken"])

    def _read_log(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._log.append(line)


@contextlib.contextmanager
def sandboxd_process(
    folder: Path,
    gateway_url: str,
    tokens: Mapping[str, object],
    *,
    settings: Mapping[str, str] | None = None,
    is_managed: bool = True,
    inherited: Sequence[int] = (),
) -> Iterator[SandboxdProcess]:
    """Start a sandboxd with `token` and `renewalToken` of tokens; wait for its managed set unless told otherwise.

    It has the descriptors of `inherited` under the same numbers.
    """
    folder.mkdir(parents=True, exist_ok=True)
    token_file = folder / "token.json"
    token_file.write_text(json.dumps({name: tokens[name] for name in ("token", "renewalToken") if name in tokens}))
    token_file.chmod(0o600)
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "SALLYPORT_GATEWAY_URL": gateway_url,
        "SALLYPORT_TOKEN_FILE": str(token_file),
        "SALLYPORT_STATE_DIR": str(folder / "state"),
        "SALLYPORT_LISTEN": "127.0.0.1:0",
    }
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "sallyport_cli.main", "sandboxd"],
        env=environment | dict(settings or {}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=folder,
        pass_fds=inherited,
    )
    sandboxd = SandboxdProcess(process, folder)
    try:
        sandboxd.await_event("ready")
        if is_managed:
            sandboxd.await_event("managed_set")
        yield sandboxd
    finally:
        _end(sandboxd)


def _end(sandboxd: SandboxdProcess) -> None:
    process = sandboxd.process
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    sandboxd._reader.join(STOP_SECONDS)
    if process.stdout is not None:
        process.stdout.close()
