"""The forms of a target: a schema, which decides what is valid, and fields, which say how it is shown here and now."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import orjson
from pydantic import ValidationError

from control_plane import connections
from control_plane.definitions import forms
from control_plane.definitions.contract import AnyDefinition, Connection, Form, FormContext, MethodKind, Target
from control_plane.definitions.registry import Registry
from control_plane.offered import find_offer
from control_plane.store import connections as connection_rows
from control_plane.store.database import Database, Transaction
from control_plane.targets import target_not_found
from sallyport.plan.fields import Model


class FormKind(StrEnum):
    """What a form is for."""

    TARGET = "target"
    SECRET = "secret"
    BINDING = "binding"
    CONNECTION = "connection"


async def resolve_form(
    database: Database,
    registry: Registry,
    key: str,
    kind: FormKind,
    connection_id: str | None,
    value: Mapping[str, object] | None = None,
    *,
    for_operator: bool,
) -> dict[str, object]:
    """Return a form in the context of its target, of a connection to it and of what stands in it. Raises Refused.

    Without a value a target's form is for the configuration it has, any other for nothing.
    """
    async with database.read() as tx:
        offer = await find_offer(tx, registry, key)
        if offer is None or not (offer.is_enabled or for_operator):
            raise target_not_found()
        connection = None if connection_id is None else await _connection(tx, offer.definition, key, connection_id)
    model, form = _parts(offer.definition, kind)
    target: Target[Any] = offer.target
    if value is None:
        value = target.config.model_dump(by_alias=True, exclude_unset=True) if kind is FormKind.TARGET else {}
    context: FormContext[Any, Any] = FormContext(target=target, connection=connection, value=value)
    return forms.resolve_form(model, form, context)


def _parts(definition: AnyDefinition, kind: FormKind) -> tuple[type[Model], Form[Any, Any] | None]:
    match kind:
        case FormKind.TARGET:
            return definition.target_config, definition.target_form
        case FormKind.SECRET:
            return definition.target_secrets, definition.target_secret_form
        case FormKind.BINDING:
            return definition.binding_config, definition.binding_form
        case FormKind.CONNECTION:
            return definition.connection_config, definition.connection_form


async def _connection(tx: Transaction, definition: AnyDefinition, key: str, connection_id: str) -> Connection[Any]:
    row = await connection_rows.connection(tx, connection_id)
    if row is None or row.target_key != key:
        raise connections.not_found()
    try:
        config = definition.connection_config.model_validate(orjson.loads(row.config))
    except ValidationError:
        # Of a definition that has changed since: the form shows what is to be entered anew.
        config = definition.connection_config.model_construct()
    types = [each.secret_type for each in await connection_rows.credentials(tx, [connection_id])]
    return Connection(id=row.id, method=MethodKind(row.method), config=config, secret_types=frozenset(types))
