"""A worker with sandboxes and all it needs: control plane, gateway, an origin behind TLS, every one of them real."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from control_plane.service_tokens import token_file
from sallyport.plan.codec import seal
from tests.support.container_image import HOME
from tests.support.control_plane import SANDBOX, Replica, replica, settings
from tests.support.docker_daemon import IMAGE
from tests.support.in_process import GatewayInProcess, in_process_gateway, origin_context
from tests.support.plan_documents import Document
from tests.support.raw_end import RawOrigin, raw_origin
from tests.support.sandbox_network import needs_isolation
from tests.support.sandbox_stage import SHARED, open_folder
from tests.support.worker_process import WorkerProcess, worker_process

SECONDS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxWorker:
    """The parts. `state` is the worker's folder of sandboxes, `provider` who makes those of `create`."""

    worker: WorkerProcess
    plane: Replica
    gateway: GatewayInProcess
    origin: RawOrigin
    state: Path
    provider: str

    async def ask(self, method: str, path: str, body: object = None, *, status: int = 200) -> Any:  # noqa: ANN401  JSON
        """Ask the worker for something of its sandboxes."""
        async with httpx.AsyncClient(
            base_url=self.worker.api, trust_env=False, verify=False, timeout=SECONDS
        ) as client:
            answer = await client.request(method, f"/v1/sandboxes{path}", json=body)
        assert answer.status_code == status, answer.text
        return answer.json()

    async def create(self, *command: str, sandbox_id: str = SANDBOX, status: int = 201) -> Any:  # noqa: ANN401  JSON
        """Have a sandbox made."""
        wanted = {"sandboxId": sandbox_id, "command": list(command), "provider": self.provider}
        return await self.ask(
            "POST", "", wanted | ({"image": IMAGE} if self.provider == "docker" else {}), status=status
        )

    async def until(self, sandbox_id: str, **wanted: object) -> Any:  # noqa: ANN401  JSON
        """Wait until a sandbox is said to be so."""
        async with asyncio.timeout(SECONDS):
            while not wanted.items() <= (document := await self.ask("GET", f"/{sandbox_id}")).items():  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        return document

    async def log(self, sandbox_id: str = SANDBOX) -> str:
        """Return what a sandbox and its sandboxd have said."""
        return "\n".join((await self.ask("GET", f"/{sandbox_id}/logs?tail=1000"))["lines"])

    async def heard(self, text: str, times: int = 1) -> None:
        """Wait until a sandbox or its sandboxd has said something so often."""
        async with asyncio.timeout(SECONDS):
            while (await self.log()).count(text) < times:  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    async def home(self, sandbox_id: str = SANDBOX) -> Path:
        """Where the home of a sandbox is on this machine, until it is stopped."""
        if self.provider == "local":
            return self.state / "local" / sandbox_id / "home"
        return Path(f"/proc/{(await self.ask('GET', f'/{sandbox_id}'))['pid']}/root{HOME}")

    async def begin(self, plan: Document) -> str:
        """Store a plan and have the worker begin to apply it; returns the application's id."""
        sandbox_id, revision = str(plan["sandboxId"]), int(str(plan["revision"]))
        path = f"/v1/sandboxes/{sandbox_id}/plans?inForce=false"
        await self.plane.ask("POST", path, content=seal(plan), status=201)
        return await self.worker.begin(sandbox_id, revision)

    async def apply(self, plan: Document) -> Mapping[str, Any]:
        """Have a plan applied, and return the application at its end."""
        return await self.worker.ended(await self.begin(plan))


@contextlib.asynccontextmanager
async def sandbox_worker(
    folder: Path, *, reached: Mapping[str, int] | None = None, docker: Path | None = None
) -> AsyncIterator[SandboxWorker]:
    """Run all of it until the block ends. `reached` maps host:port of further origins to ports of loopback.

    With the socket of a `docker` its sandboxes are containers there.
    """
    needs_isolation()
    async with contextlib.AsyncExitStack() as opened:
        origin = await opened.enter_async_context(raw_origin(origin_context("api.example.com")))
        plane = await opened.enter_async_context(replica(settings(folder / "plane", None)))
        await plane.prepare()
        ports = {"api.example.com:443": origin.port, **(reached or {})}
        gateway = await opened.enter_async_context(
            in_process_gateway(folder, control=plane.followed_by(folder), connect_to=ports)
        )
        assert gateway.gateway.tunnel is not None
        state = opened.enter_context(open_folder()) / "state"
        given = {
            "CONTROL_URL": f"http://127.0.0.1:{plane.plane.port}",
            "CONTROL_TOKEN_FILE": str(token_file(plane.config.data_dir, "worker")),
            "SANDBOXES_GATEWAY_URL": f"ws://127.0.0.1:{gateway.gateway.tunnel.port}",
            "SANDBOXES_STATE_DIR": str(state),
            "SANDBOXES_STOP_TIMEOUT": "20s",
            "SANDBOXES_SHARED": ",".join(map(str, SHARED)),
        }
        if docker is not None:
            given["SANDBOXES_DOCKER_SOCKET"] = str(docker)
        given = {f"SALLYPORT_WORKER_{name}": value for name, value in given.items()}
        worker = await asyncio.to_thread(opened.enter_context, worker_process(folder / "worker", given))
        provider = "local" if docker is None else "docker"
        yield SandboxWorker(worker=worker, plane=plane, gateway=gateway, origin=origin, state=state, provider=provider)
        await asyncio.to_thread(worker.end)
