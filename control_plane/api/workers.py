"""Workers: what they report (`/internal/v1`), and what operators see of it."""

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import Field, StringConstraints

from control_plane.api.bodies import body_of, read_body
from control_plane.api.caller import authenticate
from control_plane.api.parts import PAGE_DEFAULT, Cursor, IdPath, Limit, PartsOf, decode_cursor, page
from control_plane.workers import ReportedServer, Tier
from sallyport.plan.fields import Count, HttpUrl, Model, SandboxId

router = APIRouter(dependencies=[Depends(authenticate)])

# A worker's own limit on servers; each tells the first thousand of its tools.
MAX_SERVERS: Final = 1_000
MAX_TOOLS: Final = 1_000
MAX_REPORT_BYTES: Final = 4 * 1024 * 1024

type Document = dict[str, object]

ServerId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$")]
Status = Annotated[str, StringConstraints(pattern=r"^[a-z_]{1,32}$")]
ToolName = Annotated[str, StringConstraints(min_length=1, max_length=256)]
Epoch = Annotated[int, Query(ge=0, lt=2**53)]


class ServerReport(Model):
    """A server of a worker's report."""

    server_id: ServerId
    tier: Tier
    status: Status
    tools: Annotated[tuple[ToolName, ...], Field(strict=False, max_length=MAX_TOOLS)]
    sandbox_id: SandboxId | None = None


class WorkerReport(Model):
    """PUT /internal/v1/workers/{id}."""

    epoch: Count
    api_url: HttpUrl
    front_url: HttpUrl | None = None
    servers: Annotated[tuple[ServerReport, ...], Field(strict=False, max_length=MAX_SERVERS)]


@router.put("/internal/v1/workers/{worker_id}", openapi_extra=body_of(WorkerReport))
async def put_worker(worker_id: IdPath, request: Request, parts: PartsOf) -> Document:
    """Take a worker's report for the next 30 seconds."""
    body = await read_body(request, WorkerReport, MAX_REPORT_BYTES)
    servers = [ReportedServer(**each.model_dump()) for each in body.servers]
    seconds = await parts.workers.report(
        worker_id, epoch=body.epoch, api_url=body.api_url, front_url=body.front_url, servers=servers
    )
    return {"expiresInSeconds": seconds}


@router.delete("/internal/v1/workers/{worker_id}", status_code=204, response_class=Response)
async def withdraw_worker(worker_id: IdPath, epoch: Epoch, parts: PartsOf) -> None:
    """Take out a worker that ends."""
    await parts.workers.withdraw(worker_id, epoch)


@router.get("/internal/v1/workers/{worker_id}/declared")
async def get_declared(worker_id: IdPath, parts: PartsOf) -> Document:
    """Return the servers that are to be installed on a worker."""
    return {"servers": [each.to_document() for each in await parts.workers.declared(worker_id)]}


@router.delete("/api/workers/{worker_id}", status_code=204, response_class=Response)
async def forget_worker(worker_id: IdPath, parts: PartsOf) -> None:
    """Forget a worker that is lost or was withdrawn, with what it ran; one that lives is refused."""
    await parts.workers.forget(worker_id)


@router.get("/api/workers")
async def list_workers(parts: PartsOf, cursor: Cursor = None, limit: Limit = PAGE_DEFAULT) -> Document:
    """List workers by id, with the servers that each reported last."""
    after = "" if cursor is None else decode_cursor(cursor)
    return page(await parts.workers.page(after, limit + 1), "workerId", limit)
