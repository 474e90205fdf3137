"""Sandboxes that a Docker daemon of this machine runs: containers without a network, until we have made theirs.

A container gets a network of its own with nothing but loopback from the daemon. We open sockets in it and redirect to
them, as for local sandboxes, and its sandboxd runs outside. Its deputy runs where the image brings Sallyport, which a
label of it says. Labels tell our containers from all others.
"""

import asyncio
import os
import shutil
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from sallyport.deputy import PYTHON_LABEL
from sallyport.net.sandbox_network import NetworkError, SandboxNetwork, take_network
from sallyport.net.tasks import TaskSet
from worker.integrations.errors import Category
from worker.integrations.server_log import ServerLog
from worker.sandboxes.docker_api import DockerApi, NotThere
from worker.sandboxes.errors import SandboxError, failed
from worker.sandboxes.outside import LOG_LINE_BYTES, LOG_LINES, OutsideSandboxd, OutsideSettings, trust_variables
from worker.sandboxes.provider import MOST_FILES, MOST_PROCESSES, Definition, Running, TunnelTokens

OF_WORKER: Final = "sallyport.worker"
OF_SANDBOX: Final = "sallyport.sandbox"
# How often it is looked whether a deputy runs, and after how long one that has ended is started again.
DEPUTY_LOOK_SECONDS: Final = 1.0
_DEPUTY: Final = "sandboxd.deputy.program"

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class DockerSettings:
    """How containers are made. `mark` tells those of one worker; `root` has a folder for each sandbox."""

    root: Path
    mark: str
    stop_seconds: float


@dataclass(slots=True, kw_only=True, eq=False)
class _Sandbox:
    """One that runs, or has run."""

    outside: OutsideSandboxd
    network: SandboxNetwork
    deputy: "_Deputy | None"


class DockerSandboxes:
    """The provider. What runs without us, because a worker before us had started it, counts as stopped."""

    def __init__(self, tasks: TaskSet, api: DockerApi, settings: DockerSettings, outside: OutsideSettings) -> None:
        self._tasks = tasks
        self._api = api
        self._settings = settings
        self._outside = outside
        self._sandboxes: dict[str, _Sandbox] = {}
        self._logs: dict[str, ServerLog] = {}

    async def create(self, definition: Definition) -> None:
        """Make its folder and its container."""
        if definition.image is None:
            raise SandboxError(Category.VALIDATION_ERROR, "a docker sandbox needs an image")
        folder = self._folder(definition.sandbox_id)
        await self.destroy(definition.sandbox_id)
        try:
            await asyncio.to_thread(folder.mkdir, 0o700, True)
        except OSError as error:
            raise failed(f"{error.filename}: {error.strerror}") from None
        await self._api.create(self._name(definition.sandbox_id), self._container(definition))

    async def start(self, definition: Definition, tokens: TunnelTokens) -> None:
        """Start sandboxd's network with the container, then sandboxd."""
        sandbox_id = definition.sandbox_id
        name = self._name(sandbox_id)
        await self.stop(sandbox_id)
        log = self._logs[sandbox_id] = ServerLog(most_lines=LOG_LINES, most_line_bytes=LOG_LINE_BYTES)
        # What it is shown has to be there when it starts.
        await asyncio.to_thread(_make_trust, self._folder(sandbox_id))
        assert definition.image is not None, "create has looked"
        python = (await self._api.labels(definition.image)).get(PYTHON_LABEL)
        await self._api.start(name)
        network = None
        try:
            network = await self._network(name)
            folder = self._folder(sandbox_id) / "sandboxd"
            outside = OutsideSandboxd(self._tasks, self._outside, folder, network, log, has_deputy=python is not None)
            await outside.start(tokens)
        except BaseException:
            if network is not None:
                network.close()
            await self._api.stop(name, 0)
            raise
        deputy = None
        if python is not None:
            deputy = _Deputy(self._tasks, self._api, name, python)
        self._sandboxes[sandbox_id] = _Sandbox(outside=outside, network=network, deputy=deputy)

    async def stop(self, sandbox_id: str) -> None:
        """Tell the deputy and the container to end, and wait for the container; then end sandboxd."""
        sandbox = self._sandboxes.get(sandbox_id)
        if sandbox is not None and sandbox.deputy is not None:
            await sandbox.deputy.tell_to_end()
        try:
            await self._api.stop(self._name(sandbox_id), self._settings.stop_seconds)
        except NotThere:
            pass
        self._sandboxes.pop(sandbox_id, None)
        if sandbox is not None:
            await sandbox.outside.stop()
            sandbox.network.close()

    async def destroy(self, sandbox_id: str) -> None:
        """Stop it and take its container and folder away."""
        await self.stop(sandbox_id)
        self._logs.pop(sandbox_id, None)
        try:
            await self._api.remove(self._name(sandbox_id))
        except NotThere:
            pass
        await asyncio.to_thread(shutil.rmtree, self._folder(sandbox_id), True)

    async def state(self, sandbox_id: str) -> Running | None:
        """Say how it is."""
        try:
            found = await self._api.inspect(self._name(sandbox_id))
        except NotThere:
            return None
        sandbox = self._sandboxes.get(sandbox_id)
        if sandbox is None:
            return Running(is_running=False)
        if not found["State"]["Running"]:
            return Running(is_running=False, exit_code=int(found["State"]["ExitCode"]))
        return Running(is_running=True, pid=int(found["State"]["Pid"]))

    async def list(self) -> Sequence[str]:
        """Name the containers that are labelled as this worker's."""
        found = await self._api.labelled(f"{OF_WORKER}={self._settings.mark}")
        return sorted(str(each["Labels"][OF_SANDBOX]) for each in found)

    async def log(self, sandbox_id: str, lines: int) -> Sequence[str]:
        """Return the last lines of sandboxd, and then of the container."""
        log = self._logs.get(sandbox_id)
        said = [] if log is None else log.tail(lines)
        try:
            return [*said, *await self._api.logs(self._name(sandbox_id), lines)][-lines:]
        except NotThere:
            return said

    async def close(self) -> None:
        """Stop all, and ask the daemon nothing more."""
        async with asyncio.TaskGroup() as group:
            for sandbox_id in tuple(self._sandboxes):
                group.create_task(self.stop(sandbox_id), name=f"stop {sandbox_id}")
        await self._api.close()

    # One container

    def _name(self, sandbox_id: str) -> str:
        return f"sallyport-{self._settings.mark[:8]}-{sandbox_id}"

    def _folder(self, sandbox_id: str) -> Path:
        return self._settings.root / sandbox_id

    def _container(self, definition: Definition) -> Mapping[str, object]:
        trust = self._folder(definition.sandbox_id) / "sandboxd" / "trust"
        environment = trust_variables(trust, None) | definition.environment
        return {
            "Image": definition.image,
            "Cmd": definition.command,
            "Env": [f"{name}={value}" for name, value in environment.items()],
            "Labels": {OF_WORKER: self._settings.mark, OF_SANDBOX: definition.sandbox_id},
            "HostConfig": {
                "NetworkMode": "none",
                "Binds": [f"{trust}:{trust}:ro"],
                "CapDrop": ["ALL"],
                "SecurityOpt": ["no-new-privileges"],
                "PidsLimit": MOST_PROCESSES,
                "Ulimits": [
                    {"Name": "nofile", "Soft": MOST_FILES, "Hard": MOST_FILES},
                    {"Name": "nproc", "Soft": MOST_PROCESSES, "Hard": MOST_PROCESSES},
                ],
            },
        }

    async def _network(self, name: str) -> SandboxNetwork:
        """Take the network of a running container."""
        pid = int((await self._api.inspect(name))["State"]["Pid"])
        try:
            namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            raise failed("the container has ended before it had its network; its log says why") from None
        try:
            # The number may have been another process's by then: it still is this container's, or it is not used.
            if int((await self._api.inspect(name))["State"]["Pid"]) != pid:
                raise failed("the container has ended before it had its network; its log says why")
            return await asyncio.to_thread(take_network, namespace)
        except NetworkError as error:
            raise failed(str(error)) from None
        finally:
            os.close(namespace)

    def __repr__(self) -> str:
        return f"<DockerSandboxes {len(self._sandboxes)} started>"


