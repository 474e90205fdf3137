"""A real worker in a process of its own, and a relay that strikes it while it asks a far side; always torn down."""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

from tests.support.gateway_process import ROOT
from tests.support.relay import Cut, Relay, Way

START_SECONDS = 60.0
STOP_SECONDS = 20.0
APPLY_SECONDS = 60.0


class PartProcess:
    """A part that is started, killed and started again over the same folder."""

    def __init__(self, folder: Path, command: Sequence[str], settings: Mapping[str, str]) -> None:
        self._folder = folder
        self._command = command
        self._environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **settings}
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None
        self.events: list[dict[str, Any]] = []
        self.api = ""

    @property
    def process(self) -> "subprocess.Popen[bytes]":
        """The process that was started last."""
        assert self._process is not None
        return self._process

    def start(self) -> None:
        """Start it and wait until it is ready."""
        self._folder.mkdir(parents=True, exist_ok=True)
        ready = threading.Event()
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "sallyport_cli.main", *self._command],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            cwd=self._folder,
        )
        self._process = process
        self._reader = threading.Thread(target=self._read, args=(process, ready), name="log of a part", daemon=True)
        self._reader.start()
        assert ready.wait(START_SECONDS), self.events
        assert process.poll() is None, self.events

    def kill(self) -> None:
        """End it as nothing it could prepare for."""
        self.process.kill()
        self.process.wait()

    def end(self) -> int:
        """Ask it to end, and return its exit status."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()
        assert self._reader is not None
        self._reader.join(STOP_SECONDS)
        return self.process.returncode

    def _read(self, process: "subprocess.Popen[bytes]", ready: threading.Event) -> None:
        assert process.stderr is not None
        with process.stderr as lines:
            for line in lines:
                event = json.loads(line) if line.startswith(b"{") else {"event": line.decode(errors="replace")}
                self.events.append(event)
                if event["event"] == "ready":
                    self.api = f"http://{event['api']}"
                    ready.set()
        ready.set()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.api}>"


class WorkerProcess(PartProcess):
    """A worker."""

    def __init__(self, folder: Path, settings: Mapping[str, str]) -> None:
        given = {"SALLYPORT_WORKER_LISTEN": "127.0.0.1:0", "SALLYPORT_WORKER_DATA_DIR": str(folder / "data")}
        super().__init__(folder, ("worker",), given | dict(settings))

    def _client(self) -> httpx.AsyncClient:
        # It speaks no TLS, and roots that nobody asks would be read each time.
        return httpx.AsyncClient(base_url=self.api, trust_env=False, verify=False, timeout=APPLY_SECONDS)

    async def begin(self, sandbox_id: str, revision: int) -> str:
        """Begin an application and return its id."""
        async with self._client() as client:
            answer = await client.post("/v1/plan-applications", json={"sandboxId": sandbox_id, "revision": revision})
            assert answer.status_code == 202, answer.text
            return str(answer.json()["applicationId"])

    async def find(self, application_id: str) -> dict[str, Any]:
        """Return an application as it stands."""
        async with self._client() as client:
            answer = await client.get(f"/v1/plan-applications/{application_id}")
            assert answer.status_code == 200, answer.text
            document: dict[str, Any] = answer.json()
            return document

    async def ended(self, application_id: str) -> dict[str, Any]:
        """Wait for an application's end."""
        async with asyncio.timeout(APPLY_SECONDS):
            while True:
                document = await self.find(application_id)
                if document["state"] not in ("queued", "running"):
                    return document
                await asyncio.sleep(0.02)


@contextlib.contextmanager
def worker_process(folder: Path, settings: Mapping[str, str]) -> Iterator[WorkerProcess]:
    """Run a worker until the block ends."""
    worker = WorkerProcess(folder, settings)
    worker.start()
    try:
        yield worker
    finally:
        worker.end()


# What a worker asks by itself, now and then: what it runs, what it is to run, what gateways report.
_UPKEEP = ("/internal/v1/workers/", "/internal/gateways")


class Striker:
    """When a worker is struck while it asks: at one moment of one request, counted over all it asks for applications.

    The moments: `asked` (nothing was passed on), `carried out` (the answer never comes), `answered`.
    """

    MOMENTS = ("asked", "carried out", "answered")

    def __init__(self) -> None:
        self.struck = asyncio.Event()
        self.lines: list[str] = []
        self._strike: Callable[[], None] = lambda: None
        self._number = 0
        self._moment = ""

    def arm(self, number: int, moment: str, strike: Callable[[], None]) -> None:
        """Strike at a moment of the request of this number; the next one is the first."""
        self.struck.clear()
        self._number, self._moment, self._strike = number, moment, strike

    def asked(self, line: str) -> bool:
        """Note a request; return whether it is the one."""
        if line.partition(" ")[2].startswith(_UPKEEP):
            return False
        self.lines.append(line)
        self._number -= 1
        return self._number == 0

    def is_at(self, moment: str) -> bool:
        """Say whether this is the moment."""
        return self._moment == moment

    def strike(self) -> None:
        """Do what was armed."""
        self._strike()
        self.struck.set()


class StrikingRelay(Relay):
    """Passes requests on until the moment has come. Who asks takes a connection for each of them."""

    def __init__(self, striker: Striker, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port))
        self._striker = striker

    @property
    def url(self) -> str:
        """Where it is asked."""
        return f"http://127.0.0.1:{self.port}"

    def lead_to(self, port: int) -> None:
        """Say where requests go, if that was not known before."""
        self._target = ("127.0.0.1", port)

    def ways(self, back: asyncio.StreamWriter) -> tuple[Way, Way]:
        asking = _Asking(self._striker)
        return asking, _Answering(self._striker, asking)


class _Asking:
    """One request."""

    def __init__(self, striker: Striker) -> None:
        self._striker = striker
        self._is_begun = False
        self.is_the_one = False

    def take(self, data: bytes) -> bytes:
        if not self._is_begun:
            self._is_begun = True
            self.is_the_one = self._striker.asked(data.partition(b" HTTP/")[0].decode("ascii"))
            if self.is_the_one and self._striker.is_at("asked"):
                self._striker.strike()
                raise Cut
        return data


class _Answering:
    """Its answer."""

    def __init__(self, striker: Striker, asking: _Asking) -> None:
        self._striker = striker
        self._asking = asking

    def take(self, data: bytes) -> bytes:
        if self._asking.is_the_one:
            self._asking.is_the_one = False
            if self._striker.is_at("carried out"):
                self._striker.strike()
                raise Cut
            # As soon as these bytes are on their way.
            asyncio.get_running_loop().call_soon(self._striker.strike)
        return data


@contextlib.asynccontextmanager
async def striking_relay(striker: Striker, port: int = 0) -> AsyncIterator[StrikingRelay]:
    """Relay to a port of loopback until the block ends."""
    relay = StrikingRelay(striker, port)
    await relay.start()
    try:
        yield relay
    finally:
        await relay._stop()
