"""Sandboxes out of what Linux has: namespaces, another user, a filter of system calls, and a network without a way out.

The command runs inside, sandboxd outside; what joins them are sockets that were opened in the sandbox's network. Where
the kernel or our rights do not allow that, a sandbox is refused. An operator may have processes instead that nothing
holds in (`isolation: none`), which use their sandboxd because their variables say so.
"""

import asyncio
import os
import platform
import shutil
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from sallyport.deputy import SHELL_FILE, SHELL_FILE_VARIABLE
from sallyport.net.child import Child, ChildError, end_group, start_child
from sallyport.net.sandbox_network import NetworkError, SandboxNetwork, make_network
from sallyport.net.tasks import TaskSet
from sallyport.net.whole_file import replace_file
from worker.integrations.errors import Category
from worker.integrations.server_log import ServerLog
from worker.sandboxes.cell import Cell
from worker.sandboxes.confinement import HOME
from worker.sandboxes.errors import SandboxError, failed
from worker.sandboxes.outside import LOG_LINE_BYTES, LOG_LINES, OutsideSandboxd, OutsideSettings, trust_variables
from worker.sandboxes.provider import MOST_FILES, MOST_PROCESSES, Definition, Running, TunnelTokens
from worker.sandboxes.seccomp import ARCHITECTURES

# Shown to every sandbox, read-only: programs, their libraries, and what they are configured by.
SHARED: Final = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc")
_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PRIVATE: Final = 0o600
_CELL: Final = "sallyport_cli.cell"

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalSettings:
    """How local sandboxes are made. Each has a user of its own, from first_uid on."""

    root: Path
    is_isolated: bool
    shared: tuple[Path, ...]
    first_uid: int
    stop_seconds: float


@dataclass(slots=True, kw_only=True, eq=False)
class _Sandbox:
    """One that runs, or has run: its command has ended and nobody has stopped it yet.

    `over` becomes the command's exit code when its last words are in the log.
    """

    command: Child
    over: asyncio.Task[int]
    outside: OutsideSandboxd
    network: SandboxNetwork | None


def why_not() -> str | None:
    """Say why this machine cannot hold a sandbox in; None where it can. Blocks for some milliseconds."""
    if sys.platform != "linux" or platform.machine() not in ARCHITECTURES:
        return "it needs Linux on x86_64 or aarch64"
    if os.geteuid() != 0:
        return "it needs a worker that is root: only root can make namespaces and other users"
    try:
        make_network().close()
    except NetworkError as error:
        return str(error)
    return None


