"""What the operator offers: listed with its health, edited through its forms."""

from collections.abc import Mapping
from typing import Any, Final

from fastapi import APIRouter, Response

from control_plane.api.own_api import Answer
from control_plane.api.page.fields import Issues, fields_of, messages_at, read_fields, unplaced, without_hidden
from control_plane.api.page.rendering import see_other
from control_plane.api.page.visit import Form, PostedForm, Visit, Visitor
from control_plane.api.parts import Cursor, IdPath

router = APIRouter(prefix="/targets")

CONFIG: Final = "config."
SECRET: Final = "secret."
FORGET: Final = "forget."
_OVERRIDES: Final = {"displayName": "Name", "description": "Description"}

type Document = dict[str, Any]


@router.get("", response_class=Response)
async def list_targets(here: Visitor, cursor: Cursor = None) -> Response:
    """Show all of them."""
    return here.show("targets.html", page=await here.read("/v1/integration/targets", cursor=cursor))


@router.get("/{target_key}", response_class=Response)
async def show_target(target_key: IdPath, here: Visitor) -> Response:
    """Show one, as a form to operators."""
    return await _show(here, await here.read(f"/v1/integration/targets/{target_key}"))


@router.post("/{target_key}", response_class=Response)
async def change_target(target_key: IdPath, here: Visitor, form: PostedForm) -> Response:
    """Change what is not secret."""
    path = f"/v1/integration/targets/{target_key}"
    target = await here.read(path)
    config = read_fields(_schema(target, "target"), target["config"], form.values, CONFIG)
    if form.text("do") == "fields":
        return await _show(here, target, config=config, form=form)
    shown = await here.form(target_key, "target", config)
    changes = {name: form.text(name) for name in _OVERRIDES if form.text(name)}
    body = {
        "revision": form.number("revision"),
        "enabled": "true" in form.values.get("enabled", ()),
        "config": config if shown is None else without_hidden(shown, config),
        "clear": [name for name in _OVERRIDES if name in target.get("overrides", {}) and name not in changes],
        **changes,
    }
    answer = await here.ask("PATCH", path, body)
    if answer.is_good:
        return see_other(f"/page/targets/{target_key}?done=saved")
    return await _show(here, target, config=config, form=form, refused=answer)


@router.post("/{target_key}/secrets", response_class=Response)
async def change_secrets(target_key: IdPath, here: Visitor, form: PostedForm) -> Response:
    """Set and forget secrets."""
    path = f"/v1/integration/targets/{target_key}"
    body = {
        "revision": form.number("revision"),
        "set": {name: value.replace("\r\n", "\n") for name, value in form.names(SECRET).items()},
        "clear": list(form.names(FORGET)),
    }
    answer = await here.ask("PUT", f"{path}/secrets", body)
    if answer.is_good:
        return see_other(f"/page/targets/{target_key}?done=secrets")
    return await _show(here, await here.read(path), refused=answer)


async def _show(
    here: Visit,
    target: Document,
    *,
    config: Document | None = None,
    form: Form | None = None,
    refused: Answer | None = None,
) -> Response:
    issues = () if refused is None else refused.issues
    key, value = target["targetKey"], target["config"] if config is None else config
    forms: dict[str, object] = {"config": None, "secrets": None}
    if here.caller.is_operator:
        resolved = await here.form(key, "target", value)
        secrets = await here.form(key, "secret", {})
        forms["config"] = None if resolved is None else fields_of(resolved, value, CONFIG, issues, "/config")
        forms["secrets"] = None if secrets is None else fields_of(secrets, {}, SECRET, issues, "/set")
    overrides = target.get("overrides", {})
    own = {
        name: (label, overrides.get(name, "") if form is None else form.text(name), messages_at(issues, f"/{name}"))
        for name, label in _OVERRIDES.items()
    }
    return here.show(
        "targets_one.html",
        200 if refused is None else refused.status,
        target=target,
        forms=forms,
        own=own,
        enabled=target["enabled"] if form is None else "true" in form.values.get("enabled", ()),
        refused=refused,
        unplaced=_unplaced(forms, issues),
        secrets={each["name"]: each for each in target.get("secrets", ())},
    )


def _unplaced(forms: Mapping[str, Any], issues: Issues) -> list[Mapping[str, str]]:
    placed = [f"/config/{field.name}" for field in forms["config"] or ()]
    placed += [f"/set/{field.name}" for field in forms["secrets"] or ()]
    return unplaced(issues, [*placed, *(f"/{name}" for name in _OVERRIDES)])


def _schema(target: Document, kind: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = target.get("schemas", {}).get(kind, {})
    return found
