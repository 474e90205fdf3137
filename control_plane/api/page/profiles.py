"""Sandbox profiles, made; a version's bindings as forms, what they compile to, why a request is answered so, diffs."""

import re
from typing import Annotated, Any, Final, NamedTuple

import orjson
from fastapi import APIRouter, Query, Response

from control_plane.api.bindings import MAX_BINDINGS
from control_plane.api.compilation import MAX_METHOD, MAX_URL
from control_plane.api.connections import MAX_SEARCH
from control_plane.api.own_api import Answer
from control_plane.api.page.fields import Field, fields_of, messages_at, read_fields, unplaced, without_hidden
from control_plane.api.page.rendering import see_other
from control_plane.api.page.visit import Form, PostedForm, Visit, Visitor
from control_plane.api.parts import CONNECTION_PATTERN, PAGE_MAX, Cursor, IdPath, NumberPath

router = APIRouter(prefix="/profiles")

PATH: Final = "/v1/sandbox/profiles"
_CONNECTION: Final = re.compile(CONNECTION_PATTERN)
_OF_PROFILE: Final = ("organizationId", "displayName")
_OF_VERSION: Final = ("egress", "image")

type Document = dict[str, Any]

Method = Annotated[str, Query(max_length=MAX_METHOD)]
Url = Annotated[str, Query(max_length=MAX_URL)]
Other = Annotated[int | None, Query(ge=1, lt=2**53)]


class Edited(NamedTuple):
    """One binding as it is being edited: what the API has of it or will be sent, and its connection and target."""

    binding: Document
    connection: Document | None
    target: Document | None
    form: Document | None


class Shown(NamedTuple):
    """One binding as a template writes it."""

    edited: Edited
    fields: list[Field]
    issues: list[str]


@router.get("", response_class=Response)
async def list_profiles(here: Visitor, cursor: Cursor = None) -> Response:
    """Show all of them."""
    return await _list(here, cursor)


@router.post("", response_class=Response)
async def make_profile(here: Visitor, form: PostedForm) -> Response:
    """Make one with an empty first version, so that something can be bound."""
    answer = await here.ask("POST", PATH, {name: form.text(name) for name in _OF_PROFILE if form.text(name)})
    if not answer.is_good:
        return await _list(here, form=form, refused=answer)
    profile_id = answer.document["sandboxProfileId"]
    await here.ask("POST", f"{PATH}/{profile_id}/versions", {})  # where it fails its page says that there is none
    return see_other(f"/page/profiles/{profile_id}")


@router.get("/{profile_id}", response_class=Response)
async def show_profile(profile_id: IdPath, here: Visitor) -> Response:
    """Go to its newest version."""
    profile = await here.read(f"{PATH}/{profile_id}")
    if "latestVersion" in profile:
        return see_other(f"/page/profiles/{profile_id}/versions/{profile['latestVersion']}")
    return _empty(here, profile)


@router.post("/{profile_id}/versions", response_class=Response)
async def make_version(profile_id: IdPath, here: Visitor, form: PostedForm) -> Response:
    """Make the next version, with the bindings of another where that is wanted."""
    answer = await here.ask("POST", f"{PATH}/{profile_id}/versions", _version_of(form))
    before = form.number("from")
    if not answer.is_good:
        profile = await here.read(f"{PATH}/{profile_id}")
        if not before:
            return _empty(here, profile, form, answer)
        stored = await here.read(_path(profile_id, before, "/integration-bindings"))
        edited = [await _edited(here, each) for each in stored["bindings"]]
        return await _show(here, profile_id, before, stored["revision"], edited, answer, form)
    version = answer.document["version"]
    if before and "true" in form.values.get("bindings", ()):
        stored = await here.read(_path(profile_id, before, "/integration-bindings"))
        bindings = [{name: each[name] for name in ("connectionId", "kind", "config")} for each in stored["bindings"]]
        copied = await here.ask("PUT", _path(profile_id, version, "/integration-bindings"), {"bindings": bindings})
        if not copied.is_good:
            edited = [await _edited(here, each) for each in bindings]
            return await _show(here, profile_id, version, 0, edited, copied)
    return see_other(f"/page/profiles/{profile_id}/versions/{version}?done=made")


