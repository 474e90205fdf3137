"""Accounts: listed with their state, made by a key or at the provider, given new secrets, revoked, deleted."""

from typing import Any, Final

from fastapi import APIRouter, Response

from control_plane.api.own_api import Answer
from control_plane.api.page.fields import fields_of, messages_at, read_fields, unplaced, without_hidden
from control_plane.api.page.rendering import see_other
from control_plane.api.page.visit import Form, PostedForm, Visit, Visitor
from control_plane.api.parts import ConnectionPath, Cursor, IdPath

router = APIRouter()

CONFIG: Final = "config."
SECRET: Final = "secret."
# Where each way to connect begins; those that go to the provider answer with its URL.
BEGINS: Final = {
    "api-key": "api-key",
    "oauth2-client-credentials": "oauth2/client-credentials",
    "oauth2-authorization-code": "oauth2/start",
    "redirect": "redirect/start",
    "github-app-installation": "redirect/start",
}
AWAY: Final = frozenset({"oauth2/start", "redirect/start"})

type Document = dict[str, Any]


@router.get("/connections", response_class=Response)
async def list_connections(here: Visitor, cursor: Cursor = None) -> Response:
    """Show all of them."""
    return here.show("connections.html", page=await here.read("/v1/integration/connections", cursor=cursor))


@router.get("/targets/{target_key}/connect", response_class=Response)
async def show_ways(target_key: IdPath, here: Visitor) -> Response:
    """Show the ways to connect to a target."""
    return await _ways(here, await here.read(f"/v1/integration/targets/{target_key}"))


@router.post("/targets/{target_key}/connect", response_class=Response)
async def connect(target_key: IdPath, here: Visitor, form: PostedForm) -> Response:
    """Make a connection, or show the way to the provider."""
    target = await here.read(f"/v1/integration/targets/{target_key}")
    config = read_fields(_schema(target), {}, form.values, CONFIG)
    way = BEGINS.get(form.text("method"))
    if way is None or form.text("do") == "fields":
        return await _ways(here, target, form=form, config=config)
    resolved = await here.form(target_key, "connection", config)
    body: Document = {"config": config if resolved is None else without_hidden(resolved, config)}
    body |= {name: form.text(name) for name in ("displayName", "organizationId") if form.text(name)}
    if way not in AWAY:
        body["secrets"] = _secrets(form)
    answer = await here.ask("POST", f"/v1/integration/connections/{target_key}/{way}", body)
    if not answer.is_good:
        return await _ways(here, target, form=form, config=config, refused=answer)
    if way in AWAY:
        return here.show("connections_away.html", target=target, url=answer.document["authorizationUrl"])
    return see_other(f"/page/connections/{answer.document['connectionId']}?done=connected")


@router.get("/connections/{connection_id}", response_class=Response)
async def show_connection(connection_id: ConnectionPath, here: Visitor) -> Response:
    """Show one, with what became of the last requests for its credentials."""
    return await _show(here, connection_id)


@router.post("/connections/{connection_id}/secrets", response_class=Response)
async def rotate(connection_id: ConnectionPath, here: Visitor, form: PostedForm) -> Response:
    """Replace what was typed in."""
    path = f"/v1/integration/connections/{connection_id}/api-key"
    return await _done(here, connection_id, await here.ask("PUT", path, {"secrets": _secrets(form)}), "rotated")


@router.post("/connections/{connection_id}/revoke", response_class=Response)
async def revoke(connection_id: ConnectionPath, here: Visitor, form: PostedForm) -> Response:
    """End a connection for good."""
    path = f"/v1/integration/connections/{connection_id}"
    return await _done(here, connection_id, await here.ask("PATCH", path, {"status": "revoked"}), "revoked")


@router.post("/connections/{connection_id}/delete", response_class=Response)
async def delete(connection_id: ConnectionPath, here: Visitor, form: PostedForm) -> Response:
    """Delete a connection that nothing uses."""
    answer = await here.ask("DELETE", f"/v1/integration/connections/{connection_id}")
    return see_other("/page/connections?done=deleted") if answer.is_good else await _show(here, connection_id, answer)


