"""What the bindings of a profile's version compile to: the plan, why a request is answered so, what would change."""

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any, Final

import orjson
from fastapi import APIRouter, Depends, Query, Request
from pydantic import Field

from control_plane.api.bindings import MAX_BINDINGS_BYTES, Bindings
from control_plane.api.bodies import body_of, read_body, read_bytes, read_model
from control_plane.api.caller import authenticate
from control_plane.api.parts import IdPath, NumberPath, PartsOf
from control_plane.compiler.compile import FIRST_REVISION, NO_SANDBOX, seal_for
from control_plane.compiler.inputs import StoredBinding
from control_plane.refusals import ControlCode, FieldIssue, Refused
from sallyport.plan.codec import parse_plan
from sallyport.plan.diff import diff_plans
from sallyport.plan.explain import explain
from sallyport.plan.fields import Model, Positive, SandboxId
from sallyport.plan.model import CompiledRuntimePlan
from sallyport.plan.simulate import MAX_REQUESTS, RecordedRequest, RecordingError, read_har, simulate

router = APIRouter(prefix="/v1/sandbox/profiles/{profile_id}/versions/{version}", dependencies=[Depends(authenticate)])

# A recording has the bodies too, which nobody reads here.
MAX_RECORDING_BYTES: Final = 8 * 1024 * 1024
MAX_URL: Final = 8_192
MAX_METHOD: Final = 64

type Document = dict[str, object]


class NewCompilation(Model):
    """POST .../compile. With a sandbox of the version the plan is put in force for it."""

    sandbox_id: SandboxId | None = None


class NewDiff(Model):
    """POST .../diff: the version as it is against another version, or against other bindings."""

    version: Positive | None = None
    bindings: Bindings | None = None


class Recorded(Model):
    """A request as it was made."""

    method: Annotated[str, Field(max_length=MAX_METHOD)]
    url: Annotated[str, Field(max_length=MAX_URL)]


class NewSimulation(Model):
    """POST .../simulate. `har` may stand in the place of `requests`; without bindings the version's own are taken."""

    requests: Annotated[tuple[Recorded, ...], Field(strict=False, max_length=MAX_REQUESTS)]
    bindings: Bindings | None = None
    sandbox_id: SandboxId | None = None


@router.post("/compile", openapi_extra=body_of(NewCompilation))
async def compile_version(profile_id: IdPath, version: NumberPath, request: Request, parts: PartsOf) -> Document:
    """Compile the bindings to a plan; put it in force where a sandbox is named."""
    body = await read_body(request, NewCompilation)
    if body.sandbox_id is None:
        content = (await parts.compilation.compile(profile_id, version)).content
        sealed = await asyncio.to_thread(seal_for, content, NO_SANDBOX, FIRST_REVISION)
        return {"plan": orjson.loads(sealed.document)}
    applied = await parts.compilation.apply(profile_id, version, body.sandbox_id, parts.now())
    about = {"sandboxId": body.sandbox_id, "revision": applied.revision, "digest": applied.sealed.digest}
    return {**about, "changed": applied.is_new, "plan": orjson.loads(applied.sealed.document)}


@router.get("/explain")
async def explain_request(
    profile_id: IdPath,
    version: NumberPath,
    parts: PartsOf,
    method: Annotated[str, Query(max_length=MAX_METHOD)],
    url: Annotated[str, Query(max_length=MAX_URL)],
) -> Document:
    """Say what a gateway would do with a request of a sandbox of this version, and why."""
    plan = (await parts.compilation.compile(profile_id, version)).plan
    return (await asyncio.to_thread(explain, plan, method, url)).to_document()


@router.post("/diff", openapi_extra=body_of(NewDiff))
async def diff_version(profile_id: IdPath, version: NumberPath, request: Request, parts: PartsOf) -> Document:
    """Say which requests would be answered differently by another version, or with other bindings."""
    body = await read_body(request, NewDiff, MAX_BINDINGS_BYTES)
    if (body.version is None) == (body.bindings is None):
        issue = FieldIssue("missing_field", "/bindings", "either bindings or a version is compared with")
        raise Refused(ControlCode.INVALID_REQUEST, "1 issues; nothing changed", issues=[issue])
    before = (await parts.compilation.compile(profile_id, version)).plan
    other = version if body.version is None else body.version
    after = (await parts.compilation.compile(profile_id, other, _candidate(body.bindings, parts.now()))).plan
    return (await asyncio.to_thread(diff_plans, before, after)).to_document()


@router.post("/simulate", openapi_extra=body_of(NewSimulation))
async def simulate_requests(profile_id: IdPath, version: NumberPath, request: Request, parts: PartsOf) -> Document:
    """Say what would become of recorded requests, those that change first.

    They are compared with the plan in force of a sandbox where one is named, else with the version's own bindings where
    others are given.
    """
    body = _simulation(await read_bytes(request, MAX_RECORDING_BYTES))
    before: CompiledRuntimePlan | None = None
    if body.sandbox_id is not None:
        kept = await parts.compilation.plan_in_force(profile_id, version, body.sandbox_id)
        before = await asyncio.to_thread(parse_plan, kept)
    elif body.bindings is not None:
        before = (await parts.compilation.compile(profile_id, version)).plan
    after = (await parts.compilation.compile(profile_id, version, _candidate(body.bindings, parts.now()))).plan
    recorded = [RecordedRequest(each.method, each.url) for each in body.requests]
    found = await asyncio.to_thread(simulate, recorded, after, before)
    return {"items": [each.to_document() for each in found], "changed": sum(each.is_changed for each in found)}


def _candidate(bindings: Bindings | None, now: float) -> Sequence[StoredBinding] | None:
    return None if bindings is None else [each.draft().stored(now) for each in bindings]


def _simulation(data: bytes) -> NewSimulation:
    """Read the body; a HAR has numbers with a point and null, which no document of ours has, and gives its requests."""
    try:
        document: Any = orjson.loads(data)
    except orjson.JSONDecodeError:
        document = None  # told below, with what is wrong
    if isinstance(document, dict) and "har" in document and "requests" not in document:
        try:
            requests = read_har(document.pop("har"))
        except RecordingError as error:
            issue = FieldIssue("malformed", "/har", str(error))
            raise Refused(ControlCode.INVALID_REQUEST, "1 issues; nothing changed", issues=[issue]) from None
        data = orjson.dumps({**document, "requests": [each._asdict() for each in requests]})
    return read_model(data, NewSimulation)[0]
