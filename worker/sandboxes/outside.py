"""The sandboxd of one sandbox, which runs outside of it: started, and started again for as long as the sandbox runs."""

import asyncio
import json
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from sallyport.net.child import Child, ChildError, end_group, start_child
from sallyport.net.sandbox_network import SandboxNetwork
from sallyport.net.tasks import TaskSet
from sallyport.net.trust_files import trust_files
from sallyport.net.whole_file import replace_file
from sallyport.trust_env import variables
from worker.integrations.server_log import ServerLog
from worker.sandboxes.errors import SandboxError, failed
from worker.sandboxes.provider import TunnelTokens

_PRIVATE: Final = 0o600
# What is kept of what a sandbox and its sandboxd print.
LOG_LINES: Final = 1000
LOG_LINE_BYTES: Final = 4096
# What sandboxd passes on of ours: where its code and this machine's roots are.
_INHERITED: Final = ("PATH", "PYTHONPATH", "SSL_CERT_FILE", "LANG", "LC_ALL")
_FIRST_PAUSE_SECONDS: Final = 0.2
_MOST_PAUSE_SECONDS: Final = 10.0
# Open streams have this long to end; then sandboxd is killed.
_TERMINATE_SECONDS: Final = 3.0

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class OutsideSettings:
    """What all sandboxds of a worker are told."""

    gateway_url: str
    gateway_ca_file: Path | None
    start_seconds: float
    inherited: Mapping[str, str]
    # The variable that tells its processes from all others of this machine, and its value.
    mark: tuple[str, str]

    def environment(self) -> dict[str, str]:
        """Return what does not depend on the sandbox."""
        values = {name: self.inherited[name] for name in _INHERITED if name in self.inherited}
        values |= {"SALLYPORT_GATEWAY_URL": self.gateway_url, self.mark[0]: self.mark[1]}
        # The sandbox is stopped with it, so no stream is waited for long.
        values["SALLYPORT_TIMEOUTS_DRAIN"] = "1s"
        if self.gateway_ca_file is not None:
            values["SALLYPORT_GATEWAY_CA_FILE"] = str(self.gateway_ca_file.absolute())
        return values


