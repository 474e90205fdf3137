"""The part of the worker's API that is about the sandboxes it runs. Thin, as `worker.api` is."""

from typing import Annotated

from fastapi import FastAPI, Query, Request
from fastapi.responses import JSONResponse

from worker.sandboxes.errors import SandboxError
from worker.sandboxes.provider import Definition
from worker.sandboxes.sandboxes import Sandboxes


def add_sandboxes(api: FastAPI, sandboxes: Sandboxes) -> None:
    """Add the paths below /v1/sandboxes."""

    @api.exception_handler(SandboxError)
    async def refused(_: Request, error: SandboxError) -> JSONResponse:
        return JSONResponse(error.to_document(), error.category.status)

    @api.get("/v1/sandboxes")
    async def listed() -> dict[str, object]:
        return {"sandboxes": await sandboxes.documents()}

    @api.post("/v1/sandboxes", status_code=201)
    async def create(definition: Definition) -> dict[str, object]:
        await sandboxes.create(definition)
        return await sandboxes.document(definition.sandbox_id)

    @api.get("/v1/sandboxes/{sandbox_id}")
    async def find(sandbox_id: str) -> dict[str, object]:
        return await sandboxes.document(sandbox_id)

    @api.delete("/v1/sandboxes/{sandbox_id}")
    async def destroy(sandbox_id: str) -> dict[str, object]:
        await sandboxes.destroy(sandbox_id)
        return {"sandboxId": sandbox_id, "removed": True}

    @api.post("/v1/sandboxes/{sandbox_id}/start")
    async def start(sandbox_id: str) -> dict[str, object]:
        await sandboxes.start(sandbox_id)
        return await sandboxes.document(sandbox_id)

    @api.post("/v1/sandboxes/{sandbox_id}/stop")
    async def stop(sandbox_id: str) -> dict[str, object]:
        await sandboxes.stop(sandbox_id)
        return await sandboxes.document(sandbox_id)

    @api.get("/v1/sandboxes/{sandbox_id}/logs")
    async def logs(sandbox_id: str, tail: Annotated[int, Query(ge=1, le=100_000)] = 100) -> dict[str, object]:
        return {"sandboxId": sandbox_id, "lines": await sandboxes.log(sandbox_id, tail)}
