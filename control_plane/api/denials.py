"""`GET /v1/sandboxes/{id}/denials`: what gateways denied a sandbox lately."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response

from control_plane.api.caller import authenticate
from control_plane.api.parts import PAGE_DEFAULT, Limit, PartsOf, SandboxPath
from sallyport.denial_cursor import MAX_LENGTH, PATTERN

router = APIRouter(prefix="/v1/sandboxes/{sandbox_id}", dependencies=[Depends(authenticate)])

DenialCursor = Annotated[str, Query(pattern=f"^({PATTERN})?$", max_length=MAX_LENGTH)]


@router.get("/denials")
async def list_denials(
    sandbox_id: SandboxPath,
    response: Response,
    parts: PartsOf,
    cursor: DenialCursor = "",
    limit: Limit = PAGE_DEFAULT,
) -> dict[str, object]:
    """List the newest denials after a cursor, the oldest first. There is always a nextCursor: more may come."""
    response.headers["Cache-Control"] = "no-store"
    return await parts.denials.of_sandbox(sandbox_id, cursor, limit, parts.now())