@router.get("/{profile_id}/versions/{version}", response_class=Response)
async def show_bindings(profile_id: IdPath, version: NumberPath, here: Visitor) -> Response:
    """Show the bindings as forms."""
    stored = await here.read(_path(profile_id, version, "/integration-bindings"))
    edited = [await _edited(here, each) for each in stored["bindings"]]
    return await _show(here, profile_id, version, stored["revision"], edited)


@router.post("/{profile_id}/versions/{version}", response_class=Response)
async def change_bindings(profile_id: IdPath, version: NumberPath, here: Visitor, form: PostedForm) -> Response:
    """Replace the bindings, or show the form with one more, or for what is in it now."""
    stored = await here.read(_path(profile_id, version, "/integration-bindings"))
    edited = await _read(here, form, {each["bindingId"]: each for each in stored["bindings"]})
    revision, do = form.number("revision"), _wanted(form)
    if do == "add" and form.text("connection"):
        edited.append(await _edited(here, {"connectionId": form.text("connection"), "config": {}}))
    if do != "save":
        return await _show(here, profile_id, version, revision, edited, form=form)
    bindings = [_sent(each) for each in edited]
    body = {"revision": revision, "bindings": bindings}
    answer = await here.ask("PUT", _path(profile_id, version, "/integration-bindings"), body)
    if answer.is_good:
        return see_other(f"/page/profiles/{profile_id}/versions/{version}?done=saved")
    return await _show(here, profile_id, version, revision, edited, answer, form)


@router.get("/{profile_id}/versions/{version}/plan", response_class=Response)
async def show_plan(profile_id: IdPath, version: NumberPath, here: Visitor) -> Response:
    """Show what the bindings compile to, or why they do not."""
    answer = await here.ask("POST", _path(profile_id, version, "/compile"), {})
    profile = await here.read(f"{PATH}/{profile_id}")
    plan = answer.document.get("plan")
    return here.show("profiles_plan.html", profile=profile, version=version, plan=plan, refused=_refused(answer))


@router.get("/{profile_id}/versions/{version}/explain", response_class=Response)
async def show_explanation(
    profile_id: IdPath, version: NumberPath, here: Visitor, method: Method = "GET", url: Url = ""
) -> Response:
    """Show what a gateway would do with a request."""
    profile = await here.read(f"{PATH}/{profile_id}")
    answer = None
    if url:
        query = {"method": method, "url": url}
        answer = await here.ask("GET", _path(profile_id, version, "/explain"), query=query)
    found = answer.document if answer is not None and answer.is_good else None
    asked: Document = {"method": method, "url": url, "found": found, "refused": _refused(answer)}
    return here.show("profiles_explain.html", profile=profile, version=version, **asked)


@router.get("/{profile_id}/versions/{version}/diff", response_class=Response)
async def show_difference(profile_id: IdPath, version: NumberPath, here: Visitor, other: Other = None) -> Response:
    """Show which requests another version would answer differently."""
    profile = await here.read(f"{PATH}/{profile_id}")
    answer = None
    if other is not None:
        answer = await here.ask("POST", _path(profile_id, version, "/diff"), {"version": other})
    found = answer.document if answer is not None and answer.is_good else None
    asked: Document = {"other": other, "found": found, "refused": _refused(answer)}
    return here.show("profiles_diff.html", profile=profile, version=version, **asked)


async def _list(
    here: Visit, cursor: str | None = None, *, form: Form | None = None, refused: Answer | None = None
) -> Response:
    return here.show(
        "profiles.html",
        200 if refused is None else refused.status,
        page=await here.read(PATH, cursor=cursor),
        **_typed(_OF_PROFILE, form, refused),
        unplaced=unplaced(() if refused is None else refused.issues, [f"/{name}" for name in _OF_PROFILE]),
    )


def _empty(here: Visit, profile: Document, form: Form | None = None, refused: Answer | None = None) -> Response:
    return here.show(
        "profiles_empty.html",
        200 if refused is None else refused.status,
        profile=profile,
        **_typed(_OF_VERSION, form, refused),
        unplaced=unplaced(() if refused is None else refused.issues, [f"/{name}" for name in _OF_VERSION]),
    )


def _typed(names: tuple[str, ...], form: Form | None, refused: Answer | None) -> Document:
    """Return what a template needs of fields: what was typed in, and what is wrong with each."""
    issues = () if refused is None else refused.issues
    return {
        "typed": {name: "" if form is None else form.text(name) for name in names},
        "at": {name: messages_at(issues, f"/{name}") for name in names},
        "refused": refused,
    }