@router.post("/connections/{connection_id}/authorize", response_class=Response)
async def authorize_again(connection_id: ConnectionPath, here: Visitor, form: PostedForm) -> Response:
    """Show the way to the provider, for a connection that is there."""
    known = await here.read(f"/v1/integration/connections/{connection_id}")
    way = BEGINS[known["method"]]
    body = {"organizationId": known["organizationId"], "connectionId": connection_id}
    answer = await here.ask("POST", f"/v1/integration/connections/{known['targetKey']}/{way}", body)
    if not answer.is_good or way not in AWAY:
        return await _show(here, connection_id, answer)
    target = await here.read(f"/v1/integration/targets/{known['targetKey']}")
    return here.show("connections_away.html", target=target, url=answer.document["authorizationUrl"])


async def _ways(
    here: Visit,
    target: Document,
    *,
    form: Form | None = None,
    config: Document | None = None,
    refused: Answer | None = None,
) -> Response:
    issues = () if refused is None else refused.issues
    chosen = "" if form is None else form.text("method")
    value = config or {}
    resolved = await here.form(target["targetKey"], "connection", value)
    ways = []
    for method in target.get("connectionMethods", ()):
        is_chosen = method["kind"] == chosen
        placed = issues if is_chosen else ()
        secrets = [
            {**each, "issues": messages_at(placed, f"/secrets/{each['secretType']}")} for each in method["secrets"]
        ]
        given = value if is_chosen else {}
        fields = [] if resolved is None else fields_of(resolved, given, CONFIG, placed, "/config")
        is_away = BEGINS.get(method["kind"]) in AWAY
        ways.append({**method, "isAway": is_away, "secrets": secrets, "fields": fields, "isChosen": is_chosen})
    places = [
        "/displayName",
        "/organizationId",
        *(f"/secrets/{each['secretType']}" for way in ways for each in way["secrets"]),
    ]
    places += [f"/config/{field.name}" for way in ways for field in way["fields"]]
    return here.show(
        "connections_new.html",
        200 if refused is None else refused.status,
        target=target,
        ways=ways,
        refused=refused,
        form=form,
        at={name: messages_at(issues, f"/{name}") for name in ("displayName", "organizationId")},
        unplaced=unplaced(issues, places),
    )


async def _show(here: Visit, connection_id: str, refused: Answer | None = None) -> Response:
    connection = await here.read(f"/v1/integration/connections/{connection_id}")
    resolutions = await here.read(f"/v1/integration/connections/{connection_id}/resolutions")
    target = await here.ask("GET", f"/v1/integration/targets/{connection['targetKey']}")
    methods = target.document.get("connectionMethods", ()) if target.is_good else ()
    issues = () if refused is None else refused.issues
    secrets = [
        {**each, "issues": messages_at(issues, f"/secrets/{each['secretType']}")}
        for method in methods
        if method["kind"] == connection["method"]
        for each in method["secrets"]
    ]
    return here.show(
        "connections_one.html",
        200 if refused is None else refused.status,
        connection=connection,
        resolutions=resolutions["items"],
        secrets=secrets,
        is_away=BEGINS[connection["method"]] in AWAY,
        refused=refused,
        unplaced=unplaced(issues, [f"/secrets/{each['secretType']}" for each in secrets]),
        now=here.parts.now(),
    )


async def _done(here: Visit, connection_id: str, answer: Answer, notice: str) -> Response:
    if answer.is_good:
        return see_other(f"/page/connections/{connection_id}?done={notice}")
    return await _show(here, connection_id, answer)


def _secrets(form: Form) -> dict[str, str]:
    return {name: value.replace("\r\n", "\n") for name, value in form.names(SECRET).items()}


def _schema(target: Document) -> dict[str, Any]:
    found: dict[str, Any] = target.get("schemas", {}).get("connection", {})
    return found