class OutsideSandboxd:
    """One sandboxd. `folder` is its alone: tokens, state and, in `trust`, what the sandbox is shown.

    Without a network it listens as a proxy on loopback, and `proxy` says where. In a network it may have a deputy.
    """

    def __init__(
        self,
        tasks: TaskSet,
        settings: OutsideSettings,
        folder: Path,
        network: SandboxNetwork | None,
        log: ServerLog,
        *,
        has_deputy: bool = True,
    ) -> None:
        self._tasks = tasks
        self._settings = settings
        self._folder = folder
        self._network = network
        self._log = log
        self._has_deputy = has_deputy
        self.trust = folder / "trust"
        self.proxy: str | None = None
        self._child: Child | None = None
        self._keeping: asyncio.Task[None] | None = None

    async def start(self, tokens: TunnelTokens) -> None:
        """Start it and wait until it is ready; it is kept running from then on. Raises SandboxError."""
        try:
            await asyncio.to_thread(self._prepare, tokens)
        except OSError as error:
            raise failed(f"{self._folder} cannot be written to: {error.strerror}") from None
        child, ready = await self._launch()
        self._keeping = self._tasks.spawn(self._keep(child), name=f"sandboxd {self._folder.name}")
        try:
            await self._until_ready(child, ready)
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """End it."""
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.wait({self._keeping})
        if self._child is not None:
            await end_group(self._child, first=signal.SIGTERM, timeout_seconds=_TERMINATE_SECONDS, grace_seconds=0.0)

    @property
    def pid(self) -> int | None:
        """Its process, while it runs."""
        child = self._child
        return None if child is None or child.exited.done() else child.pid

    def _prepare(self, tokens: TunnelTokens) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # The sandbox's user reads them.
        self.trust.mkdir(exist_ok=True)
        self.trust.chmod(0o755)
        document = {"token": tokens.token, "renewalToken": tokens.renewal_token}
        replace_file(self._folder / "token.json", json.dumps(document).encode(), mode=_PRIVATE)

    def _environment(self) -> dict[str, str]:
        values = self._settings.environment()
        values["SALLYPORT_TOKEN_FILE"] = str(self._folder / "token.json")
        values["SALLYPORT_STATE_DIR"] = str(self._folder / "state")
        values["SALLYPORT_TRUST_DIR"] = str(self.trust)
        network = self._network
        if network is None:
            values["SALLYPORT_LISTEN"] = "127.0.0.1:0"
        else:
            values["SALLYPORT_REDIRECT_CONNECTIONS"] = _numbers(network.connections)
            values["SALLYPORT_REDIRECT_QUESTIONS"] = _numbers(network.questions)
            values["SALLYPORT_REDIRECT_QUESTION_STREAMS"] = _numbers(network.question_streams)
            if self._has_deputy:
                values["SALLYPORT_REDIRECT_DEPUTY"] = str(network.deputy)
        return values

    async def _launch(self) -> tuple[Child, "asyncio.Future[str]"]:
        ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        program = [sys.executable, "-P", "-m", "sallyport_cli.main", "sandboxd"]
        try:
            child = await start_child(
                self._tasks,
                lambda: Child(_Listening(self._log, ready).hear),
                program,
                env=self._environment(),
                cwd=str(self._folder),
                pass_fds=() if self._network is None else self._network.sockets,
            )
        except ChildError as error:
            raise failed(f"sandboxd cannot be started: {error}") from None
        self._child = child
        return child, ready

    async def _until_ready(self, child: Child, ready: "asyncio.Future[str]") -> None:
        either: set[asyncio.Future[str] | asyncio.Future[int]] = {ready, child.exited}
        await asyncio.wait(either, timeout=self._settings.start_seconds, return_when=asyncio.FIRST_COMPLETED)
        if not ready.done():
            said = " / ".join(self._log.tail(3)) or "nothing"
            how = f"ended with {child.exited.result()}" if child.exited.done() else "was not ready in time"
            raise failed(f"sandboxd {how}; it said: {said}")
        self.proxy = ready.result()

    async def _keep(self, child: Child) -> None:
        """Start it again whenever it ends, over the same sockets: connections wait in them meanwhile."""
        pause = _FIRST_PAUSE_SECONDS
        while True:
            code = await asyncio.shield(child.exited)
            await child.finish()
            _log.warning("sandboxd_ended", folder=self._folder.name, exit_code=code)
            await asyncio.sleep(pause)
            pause = min(pause * 2, _MOST_PAUSE_SECONDS)
            try:
                child, ready = await self._launch()
                await self._until_ready(child, ready)
                pause = _FIRST_PAUSE_SECONDS
            except SandboxError as error:
                _log.error("sandboxd_not_started", folder=self._folder.name, detail=str(error))

    def __repr__(self) -> str:
        return f"<OutsideSandboxd {self._folder.name} {self.pid}>"


class _Listening:
    """Keeps what a sandboxd says, and hears in it that it is ready."""

    def __init__(self, log: ServerLog, ready: "asyncio.Future[str]") -> None:
        self._log = log
        self._ready = ready
        self._rest = b""

    def hear(self, data: bytes) -> None:
        self._log.write(data, stream="sandboxd")
        if self._ready.done():
            return
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if b'"ready"' in line and not self._ready.done():
                self._ready.set_result(_proxy_of(line))


def _proxy_of(line: bytes) -> str:
    try:
        return str(json.loads(line).get("proxy", ""))
    except ValueError:
        return ""


def _numbers(descriptors: tuple[int, ...]) -> str:
    return ",".join(map(str, descriptors))


def trust_variables(folder: Path, proxy: str | None) -> dict[str, str]:
    """Return the variables of a sandbox's programs, whose trust is in a folder; without a proxy they are redirected."""
    files = trust_files(folder)
    return variables(
        proxy_url=None if proxy is None else f"http://{proxy}",
        ca_file=str(files.ca),
        bundle_file=str(files.bundle),
        java_trust_store=str(files.java),
        node_preload=None if proxy is None else str(files.node_preload),
        wgetrc=str(files.wgetrc),
    )
