"""Docker daemons for tests: one that is played and runs commands in networks of their own, and Podman's."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from sallyport.deputy import PYTHON_LABEL
from sallyport.net.proc import pids
from tests.support.container_image import USER, pack_programs, pack_sallyport
from tests.support.gateway_process import ROOT
from tests.support.sandbox_network import needs_isolation

IMAGE = "localhost/sallyport-test:1"
START_SECONDS = END_SECONDS = 30.0


class PlayedDaemon:
    """Answers as Docker does. A container is a process in a network of its own; it has no file system and no image."""

    def __init__(self) -> None:
        self.containers: dict[str, dict[str, Any]] = {}
        self.refuses: str | None = None
        self.labels: dict[str, str] = {}
        self.programs: dict[str, asyncio.subprocess.Process | None] = {}
        self._commands: dict[str, tuple[str, list[str]]] = {}
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self.application = web.Application()
        router = self.application.router
        router.add_post("/v1.41/containers/create", self._create)
        router.add_get("/v1.41/containers/json", self._list)
        router.add_get("/v1.41/containers/{name}/json", self._inspect)
        router.add_post("/v1.41/containers/{name}/start", self._start)
        router.add_post("/v1.41/containers/{name}/stop", self._stop)
        router.add_get("/v1.41/containers/{name}/logs", self._logs)
        router.add_delete("/v1.41/containers/{name}", self._remove)
        router.add_get("/v1.41/images/{name:.*}/json", self._image)
        router.add_post("/v1.41/containers/{name}/exec", self._prepare)
        router.add_post("/v1.41/exec/{id}/start", self._begin)
        router.add_get("/v1.41/exec/{id}/json", self._program)

    async def close(self) -> None:
        """End what runs."""
        for name in tuple(self._processes):
            await self._end(name)

    async def _create(self, request: web.Request) -> web.Response:
        name = request.query["name"]
        if self.refuses is not None:
            return web.json_response({"message": self.refuses}, status=409)
        self.containers[name] = {"Created": await request.json(), "Output": b""}
        return web.json_response({"Id": name}, status=201)

    async def _list(self, request: web.Request) -> web.Response:
        (wanted,) = json.loads(request.query["filters"])["label"]
        name, _, value = wanted.partition("=")
        found = [each["Created"]["Labels"] for each in self.containers.values()]
        return web.json_response([{"Labels": labels} for labels in found if labels.get(name) == value])

    async def _inspect(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name not in self.containers:
            return self._none(name)
        process = self._processes.get(name)
        code = None if process is None else process.returncode
        is_running = process is not None and code is None
        pid = process.pid if process is not None and is_running else 0
        state = {"Running": is_running, "Pid": pid, "ExitCode": code or 0}
        # A real one tells far more, in more than one piece.
        return web.json_response({"Config": "x" * 200_000, "State": state})

    async def _start(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name not in self.containers:
            return self._none(name)
        created = self.containers[name]["Created"]
        environment = dict(entry.split("=", 1) for entry in created["Env"]) | {"PATH": os.environ["PATH"]}
        self._processes[name] = process = await asyncio.create_subprocess_exec(
            *created["Cmd"],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            preexec_fn=lambda: os.unshare(os.CLONE_NEWNET),
        )
        assert process.pid
        return web.Response(status=204)

    async def _stop(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name not in self.containers:
            return self._none(name)
        await self._end(name)
        return web.Response(status=204)

    async def _logs(self, request: web.Request) -> web.Response:
        return web.Response(body=b"\1\0\0\0\0\0\0\4one\n\2\0\0\0\0\0\0\3two")

    async def _remove(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if self.containers.pop(name, None) is None:
            return self._none(name)
        await self._end(name)
        return web.Response(status=204)

    async def _image(self, request: web.Request) -> web.Response:
        return web.json_response({"Config": {"Labels": self.labels or None}})

    async def _prepare(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        process = self._processes.get(name)
        if process is None or process.returncode is not None:
            return web.json_response({"message": f"{name} is not running"}, status=409)
        program = f"exec-{len(self._commands)}"
        self._commands[program] = (name, (await request.json())["Cmd"])
        return web.json_response({"Id": program}, status=201)

    async def _begin(self, request: web.Request) -> web.Response:
        """Start a program in the container's network, which is all that a played container has."""
        name, command = self._commands[request.match_info["id"]]
        network = os.open(f"/proc/{self._processes[name].pid}/ns/net", os.O_RDONLY)
        environment = dict(entry.split("=", 1) for entry in self.containers[name]["Created"]["Env"])
        try:
            self.programs[request.match_info["id"]] = await asyncio.create_subprocess_exec(
                *command,
                env=environment | {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
                stdin=subprocess.DEVNULL,
                pass_fds=[network],
                preexec_fn=lambda: os.setns(network, os.CLONE_NEWNET),
            )
        finally:
            os.close(network)
        return web.Response(status=200)

    async def _program(self, request: web.Request) -> web.Response:
        process = self.programs.get(request.match_info["id"])
        assert process is not None
        # As Podman does it: it has not noticed that one has ended.
        return web.json_response({"Running": True, "Pid": process.pid})

    async def _end(self, name: str) -> None:
        for program, (of, _) in self._commands.items():
            running = self.programs.get(program)
            if of == name and running is not None and running.returncode is None:
                # The first process has so long to end; then the kernel ends all.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(END_SECONDS):
                        await running.wait()
                if running.returncode is None:
                    running.kill()
                    await running.wait()
        process = self._processes.get(name)
        if process is not None and process.returncode is None:
            process.kill()
            await process.wait()

    def _none(self, name: str) -> web.Response:
        return web.json_response({"message": f"no such container: {name}"}, status=404)


@contextlib.asynccontextmanager
async def played_daemon(folder: Path) -> AsyncIterator[tuple[PlayedDaemon, Path]]:
    """Serve a played daemon at a socket until the block ends."""
    needs_isolation()
    daemon = PlayedDaemon()
    runner = web.AppRunner(daemon.application)
    await runner.setup()
    await web.UnixSite(runner, str(folder / "docker.sock")).start()
    try:
        yield daemon, folder / "docker.sock"
    finally:
        await daemon.close()
        await runner.cleanup()


@contextlib.contextmanager
def podman_service(folder: Path, *, has_sallyport: bool = False) -> Iterator[Path]:
    """Run Podman's service over a folder with IMAGE in it, or skip the test saying what is missing; give its socket.

    The image has programs, and Sallyport where that is asked for.
    """
    needs_isolation()
    for program in ("podman", "runc", "conmon"):
        if shutil.which(program) is None:
            pytest.skip(f"not here: {program} (apt-get install podman runc)")
    (folder / "containers.conf").write_text(
        '[engine]\nruntime = "runc"\ncgroup_manager = "cgroupfs"\nevents_logger = "none"\n'
    )
    environment = {"PATH": os.environ["PATH"], "CONTAINERS_CONF": str(folder / "containers.conf"), "HOME": str(folder)}
    command = ["podman", "--root", str(folder / "root"), "--runroot", str(folder / "run"), "--storage-driver", "vfs"]
    changes: list[str] = []
    archive = folder / "image.tar"
    if has_sallyport:
        pack_sallyport(archive)
        changes = ["--change", f"USER {USER}", "--change", f"LABEL {PYTHON_LABEL}={sys.executable}"]
    else:
        pack_programs(archive)
    made = subprocess.run(
        [*command, "import", *changes, str(archive), IMAGE], env=environment, capture_output=True, check=False
    )
    archive.unlink()
    assert made.returncode == 0, made.stderr.decode()
    # As much as any machine has: what Podman takes by itself may be more than this one may have.
    least = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"]
    tried = subprocess.run(
        [*command, "run", "--rm", "--network", "none", *least, IMAGE, "sh", "-c", ":"],
        env=environment,
        capture_output=True,
        check=False,
    )
    if tried.returncode != 0:
        pytest.skip(f"podman runs no container here: {tried.stderr.decode().strip()}")
    socket = folder / "podman.sock"
    service = subprocess.Popen(
        [*command, "system", "service", "--time", "0", f"unix://{socket}"], env=environment, stderr=subprocess.DEVNULL
    )
    try:
        yield socket
    finally:
        service.terminate()
        service.wait(START_SECONDS)
        subprocess.run([*command, "rm", "--all", "--force"], env=environment, capture_output=True, check=False)
        _end_monitors(folder)


def _end_monitors(folder: Path) -> None:
    """End those of programs that were started in containers: five minutes later they would make the folder anew."""
    for pid in pids():
        with contextlib.suppress(OSError):
            if f"{folder}/".encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGKILL)
