"""What a request carries, read strictly: bounded, in time, of the caller's organization, no secret in any message."""

import asyncio
from collections.abc import Callable
from typing import Annotated, Any, Final

from fastapi import Request
from pydantic import StringConstraints, ValidationError
from starlette.requests import ClientDisconnect

from control_plane.api.caller import SCOPE_KEY
from control_plane.callers import Caller
from control_plane.ownership import own_organization, refuse_foreign
from control_plane.refusals import ControlCode, FieldIssue, Refused
from sallyport.plan.codec import MAX_ISSUES, json_pointer
from sallyport.plan.fields import Id, Model
from sallyport.plan.schema_faults import schema_faults
from sallyport.plan.strict_json import Fault, StrictJsonError, read_strictly

# The largest body but for plans and leases is a credential of 16 KiB.
MAX_BODY_BYTES: Final = 64 * 1024
# Whoever sends for longer has stopped sending.
BODY_SECONDS: Final = 10.0


async def read_bytes(
    request: Request, limit: int = MAX_BODY_BYTES, arrived: Callable[[int], None] = lambda size: None
) -> bytes:
    """Return the body; raise Refused where it is too long or too slow, and as `arrived`, which hears of each piece."""
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limit:
                    raise Refused(ControlCode.BODY_TOO_LARGE, f"the body is larger than {limit} bytes")
                arrived(len(chunk))
    except TimeoutError:
        raise Refused(ControlCode.REQUEST_TIMEOUT, f"the body did not arrive within {BODY_SECONDS:g} s") from None
    except ClientDisconnect:
        # Nobody is left to read it; but it is the caller's fault, and no trace of ours in the log.
        raise Refused(ControlCode.INVALID_REQUEST, "the body ended before its length") from None
    return bytes(body)


async def read_body[M: Model](request: Request, model: type[M], limit: int = MAX_BODY_BYTES) -> M:
    """Return the body as a model; raise Refused with every issue it has."""
    return (await read_document(request, model, limit))[0]


async def read_document[M: Model](
    request: Request, model: type[M], limit: int = MAX_BODY_BYTES
) -> tuple[M, dict[str, Any]]:
    """Return the body as a model, and as it came; raise Refused with every issue it has.

    A caller that is bound to an organization may leave it out, and names no other, nor anything of another.
    """
    data = await read_bytes(request, limit)
    caller = request.scope.get(SCOPE_KEY)
    if not isinstance(caller, Caller) or caller.organization_id is None:
        return read_model(data, model)
    found, document = read_model(data, model, caller.organization_id)
    own_organization(caller, document.get("organizationId"))
    named = [(name, value) for name, value in document.items() if isinstance(value, str)]
    await refuse_foreign(request.app.state.parts.database, caller, named)
    return found, document


def read_model[M: Model](data: bytes, model: type[M], organization_id: str | None = None) -> tuple[M, dict[str, Any]]:
    """Return a document as a model, and as it came; raise Refused with every issue it has.

    `organization_id` stands where the document should name one and does not.
    """
    try:
        document, faults = read_strictly(data, most_faults=MAX_ISSUES)
    except StrictJsonError as error:
        raise _refused([error.fault]) from None
    if organization_id is not None and isinstance(document, dict) and "organization_id" in model.model_fields:
        document.setdefault("organizationId", organization_id)
    found: M | None = None
    try:
        found = model.model_validate(document)
    except ValidationError as error:
        faults += schema_faults(error, document, already={fault.path for fault in faults}, most=MAX_ISSUES)
    if faults or found is None:
        raise _refused(faults)
    assert isinstance(document, dict), "a model is read from an object"
    return found, document


def body_of(model: type[Model]) -> dict[str, Any]:
    """Return what OpenAPI shall say of a body that is read by read_body."""
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def _refused(faults: list[Fault]) -> Refused:
    issues = [FieldIssue(code.value, json_pointer(path), message) for code, path, message in faults[:MAX_ISSUES]]
    return Refused(ControlCode.INVALID_REQUEST, f"{len(issues)} issues; nothing changed", issues=issues)


DisplayName = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1F\x7F]{1,200}$")]
OrganizationId = Id
