"""`/v1/sandbox/profiles/{id}/versions/{version}/integration-bindings`: which connections a version's sandboxes use."""

import re
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, Header, Request, Response
from pydantic import Field, StringConstraints

from control_plane.api.bodies import body_of, read_body
from control_plane.api.caller import authenticate
from control_plane.api.parts import IdPath, NumberPath, PartsOf
from control_plane.bindings import Draft
from control_plane.refusals import ControlCode, FieldIssue, Refused
from sallyport.plan.fields import ConnectionId, Count, Model

router = APIRouter(prefix="/v1/sandbox/profiles/{profile_id}/versions/{version}", dependencies=[Depends(authenticate)])

# A sandbox uses a handful of integrations; each may list some hundred repositories.
MAX_BINDINGS: Final = 200
MAX_BINDINGS_BYTES: Final = 512 * 1024
# Shorter than ids elsewhere: routes are named `<binding>.<route>`, and that is an id too.
BindingName = Annotated[str, StringConstraints(pattern=r"^bnd_[A-Za-z0-9_-]{1,60}$")]

type Document = dict[str, object]


class NewBinding(Model):
    """One binding of a document; without an id it gets one."""

    binding_id: BindingName | None = None
    connection_id: ConnectionId
    kind: Literal["agent", "connector", "git"]
    config: dict[str, Any]

    def draft(self) -> Draft:
        """Return it as the logic takes it."""
        return Draft(id=self.binding_id, connection_id=self.connection_id, kind=self.kind, config=self.config)


Bindings = Annotated[tuple[NewBinding, ...], Field(strict=False, max_length=MAX_BINDINGS)]


class NewBindings(Model):
    """PUT .../integration-bindings. `revision` is the one that was read, as If-Match is."""

    revision: Count | None = None
    bindings: Bindings


@router.get("/integration-bindings")
async def get_bindings(profile_id: IdPath, version: NumberPath, response: Response, parts: PartsOf) -> Document:
    """Return the bindings of a version."""
    return _tagged(response, await parts.bindings.get(profile_id, version))


@router.put("/integration-bindings", openapi_extra=body_of(NewBindings))
async def put_bindings(
    profile_id: IdPath,
    version: NumberPath,
    request: Request,
    response: Response,
    parts: PartsOf,
    if_match: Annotated[str | None, Header(max_length=256)] = None,
) -> Document:
    """Replace all bindings of a version; what its sandboxes have follows within seconds."""
    body = await read_body(request, NewBindings, MAX_BINDINGS_BYTES)
    seen = {each for each in (body.revision, _revision(if_match)) if each is not None}
    if len(seen) > 1:
        issue = FieldIssue("malformed", "/revision", "If-Match names another revision")
        raise Refused(ControlCode.INVALID_REQUEST, "1 issues; nothing changed", issues=[issue])
    drafts = [each.draft() for each in body.bindings]
    replaced = await parts.bindings.replace(profile_id, version, drafts, seen.pop() if seen else None, parts.now())
    return _tagged(response, replaced)


def _tagged(response: Response, document: Document) -> Document:
    response.headers["ETag"] = f'"{document["revision"]}"'
    return document


def _revision(if_match: str | None) -> int | None:
    """Return the revision of an If-Match (RFC 9110 section 13.1.1); `*` names none. Raises Refused."""
    if if_match is None or if_match.strip() == "*":
        return None
    found = re.fullmatch(r'"(\d{1,15})"', if_match.strip())
    if found is None:
        issue = FieldIssue("malformed", "If-Match", "give back the ETag of what was read, as it is")
        raise Refused(ControlCode.INVALID_REQUEST, "faulty parameters", issues=[issue])
    return int(found[1])