class _Deputy:
    """The deputy of a container that runs: started, and again whenever it has ended."""

    def __init__(self, tasks: TaskSet, api: DockerApi, name: str, python: str) -> None:
        self._api = api
        self._name = name
        self._python = python
        self._program: str | None = None
        self._keeping = tasks.spawn(self._keep(), name=f"deputy of {name}")

    async def tell_to_end(self) -> None:
        """Let what it has started hear of the end: the daemon tells the first process alone. It is not started again.

        Nobody waits for it, as in a local sandbox: with the first process all end.
        """
        self._keeping.cancel()
        await asyncio.wait({self._keeping})
        if self._program is None:
            return
        try:
            pid = await self._api.process_of(self._program)
            process = os.pidfd_open(pid)
        except (SandboxError, OSError):
            return  # it has ended, or the daemon is away, as stopping the container will show
        try:
            if _is_deputy(pid):
                signal.pidfd_send_signal(process, signal.SIGTERM)
        except ProcessLookupError:
            pass  # just now
        finally:
            os.close(process)

    async def _keep(self) -> None:
        while True:
            try:
                if self._program is None or not _is_deputy(await self._api.process_of(self._program)):
                    self._program = await self._api.begin(self._name, [self._python, "-P", "-m", _DEPUTY])
            except SandboxError as error:
                # The container has ended, or the daemon is away: either shows elsewhere.
                _log.warning("deputy_not_started", container=self._name, detail=str(error))
                self._program = None
            await asyncio.sleep(DEPUTY_LOOK_SECONDS)


def _is_deputy(pid: int) -> bool:
    """Say whether a process is one, and not another that has its number by now."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return _DEPUTY.encode() in command.split(b"\0")


def _make_trust(folder: Path) -> None:
    trust = folder / "sandboxd" / "trust"
    trust.mkdir(mode=0o755, parents=True, exist_ok=True)
