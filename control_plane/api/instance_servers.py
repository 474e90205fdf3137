"""`/api/shared-tools` and `/api/installations`: the integration servers of instances, carried out by workers."""

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import Field, JsonValue, StringConstraints

from control_plane.api.bodies import body_of, read_body
from control_plane.api.caller import TiersOf, authenticate
from control_plane.api.instances import InstanceQuery
from control_plane.api.parts import PAGE_DEFAULT, Cursor, Limit, PartsOf, decode_cursor, page
from control_plane.feed.servers import PENDING, Order
from control_plane.feed.tiers import Tier
from sallyport.plan.fields import Id, Model

router = APIRouter(prefix="/api", dependencies=[Depends(authenticate)])

type Document = dict[str, object]

SharedToolPath = Annotated[str, Path(pattern=r"^stl_[0-9a-f]{32}$")]
InstallationPath = Annotated[str, Path(pattern=r"^inl_[0-9a-f]{32}$")]
# They are parts of an entry's name, which a client takes up to 256 characters of.
ToolId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
UserId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:@+-]{0,95}$")]
UserQuery = Annotated[str | None, Query(alias="userId", max_length=96)]
AtOnce = Annotated[bool, Query(alias="atOnce")]
Text = Annotated[str, StringConstraints(max_length=4096)]


class _Install(Model):
    """What a worker installs; it is the worker that judges it (contracts section 8)."""

    instance_id: Id
    tool_id: ToolId
    source: Annotated[str, StringConstraints(min_length=1, max_length=512)] | dict[str, JsonValue]
    arguments: Annotated[tuple[Text, ...], Field(strict=False, max_length=64)] = ()
    environment: Annotated[dict[str, Text], Field(max_length=64)] = Field(default_factory=dict)
    # References, never values.
    secrets: Annotated[dict[str, dict[str, str]], Field(max_length=64)] = Field(default_factory=dict)
    worker_id: Id | None = None

    def order(self) -> Order:
        """Return what the worker is told."""
        secrets: dict[str, dict[str, object]] = {name: dict(each) for name, each in self.secrets.items()}
        source = self.source if isinstance(self.source, str) else dict[str, object](self.source)
        return Order(source, list(self.arguments), self.environment, secrets)


class NewSharedTool(_Install):
    """POST /api/shared-tools. Without a worker it is the one with the fewest servers."""

    tier: Annotated[Tier, Field(strict=False)]
    desired: Literal["running", "stopped"] = "running"


class NewInstallation(_Install):
    """POST /api/installations."""

    user_id: UserId


@router.post("/shared-tools", status_code=201, openapi_extra=body_of(NewSharedTool))
async def create_shared_tool(request: Request, response: Response, parts: PartsOf) -> Document:
    """Have a tool installed for all users of an instance; 202 where its worker has still to do it."""
    body = await read_body(request, NewSharedTool)
    made = await parts.servers.share(
        body.instance_id,
        body.tool_id,
        body.tier,
        body.order(),
        worker_id=body.worker_id,
        is_wanted=body.desired == "running",
        now=parts.now(),
    )
    return _made(made, response)


@router.get("/shared-tools")
async def list_shared_tools(
    instance_id: InstanceQuery, tiers: TiersOf, parts: PartsOf, cursor: Cursor = None, limit: Limit = PAGE_DEFAULT
) -> Document:
    """List the shared tools of an instance by id; those of the tier admin are for operators."""
    after = "" if cursor is None else decode_cursor(cursor)
    return page(await parts.servers.page_shared(instance_id, tiers, after, limit + 1), "sharedToolId", limit)


@router.get("/shared-tools/{shared_tool_id}")
async def get_shared_tool(shared_tool_id: SharedToolPath, tiers: TiersOf, parts: PartsOf) -> Document:
    """Return a shared tool."""
    return await parts.servers.get(shared_tool_id, tiers)


@router.delete("/shared-tools/{shared_tool_id}", status_code=204, response_class=Response)
async def delete_shared_tool(shared_tool_id: SharedToolPath, parts: PartsOf, at_once: AtOnce = False) -> None:
    """Take a shared tool away; unless at once, its process goes on for those who use it."""
    await parts.servers.remove(shared_tool_id, parts.now(), at_once=at_once)


@router.post("/shared-tools/{shared_tool_id}/start")
async def start_shared_tool(shared_tool_id: SharedToolPath, parts: PartsOf) -> Document:
    """Have a shared tool run."""
    return await parts.servers.start(shared_tool_id, parts.now())


@router.post("/shared-tools/{shared_tool_id}/stop")
async def stop_shared_tool(shared_tool_id: SharedToolPath, parts: PartsOf, at_once: AtOnce = False) -> Document:
    """Have a shared tool not run; unless at once, its process goes on for those who use it."""
    return await parts.servers.stop(shared_tool_id, parts.now(), at_once=at_once)


@router.post("/installations", status_code=201, openapi_extra=body_of(NewInstallation))
async def create_installation(request: Request, response: Response, parts: PartsOf) -> Document:
    """Have a tool installed for one user; 202 where its worker has still to do it."""
    body = await read_body(request, NewInstallation)
    made = await parts.servers.install(
        body.instance_id, body.tool_id, body.user_id, body.order(), worker_id=body.worker_id, now=parts.now()
    )
    return _made(made, response)


@router.get("/installations")
async def list_installations(
    instance_id: InstanceQuery,
    parts: PartsOf,
    user_id: UserQuery = None,
    cursor: Cursor = None,
    limit: Limit = PAGE_DEFAULT,
) -> Document:
    """List what the users of an instance have installed by id, or one of them."""
    after = "" if cursor is None else decode_cursor(cursor)
    found = await parts.servers.page_installed(instance_id, user_id, after, limit + 1)
    return page(found, "installationId", limit)


@router.get("/installations/{installation_id}")
async def get_installation(installation_id: InstallationPath, parts: PartsOf) -> Document:
    """Return an installation."""
    return await parts.servers.get(installation_id)


@router.delete("/installations/{installation_id}", status_code=204, response_class=Response)
async def delete_installation(installation_id: InstallationPath, parts: PartsOf, at_once: AtOnce = False) -> None:
    """Take an installation away; unless at once, its process goes on for its user."""
    await parts.servers.remove(installation_id, parts.now(), at_once=at_once)


def _made(document: Document, response: Response) -> Document:
    if document["status"] == PENDING:
        response.status_code = 202
    return document
