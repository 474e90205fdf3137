"""`/v1/integration/targets`: what the operator offers, discovered by members, managed by operators."""

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import Field, JsonValue, StringConstraints

from control_plane.api.bodies import DisplayName, body_of, read_body
from control_plane.api.caller import Caller, authenticate
from control_plane.api.parts import PAGE_DEFAULT, Cursor, IdPath, Limit, PartsOf, decode_cursor, page
from control_plane.refusals import ControlCode, FieldIssue, Refused
from control_plane.target_forms import FormKind, resolve_form
from control_plane.targets import Changes
from sallyport.plan.fields import Id, Listed, Model, Positive
from sallyport.plan.strict_json import StrictJsonError, read_strictly

router = APIRouter(prefix="/v1/integration/targets", dependencies=[Depends(authenticate)])

type Document = dict[str, object]

Description = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1F\x7F]{1,1000}$")]
Override = Literal["displayName", "description", "logoKey"]
Config = Annotated[dict[str, JsonValue], Field(max_length=1_000)]
ConnectionQuery = Annotated[str | None, Query(alias="connectionId", pattern=r"^con_[A-Za-z0-9_-]{1,124}$")]

# What stands in the form, as JSON: other fields may go with it. No longer than a head can be.
ValueQuery = Annotated[str | None, Query(max_length=32_768)]


class NewTarget(Model):
    """POST /v1/integration/targets: a further target of a known variant."""

    target_key: Id
    family_id: Id
    variant_id: Id
    enabled: bool = False
    config: Config | None = None
    display_name: DisplayName | None = None
    description: Description | None = None
    logo_key: Id | None = None


class ChangedTarget(Model):
    """PATCH /v1/integration/targets/{key}. config is replaced whole; clear ends overrides."""

    revision: Positive
    enabled: bool | None = None
    config: Config | None = None
    display_name: DisplayName | None = None
    description: Description | None = None
    logo_key: Id | None = None
    clear: Listed[Override] = ()


class ChangedSecrets(Model):
    """PUT /v1/integration/targets/{key}/secrets: those to be set, by name, and those to be forgotten."""

    revision: Positive
    set: Annotated[
        dict[str, JsonValue], Field(default_factory=dict, max_length=100, json_schema_extra={"writeOnly": True})
    ]
    clear: Listed[Id] = ()


@router.get("")
async def list_targets(parts: PartsOf, caller: Caller, cursor: Cursor = None, limit: Limit = PAGE_DEFAULT) -> Document:
    """List targets by key; members see the enabled ones."""
    after = "" if cursor is None else decode_cursor(cursor)
    found = await parts.targets.page(after, limit + 1, for_operator=caller.is_operator)
    return page(found, "targetKey", limit)


@router.post("", status_code=201, openapi_extra=body_of(NewTarget))
async def create_target(request: Request, parts: PartsOf) -> Document:
    """Make a further target of a known variant."""
    body = await read_body(request, NewTarget)
    return await parts.targets.create(body.target_key, body.family_id, body.variant_id, _changes(body), parts.now())


@router.get("/{target_key}")
async def get_target(target_key: IdPath, caller: Caller, parts: PartsOf) -> Document:
    """Return a target."""
    return await parts.targets.get(target_key, for_operator=caller.is_operator)


@router.patch("/{target_key}", openapi_extra=body_of(ChangedTarget))
async def change_target(target_key: IdPath, request: Request, parts: PartsOf) -> Document:
    """Enable, configure or rename a target."""
    body = await read_body(request, ChangedTarget)
    return await parts.targets.change(target_key, body.revision, _changes(body, body.clear), parts.now())


@router.delete("/{target_key}", status_code=204, response_class=Response)
async def delete_target(target_key: IdPath, parts: PartsOf) -> None:
    """Delete a target that no connection is to."""
    await parts.targets.remove(target_key)


@router.put("/{target_key}/secrets", openapi_extra=body_of(ChangedSecrets))
async def put_target_secrets(target_key: IdPath, request: Request, parts: PartsOf) -> Document:
    """Set and forget a target's secrets; no answer shows one."""
    body = await read_body(request, ChangedSecrets)
    return await parts.targets.put_secrets(target_key, body.revision, body.set, body.clear, parts.now())


async def _form(
    kind: FormKind, target_key: str, connection_id: str | None, value: str | None, caller: Caller, parts: PartsOf
) -> Document:
    return await resolve_form(
        *(parts.database, parts.registry, target_key, kind, connection_id, _value(value)),
        for_operator=caller.is_operator,
    )


@router.get("/{target_key}/forms/target")
async def get_target_form(target_key: IdPath, caller: Caller, parts: PartsOf, value: ValueQuery = None) -> Document:
    """Return the form of the target's configuration."""
    return await _form(FormKind.TARGET, target_key, None, value, caller, parts)


@router.get("/{target_key}/forms/secret")
async def get_secret_form(target_key: IdPath, caller: Caller, parts: PartsOf) -> Document:
    """Return the form of the target's secrets."""
    return await _form(FormKind.SECRET, target_key, None, None, caller, parts)


@router.get("/{target_key}/forms/binding")
async def get_binding_form(
    target_key: IdPath,
    caller: Caller,
    parts: PartsOf,
    connection_id: ConnectionQuery = None,
    value: ValueQuery = None,
) -> Document:
    """Return the form of a binding, of a connection where one is named."""
    return await _form(FormKind.BINDING, target_key, connection_id, value, caller, parts)


@router.get("/{target_key}/forms/connection")
async def get_connection_form(
    target_key: IdPath,
    caller: Caller,
    parts: PartsOf,
    connection_id: ConnectionQuery = None,
    value: ValueQuery = None,
) -> Document:
    """Return the form of a connection's configuration, of one that is there where it is named."""
    return await _form(FormKind.CONNECTION, target_key, connection_id, value, caller, parts)


def _value(text: str | None) -> dict[str, object] | None:
    """Return what stands in a form. Raises Refused."""
    if text is None:
        return None
    try:
        document, faults = read_strictly(text.encode("utf-8", "replace"), most_faults=1)
    except StrictJsonError:
        document, faults = None, []
    if faults or not isinstance(document, dict):
        issue = FieldIssue("malformed", "value", "a JSON object, as the form's schema has it")
        raise Refused(ControlCode.INVALID_REQUEST, "faulty parameters", issues=[issue])
    return document


def _changes(body: NewTarget | ChangedTarget, clear: tuple[str, ...] = ()) -> Changes:
    given = {"displayName": body.display_name, "description": body.description, "logoKey": body.logo_key}
    overrides = {name: value for name, value in given.items() if value is not None}
    return Changes(enabled=body.enabled, config=body.config, overrides=overrides, clear=clear)