class LocalSandboxes:
    """The provider. `settings.root` has a folder for each sandbox that is there."""

    def __init__(self, tasks: TaskSet, settings: LocalSettings, outside: OutsideSettings) -> None:
        self._tasks = tasks
        self._settings = settings
        self._outside = outside
        self._sandboxes: dict[str, _Sandbox] = {}
        self._logs: dict[str, ServerLog] = {}
        # While a user is chosen nobody else chooses.
        self._choosing = asyncio.Lock()

    async def create(self, definition: Definition) -> None:
        """Make its folder and choose its user; raises SandboxError where the machine cannot hold it in."""
        if definition.image is not None:
            raise SandboxError(Category.VALIDATION_ERROR, "a local sandbox has no image")
        if self._settings.is_isolated:
            reason = await asyncio.to_thread(why_not)
            if reason is not None:
                raise failed(f"no sandbox can be isolated here: {reason}; or choose `isolation: none` knowingly")
        try:
            async with self._choosing:
                await asyncio.to_thread(self._make_folder, definition.sandbox_id)
        except OSError as error:
            raise failed(f"{error.filename}: {error.strerror}") from None

    async def start(self, definition: Definition, tokens: TunnelTokens) -> None:
        """Start sandboxd, then the command."""
        sandbox_id = definition.sandbox_id
        await self.stop(sandbox_id)
        log = self._logs[sandbox_id] = ServerLog(most_lines=LOG_LINES, most_line_bytes=LOG_LINE_BYTES)
        try:
            async with AsyncExitStack() as opened:
                network = None
                if self._settings.is_isolated:
                    network = await asyncio.to_thread(make_network)
                    opened.callback(network.close)
                folder = self._folder(sandbox_id)
                outside = OutsideSandboxd(self._tasks, self._outside, folder / "sandboxd", network, log)
                await outside.start(tokens)
                opened.push_async_callback(outside.stop)
                command = await self._start_command(definition, outside, network, log)
                opened.pop_all()
        except NetworkError as error:
            raise failed(str(error)) from None
        except OSError as error:
            raise failed(f"{error.filename}: {error.strerror}") from None
        over = self._tasks.spawn(_last_words(command, log), name=f"sandbox {sandbox_id}")
        self._sandboxes[sandbox_id] = _Sandbox(command=command, over=over, outside=outside, network=network)

    async def stop(self, sandbox_id: str) -> None:
        """End the command and all it has started, then sandboxd."""
        sandbox = self._sandboxes.pop(sandbox_id, None)
        if sandbox is None:
            return
        # The command first: what it still says on its way out goes out.
        await end_group(
            sandbox.command,
            first=signal.SIGTERM,
            timeout_seconds=self._settings.stop_seconds,
            grace_seconds=0.0,
        )
        await asyncio.wait({sandbox.over})
        await sandbox.outside.stop()
        if sandbox.network is not None:
            sandbox.network.close()

    async def destroy(self, sandbox_id: str) -> None:
        """Stop it and take its folder away."""
        await self.stop(sandbox_id)
        self._logs.pop(sandbox_id, None)
        try:
            await asyncio.to_thread(shutil.rmtree, self._folder(sandbox_id))
        except FileNotFoundError:
            pass
        except OSError as error:
            raise failed(f"{error.filename} cannot be removed: {error.strerror}") from None

    async def state(self, sandbox_id: str) -> Running | None:
        """Say how it is."""
        sandbox = self._sandboxes.get(sandbox_id)
        if sandbox is None:
            is_there = await asyncio.to_thread(self._folder(sandbox_id).is_dir)
            return Running(is_running=False) if is_there else None
        if sandbox.over.done():
            return Running(is_running=False, exit_code=sandbox.over.result())
        return Running(is_running=True, pid=sandbox.command.pid)

    async def list(self) -> Sequence[str]:
        """Name the folders."""
        try:
            return await asyncio.to_thread(lambda: sorted(path.name for path in self._settings.root.iterdir()))
        except OSError as error:
            raise failed(f"{error.filename}: {error.strerror}") from None

    async def log(self, sandbox_id: str, lines: int) -> Sequence[str]:
        """Return the last lines."""
        log = self._logs.get(sandbox_id)
        return [] if log is None else log.tail(lines)

    async def close(self) -> None:
        """Stop all."""
        async with asyncio.TaskGroup() as group:
            for sandbox_id in tuple(self._sandboxes):
                group.create_task(self.stop(sandbox_id), name=f"stop {sandbox_id}")

    # One sandbox

    def _folder(self, sandbox_id: str) -> Path:
        return self._settings.root / sandbox_id

    def _make_folder(self, sandbox_id: str) -> None:
        folder = self._folder(sandbox_id)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700)
        for name in ("root", "home", "scratch"):
            (folder / name).mkdir(mode=0o700)
        (folder / "scratch").chmod(0o1777)
        if self._settings.is_isolated:
            uid = self._free_uid()
            replace_file(folder / "uid", str(uid).encode(), mode=_PRIVATE)
            os.chown(folder / "home", uid, uid)

    def _free_uid(self) -> int:
        """Choose a user that no other sandbox has: files and limits of one are then never another's."""
        taken = {path.read_text(encoding="ascii") for path in self._settings.root.glob("*/uid")}
        uid = self._settings.first_uid
        while str(uid) in taken:
            uid += 1
        return uid

    async def _start_command(
        self, definition: Definition, outside: OutsideSandboxd, network: SandboxNetwork | None, log: ServerLog
    ) -> Child:
        folder = self._folder(definition.sandbox_id)
        home = str(folder / "home") if network is None else HOME
        environment = {
            "PATH": _PATH,
            "HOME": home,
            "LANG": "C.UTF-8",
            **trust_variables(outside.trust, outside.proxy if network is None else None),
            **({} if network is None else {SHELL_FILE_VARIABLE: f"{home}/{SHELL_FILE}"}),
            **definition.environment,
        }
        program: Sequence[str] = definition.command
        variable, mark = self._outside.mark
        if network is not None:
            uid = int((folder / "uid").read_text(encoding="ascii"))
            cell = self._cell(definition, folder, outside.trust, uid, environment)
            replace_file(folder / "cell.json", cell.to_json().encode(), mode=_PRIVATE)
            program = [sys.executable, "-P", "-m", _CELL, str(folder / "cell.json"), str(network.namespace)]
            inherited = self._outside.inherited
            environment = {name: inherited[name] for name in ("PATH", "PYTHONPATH") if name in inherited}
        environment[variable] = mark
        try:
            return await start_child(
                self._tasks,
                lambda: Child(log.write),
                program,
                env=environment,
                cwd=str(folder / "home"),
                pass_fds=() if network is None else (network.namespace,),
            )
        except ChildError as error:
            raise failed(f"the command cannot be started: {error}") from None

    def _cell(
        self, definition: Definition, folder: Path, trust: Path, uid: int, environment: Mapping[str, str]
    ) -> Cell:
        return Cell(
            name=definition.sandbox_id[:63],
            root=str(folder / "root"),
            home=str(folder / "home"),
            scratch=str(folder / "scratch"),
            trust=str(trust),
            shared=(*SHARED, *map(str, self._settings.shared)),
            uid=uid,
            gid=uid,
            command=tuple(definition.command),
            environment=dict(environment),
            most_processes=MOST_PROCESSES,
            most_files=MOST_FILES,
        )

    def __repr__(self) -> str:
        return f"<LocalSandboxes {len(self._sandboxes)} started>"


async def _last_words(command: Child, log: ServerLog) -> int:
    """Wait for a command's end, and until what it said last is in the log."""
    code = await asyncio.shield(command.exited)
    await command.finish()
    log.end()
    return code
