"""Sandboxes: which there are, made, and the plan in force of one, with what kept a newer one from being made."""

from typing import Any, Final

from fastapi import APIRouter, Response

from control_plane.api.own_api import Answer
from control_plane.api.page.fields import messages_at, unplaced
from control_plane.api.page.rendering import see_other
from control_plane.api.page.visit import Form, PostedForm, Visit, Visitor
from control_plane.api.parts import PAGE_MAX, Cursor, SandboxPath

router = APIRouter(prefix="/sandboxes")

PATH: Final = "/v1/sandboxes"
_FIELDS: Final = ("organizationId", "sandboxProfileId", "version", "sandboxId")


@router.get("", response_class=Response)
async def list_sandboxes(here: Visitor, cursor: Cursor = None) -> Response:
    """Show all of them."""
    return await _show(here, cursor)


@router.post("", response_class=Response)
async def make_sandbox(here: Visitor, form: PostedForm) -> Response:
    """Make one, of a profile's version or of none."""
    body: dict[str, Any] = {name: form.text(name) for name in _FIELDS if form.text(name)}
    if "version" in body:
        body["version"] = form.number("version") or body["version"]
    answer = await here.ask("POST", PATH, body)
    if answer.is_good:
        return see_other(f"/page/sandboxes/{answer.document['sandboxId']}?done=made")
    return await _show(here, form=form, refused=answer)


@router.get("/{sandbox_id}", response_class=Response)
async def show_sandbox(sandbox_id: SandboxPath, here: Visitor) -> Response:
    """Show one with its plan."""
    sandbox = await here.read(f"{PATH}/{sandbox_id}")
    plan = None
    if "plan" in sandbox:
        plan = await here.read(f"{PATH}/{sandbox_id}/plans/{sandbox['plan']['revision']}")
    return here.show("sandboxes_one.html", sandbox=sandbox, plan=plan)


async def _show(
    here: Visit, cursor: str | None = None, *, form: Form | None = None, refused: Answer | None = None
) -> Response:
    issues = () if refused is None else refused.issues
    profiles = await here.read("/v1/sandbox/profiles", limit=str(PAGE_MAX))
    return here.show(
        "sandboxes.html",
        200 if refused is None else refused.status,
        page=await here.read(PATH, cursor=cursor),
        profiles=profiles["items"],
        typed={name: "" if form is None else form.text(name) for name in _FIELDS},
        at={name: messages_at(issues, f"/{name}") for name in _FIELDS},
        refused=refused,
        unplaced=unplaced(issues, [f"/{name}" for name in _FIELDS]),
    )
