"""`/internal/v1/workers/{id}/admit`: a worker's front asks who calls, and whether what is called is there for them."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from pydantic import StringConstraints

from control_plane.api.bodies import body_of, read_body
from control_plane.api.caller import authenticate
from control_plane.api.parts import IdPath, PartsOf
from control_plane.feed import admission
from sallyport.plan.fields import Model

router = APIRouter(prefix="/internal/v1", dependencies=[Depends(authenticate)])

type Document = dict[str, object]


class Call(Model):
    """POST /internal/v1/workers/{id}/admit. The key itself stays with the worker."""

    key_hash: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    name: Annotated[str, StringConstraints(min_length=1, max_length=256)]


@router.post("/workers/{worker_id}/admit", openapi_extra=body_of(Call))
async def admit(worker_id: IdPath, request: Request, response: Response, parts: PartsOf) -> Document:
    """Decide on a call at a front. Without keyId the key opens nothing; without server there is none for it."""
    body = await read_body(request, Call)
    response.headers["Cache-Control"] = "no-store"
    found = await admission.admit(parts.database, worker_id, body.key_hash, body.name, parts.now())
    return admission.document(found)
