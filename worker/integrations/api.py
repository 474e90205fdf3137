"""The part of the worker's API that is about integration servers (contracts section 8). Thin, as `worker.api` is."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Annotated, Final

from fastapi import FastAPI, Query, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from sallyport.net.tasks import TaskSet
from worker.integrations.errors import IntegrationError
from worker.integrations.integration import Integration
from worker.integrations.integrations import Integrations
from worker.integrations.manifest import Manifest
from worker.integrations.sources import InstallRequest, manifest_of

EVENTS: Final = "text/event-stream"
# Behind a proxy that ends idle streams after a minute the watcher stays connected.
HEARTBEAT_SECONDS: Final = 10.0
# Lines of progress that wait for a slow reader; the newest are left out, never the end.
MAX_WAITING_EVENTS: Final = 1000


def add_integrations(api: FastAPI, integrations: Integrations, tasks: TaskSet) -> None:
    """Add the paths below /integrations. tasks own the installations that are watched."""

    @api.exception_handler(IntegrationError)
    async def refused(_: Request, error: IntegrationError) -> JSONResponse:
        return JSONResponse(error.to_document(), error.category.status)

    @api.get("/integrations")
    async def listed() -> dict[str, object]:
        return {"integrations": [integration.row() for integration in integrations.list()]}

    @api.post("/integrations/install", status_code=201)
    async def install(order: InstallRequest, request: Request) -> Response:
        manifest = manifest_of(order)
        if EVENTS in request.headers.get("accept", ""):
            progress = _progress(integrations, manifest, order, tasks)
            return StreamingResponse(progress, media_type=EVENTS, status_code=201)
        installed = _same(integrations, manifest.id, order)
        if installed is None:
            installed = await integrations.install(manifest, lambda stage, line: None, order.owner, order.digest)
        return JSONResponse(_installed(installed), 201)

    @api.delete("/integrations/{integration_id}")
    async def remove(integration_id: str) -> dict[str, object]:
        await integrations.remove(integration_id)
        return {"id": integration_id, "removed": True}

    @api.post("/integrations/{integration_id}/start")
    async def start(integration_id: str) -> dict[str, object]:
        integration = integrations.find(integration_id)
        await integration.start()
        return _running(integration)

    @api.post("/integrations/{integration_id}/restart")
    async def restart(integration_id: str) -> dict[str, object]:
        integration = integrations.find(integration_id)
        await integration.restart()
        return _running(integration)

    @api.post("/integrations/{integration_id}/stop")
    async def stop(integration_id: str) -> dict[str, object]:
        integration = integrations.find(integration_id)
        await integration.stop()
        return {"id": integration_id, "status": integration.status.value}

    @api.get("/integrations/{integration_id}/status")
    async def status(integration_id: str) -> dict[str, object]:
        return integrations.find(integration_id).to_document()

    @api.get("/integrations/{integration_id}/tools")
    async def tools(integration_id: str) -> dict[str, object]:
        return {"tools": list(integrations.find(integration_id).stored.tools)}

    @api.get("/integrations/{integration_id}/logs")
    async def logs(integration_id: str, tail: Annotated[int, Query(ge=1, le=100_000)] = 100) -> dict[str, object]:
        return {"id": integration_id, "lines": integrations.find(integration_id).log.tail(tail)}


def _same(integrations: Integrations, integration_id: str, order: InstallRequest) -> Integration | None:
    """Return what the same request of the control plane installed before; whether that was answered it may not know."""
    found = next((each for each in integrations.list() if each.id == integration_id), None)
    if found is None or order.owner != "control-plane" or found.stored.owner != order.owner:
        return None
    return found if found.stored.order == order.digest else None


def _installed(integration: Integration) -> dict[str, object]:
    return {"id": integration.id, "installed": True}


def _running(integration: Integration) -> dict[str, object]:
    return {"id": integration.id, "status": integration.status.value, "pid": integration.pid}


async def _progress(
    integrations: Integrations, manifest: Manifest, order: InstallRequest, tasks: TaskSet
) -> AsyncIterator[str]:
    """Install, and tell of it: `progress` events, then one `installed` or `error`. It goes on if nobody listens."""
    events: asyncio.Queue[str | None] = asyncio.Queue()

    def report(stage: str, line: str) -> None:
        if events.qsize() < MAX_WAITING_EVENTS:
            events.put_nowait(_event("progress", {"stage": stage, "line": line}))

    async def install() -> None:
        try:
            done = _event(
                "installed", _installed(await integrations.install(manifest, report, order.owner, order.digest))
            )
        except IntegrationError as error:
            done = _event("error", error.to_document())
        events.put_nowait(done)
        events.put_nowait(None)

    tasks.spawn(install(), name="installation")
    while True:
        try:
            async with asyncio.timeout(HEARTBEAT_SECONDS):
                event = await events.get()
        except TimeoutError:
            event = ": still here\n\n"
        if event is None:
            return
        yield event


def _event(name: str, document: object) -> str:
    return f"event: {name}\ndata: {json.dumps(document)}\n\n"
