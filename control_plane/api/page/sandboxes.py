"""Sandboxes: which there are, and the plan in force of one, with what kept a newer one from being made."""

from fastapi import APIRouter, Response

from control_plane.api.page.visit import Visitor
from control_plane.api.parts import Cursor, SandboxPath

router = APIRouter(prefix="/sandboxes")


@router.get("", response_class=Response)
async def list_sandboxes(here: Visitor, cursor: Cursor = None) -> Response:
    """Show all of them."""
    return here.show("sandboxes.html", page=await here.read("/v1/sandboxes", cursor=cursor))


@router.get("/{sandbox_id}", response_class=Response)
async def show_sandbox(sandbox_id: SandboxPath, here: Visitor) -> Response:
    """Show one with its plan."""
    sandbox = await here.read(f"/v1/sandboxes/{sandbox_id}")
    plan = None
    if "plan" in sandbox:
        plan = await here.read(f"/v1/sandboxes/{sandbox_id}/plans/{sandbox['plan']['revision']}")
    return here.show("sandboxes_one.html", sandbox=sandbox, plan=plan)