def _wanted(form: Form) -> str:
    """Return what is to be done: Enter saves, unless it was pressed behind what is to be found."""
    if form.text("do") != "enter":
        return form.text("do")
    return "save" if form.text("search") == form.text("searched") else "search"


def _version_of(form: Form) -> Document:
    """Return a version as it was typed in; what is no JSON is passed on as text, and the API says so."""
    body: Document = {}
    for name in _OF_VERSION:
        if form.text(name):
            try:
                body[name] = orjson.loads(form.text(name))
            except orjson.JSONDecodeError:
                body[name] = form.text(name)
    return body


async def _show(
    here: Visit,
    profile_id: str,
    version: int,
    revision: int,
    edited: list[Edited],
    refused: Answer | None = None,
    form: Form | None = None,
) -> Response:
    profile = await here.read(f"{PATH}/{profile_id}")
    search = "" if form is None else form.text("search")[:MAX_SEARCH]
    query = {"organizationId": profile["organizationId"], "limit": str(PAGE_MAX), "search": search}
    connections = await here.read("/v1/integration/connections", **query)
    issues = () if refused is None else refused.issues
    shown, places = [], []
    for index, each in enumerate(edited):
        place, config = f"/bindings/{index}", each.binding["config"]
        at = f"{place}/config"
        fields = [] if each.form is None else fields_of(each.form, config, _config(index), issues, at)
        of_fields = [f"{at}/{field.name}" for field in fields]
        here_only = unplaced([issue for issue in issues if issue["pointer"].startswith(place)], of_fields)
        shown.append(Shown(each, fields, messages_at(here_only, place)))
        places.append(place)
    return here.show(
        "profiles_version.html",
        200 if refused is None else refused.status,
        profile=profile,
        version=version,
        revision=revision,
        bindings=shown,
        connections=[each for each in connections["items"] if each["status"] != "revoked"],
        search=search,
        is_cut="nextCursor" in connections,
        **_typed(_OF_VERSION, form, refused),
        unplaced=unplaced(issues, [*places, *(f"/{name}" for name in _OF_VERSION)]),
    )


async def _read(here: Visit, form: Form, stored: dict[str, Document]) -> list[Edited]:
    """Return the bindings of a form that are not to be taken out."""
    edited = []
    for index in range(min(form.number("count"), MAX_BINDINGS)):
        if form.text(f"remove.{index}") or form.text("do") == f"remove.{index}":
            continue
        known = stored.get(form.text(f"id.{index}"), {})
        binding: Document = {name: known[name] for name in ("bindingId", "kind") if name in known}
        binding |= {"connectionId": form.text(f"connection.{index}"), "config": known.get("config", {})}
        found = await _edited(here, binding)
        if found.target is not None and found.form is not None:
            schema = found.target["schemas"]["binding"]
            config = read_fields(schema, binding["config"], form.values, _config(index))
            found = await _edited(here, {**binding, "config": config})
        edited.append(found)
    return edited


async def _edited(here: Visit, binding: Document) -> Edited:
    connection_id = binding["connectionId"]
    if _CONNECTION.fullmatch(connection_id) is None:
        return Edited(binding, None, None, None)
    connection = await here.ask("GET", f"/v1/integration/connections/{connection_id}")
    if not connection.is_good:
        return Edited(binding, None, None, None)
    key = connection.document["targetKey"]
    target = await here.ask("GET", f"/v1/integration/targets/{key}")
    form = await here.form(key, "binding", binding["config"], connection_id)
    return Edited(binding, connection.document, target.document if target.is_good else None, form)


def _sent(edited: Edited) -> Document:
    kind = edited.binding.get("kind") or (edited.target or {}).get("kind", "connector")
    config = edited.binding["config"]
    if edited.form is not None:
        config = without_hidden(edited.form, config)
    return {**edited.binding, "kind": kind, "config": config}


def _refused(answer: Answer | None) -> Answer | None:
    return None if answer is None or answer.is_good else answer


def _config(index: int) -> str:
    return f"config.{index}."


def _path(profile_id: str, version: int, rest: str) -> str:
    return f"{PATH}/{profile_id}/versions/{version}{rest}"
