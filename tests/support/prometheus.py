"""Prometheus and its promtool, where they are installed (Debian: prometheus).

Where they are not, the tests that need them are reported as not run; under CI that is a failure.
"""

import contextlib
import json
import os
import re
import shutil
import subprocess
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

START_SECONDS = 20.0
STOP_SECONDS = 10.0
_LISTENS = re.compile(r'msg="Listening on" address=127\.0\.0\.1:(\d+)')
_READY = "Server is ready to receive web requests"  # until then it answers 503


def program(name: str) -> str:
    """Return the path of `prometheus` or `promtool`; skip where it is not installed, fail there under CI."""
    found = shutil.which(name)
    if found is None:
        if os.environ.get("CI") == "true":
            pytest.fail(f"{name} is required here (install Debian's prometheus)")
        pytest.skip(f"not run: {name} is not installed (Debian's prometheus has it)")
    return found


def promtool(*arguments: object) -> None:
    """Run promtool; raises AssertionError with what it says where it finds fault."""
    command = [program("promtool"), *map(str, arguments)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 0, ended.stdout + ended.stderr


class PrometheusProcess:
    """A running Prometheus, asked through its HTTP API."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self.port = 0
        self.log = ""
        self.is_ready = False
        self._told = threading.Event()
        self._reader = threading.Thread(target=self._read_log, name="prometheus log", daemon=True)
        self._reader.start()

    def await_ready(self) -> None:
        """Wait until it says that it is ready; raises AssertionError with its log where it does not."""
        self._told.wait(START_SECONDS)
        assert self.is_ready, f"Prometheus did not start:\n{self.log}"

    def ask(self, path: str, **parameters: str) -> Any:  # noqa: ANN401 (each question has an answer of its own)
        """Ask the API and return the data of its answer."""
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            document = json.load(answer)
        assert document["status"] == "success", document
        return document["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the samples that an expression yields now."""
        samples: list[dict[str, Any]] = self.ask("query", query=expression)["result"]
        return samples

    def end(self) -> None:
        """Stop it, and wait for its end."""
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._reader.join(STOP_SECONDS)

    def _read_log(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as lines:
            for line in lines:
                self.log += line
                found = _LISTENS.search(line)
                if found is not None:
                    self.port = int(found[1])
                self.is_ready = self.is_ready or _READY in line
                if self.is_ready:
                    self._told.set()
        self._told.set()


@contextlib.contextmanager
def prometheus_process(folder: Path, config: Path) -> Iterator[PrometheusProcess]:
    """Start a Prometheus on loopback with its data in `folder`; it is stopped when the block ends."""
    command = [
        program("prometheus"),
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'data'}",
        "--web.listen-address=127.0.0.1:0",
    ]
    process = subprocess.Popen(
        command,
        cwd=folder,
        env={"PATH": os.environ["PATH"]},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    prometheus = PrometheusProcess(process)
    try:
        prometheus.await_ready()
        yield prometheus
    finally:
        prometheus.end()
