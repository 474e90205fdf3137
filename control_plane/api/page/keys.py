"""API keys: listed, made and shown this once, ended; for operators."""

from typing import Any, Final

from fastapi import APIRouter, Response

from control_plane.api.own_api import Answer
from control_plane.api.page.fields import messages_at, unplaced
from control_plane.api.page.rendering import see_other
from control_plane.api.page.visit import Form, PostedForm, Visit, Visitor
from control_plane.api.parts import Cursor, IdPath

router = APIRouter(prefix="/keys")

PATH: Final = "/v1/api-keys"
ROLES: Final = ("member", "operator", "service")
_FIELDS: Final = ("role", "organizationId", "displayName", "days")
_DAY_SECONDS: Final = 86_400

type Document = dict[str, Any]


@router.get("", response_class=Response)
async def list_keys(here: Visitor, cursor: Cursor = None) -> Response:
    """Show all of them."""
    return await _show(here, cursor)


@router.post("", response_class=Response)
async def make_key(here: Visitor, form: PostedForm) -> Response:
    """Make one, and show it: this page is the only one that ever does."""
    body: Document = {name: form.text(name) for name in ("role", "organizationId", "displayName") if form.text(name)}
    if form.text("days"):
        # What is no number is passed on: the API says what is wrong with it.
        body["expiresInSeconds"] = form.number("days") * _DAY_SECONDS or form.text("days")
    answer = await here.ask("POST", PATH, body)
    if not answer.is_good:
        return await _show(here, form=form, refused=answer)
    return here.show("keys_made.html", 201, made=answer.document)


@router.post("/{key_id}/end", response_class=Response)
async def end_key(key_id: IdPath, here: Visitor, form: PostedForm) -> Response:
    """End one at once."""
    answer = await here.ask("DELETE", f"{PATH}/{key_id}")
    return see_other("/page/keys?done=ended") if answer.is_good else await _show(here, refused=answer)


async def _show(
    here: Visit, cursor: str | None = None, *, form: Form | None = None, refused: Answer | None = None
) -> Response:
    issues = () if refused is None else refused.issues
    pointers = {name: f"/{name}" for name in _FIELDS} | {"days": "/expiresInSeconds"}
    return here.show(
        "keys.html",
        200 if refused is None else refused.status,
        page=await here.read(PATH, cursor=cursor),
        roles=ROLES,
        typed={name: "" if form is None else form.text(name) for name in _FIELDS},
        at={name: messages_at(issues, pointer) for name, pointer in pointers.items()},
        refused=refused,
        unplaced=unplaced(issues, pointers.values()),
        now=here.parts.now(),
    )
