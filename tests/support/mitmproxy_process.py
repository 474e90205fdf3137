"""Real mitmproxy programs, from an environment of their own (.venv-mitmproxy), on free ports, always torn down."""

import contextlib
import os
import re
import subprocess
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.support.gateway_process import ROOT

BIN = ROOT / ".venv-mitmproxy/bin"
START_SECONDS = 40.0
STOP_SECONDS = 20.0

_LISTENING = re.compile(r"listening at \*?(?:http://)?[\w.:\[\]]*:(\d+)")


def need_mitmproxy() -> None:
    """Skip by name where the environment is absent; in CI that is a failure."""
    if (BIN / "mitmdump").exists():
        return
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail("mitmproxy is not here: make .venv-mitmproxy (`make setup`)")
    pytest.skip("mitmproxy is not here: `make setup` makes .venv-mitmproxy")


def in_mitmproxy_environment(*arguments: object) -> list[str]:
    """Return the command line of the `sallyport` that stands beside mitmproxy."""
    return [str(BIN / "python"), "-P", "-m", "sallyport_cli.main", *map(str, arguments)]


class MitmproxyProcess:
    """A running mitmdump or mitmweb. port is where it listens as a proxy."""

    def __init__(self, process: "subprocess.Popen[str]", folder: Path) -> None:
        self.process = process
        self.folder = folder
        self.port = 0
        self._said: list[str] = []
        self._heard = threading.Condition()
        self._reader = threading.Thread(target=self._read, name="mitmproxy output", daemon=True)
        self._reader.start()

    @property
    def output(self) -> str:
        """Everything it has said so far."""
        return "".join(self._said)

    @property
    def ca_file(self) -> Path:
        """Its CA, which clients have to trust."""
        return self.folder / "mitmproxy-ca-cert.pem"

    def await_line(self, pattern: "re.Pattern[str]") -> "re.Match[str]":
        """Wait until it says something; raises AssertionError with all it said where that does not come."""
        with self._heard:
            self._heard.wait_for(lambda: pattern.search(self.output) or self._has_ended(), START_SECONDS)
        found = pattern.search(self.output)
        assert found is not None, f"mitmproxy did not start:\n{self.output}"
        return found

    def await_port(self) -> None:
        self.port = int(self.await_line(_LISTENING)[1])

    def _has_ended(self) -> bool:
        return self.process.poll() is not None

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._heard:
                self._said.append(line)
                self._heard.notify_all()
        with self._heard:
            self._heard.notify_all()


@contextlib.contextmanager
def mitmproxy_process(
    folder: Path, program: str, *arguments: str, environment: Mapping[str, str] | None = None
) -> Iterator[MitmproxyProcess]:
    """Run a program of mitmproxy with a configuration folder of its own until the block ends."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [str(BIN / program), "--set", f"confdir={folder}", *arguments]
    variables = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),  # this tree's code, whichever the environment was made for
        "HOME": str(folder),
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
        **(environment or {}),
    }
    process = subprocess.Popen(
        command,
        env=variables,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    running = MitmproxyProcess(process, folder)
    try:
        yield running
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        running._reader.join(STOP_SECONDS)
        assert process.stdout is not None
        process.stdout.close()


@contextlib.contextmanager
def mitmdump_gateway(folder: Path, config: Path, environment: Mapping[str, str]) -> Iterator[MitmproxyProcess]:
    """Run mitmdump with our addon on a free port, by the settings of a standalone gateway."""
    arguments = ["-s", str(ROOT / "gateway/mitm_addon.py"), "--set", f"sallyport_config={config}"]
    arguments += ["--listen-host", "127.0.0.1", "--listen-port", "0", "--set", "termlog_verbosity=info"]
    with mitmproxy_process(folder, "mitmdump", *arguments, environment=environment) as running:
        running.await_port()
        yield running
