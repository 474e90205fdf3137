"""A target as the API shows it: what its definition says of the provider, what the operator says over that, its health.

No value of a secret is ever read here, only whether it is set.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson
from pydantic import ValidationError

from control_plane.definitions.contract import (
    AnyDefinition,
    ConnectionMethod,
    Issue,
    Target,
    WebhookSource,
)
from control_plane.definitions.forms import schema_of
from control_plane.store.models import Target as TargetRow
from control_plane.store.models import TargetSecret
from sallyport.plan.codec import MAX_ISSUES, json_pointer
from sallyport.plan.schema_faults import schema_faults

HEALTHY: Final = "healthy"
# Some of its ways to connect lack something.
DEGRADED: Final = "degraded"
# Nobody can connect.
UNHEALTHY: Final = "unhealthy"
DISABLED: Final = "disabled"


def target_document(
    row: TargetRow, secrets: Sequence[TargetSecret], definition: AnyDefinition | None, *, for_operator: bool
) -> dict[str, object]:
    """Return a target as an operator sees it, or as a member does: without its secrets' names and its faults."""
    shown: dict[str, object] = {
        "targetKey": row.key,
        "familyId": row.family_id,
        "variantId": row.variant_id,
        "enabled": row.enabled,
        "displayName": row.display_name or (row.key if definition is None else definition.display_name),
        "config": orjson.loads(row.config),
        "revision": row.revision,
    }
    description = row.description or (None if definition is None else definition.description)
    logo_key = row.logo_key or (None if definition is None else definition.logo_key)
    shown |= {} if description is None else {"description": description}
    shown |= {} if logo_key is None else {"logoKey": logo_key}
    if definition is not None:
        shown |= _provider(definition)
    status, issues = health(row, frozenset(each.name for each in secrets), definition)
    shown["targetHealth"] = {"status": status}
    if for_operator:
        shown["targetHealth"] = {"status": status, "issues": [issue._asdict() for issue in issues]}
        shown["overrides"] = _overrides(row)
        shown["secrets"] = _secrets(secrets, definition)
    return shown | {"createdAt": row.created_at, "updatedAt": row.updated_at}


def health(row: TargetRow, secrets: frozenset[str], definition: AnyDefinition | None) -> tuple[str, list[Issue]]:
    """Return how a target does, and everything that is wrong with it. `secrets` names those that are set."""
    issues = [] if row.enabled else [Issue("target.disabled", "/enabled", "members do not see it")]
    if definition is None:
        message = "nothing here defines this provider; install its package or manifest again, or delete the target"
        return _status(row, UNHEALTHY), [*issues, Issue("target.definition_not_found", "/variantId", message)]
    faults = config_issues(definition, row.key, orjson.loads(row.config), secrets)
    missing = {method.kind: missing_secrets(method, secrets) for method in definition.connection_methods}
    for name in sorted({name for names in missing.values() for name in names}):
        kinds = ", ".join(kind for kind, names in missing.items() if name in names)
        pointer = f"/secrets/{secret_alias(definition, name)}"
        issues.append(Issue("target.missing_secret", pointer, f"needed to connect by {kinds}"))
    if faults or (missing and all(missing.values())):
        return _status(row, UNHEALTHY), [*issues, *faults]
    return _status(row, DEGRADED if any(missing.values()) else HEALTHY), issues


def config_issues(
    definition: AnyDefinition, key: str, config: Mapping[str, object], secrets: frozenset[str]
) -> list[Issue]:
    """Return what is wrong with a target's configuration, by its schema and by the definition's own check."""
    try:
        parsed = definition.target_config.model_validate(dict(config))
    except ValidationError as error:
        faults = schema_faults(error, config, already=set(), most=MAX_ISSUES)
        return [Issue("target.invalid_config", f"/config{json_pointer(fault.path)}", fault.message) for fault in faults]
    if definition.validate_target is None:
        return []
    target: Target[Any] = Target(key=key, config=parsed, secrets=secrets)
    return [Issue(each.code, f"/config{each.pointer}", each.message) for each in definition.validate_target(target)]


def missing_secrets(method: ConnectionMethod, secrets: frozenset[str]) -> list[str]:
    """Return the operator's secrets that a way to connect requires and that are not set."""
    return [name for name in method.requires if name not in secrets]


def secret_alias(definition: AnyDefinition, name: str) -> str:
    """Return what JSON calls a target secret."""
    field = definition.target_secrets.model_fields.get(name)
    return name if field is None or field.alias is None else field.alias


def secret_names(definition: AnyDefinition) -> dict[str, str]:
    """Return the target secrets of a definition: what JSON calls them, and their names."""
    return {secret_alias(definition, name): name for name in definition.target_secrets.model_fields}


def _status(row: TargetRow, otherwise: str) -> str:
    return otherwise if row.enabled else DISABLED


def _overrides(row: TargetRow) -> dict[str, str]:
    given = {"displayName": row.display_name, "description": row.description, "logoKey": row.logo_key}
    return {name: value for name, value in given.items() if value is not None}


def _secrets(secrets: Sequence[TargetSecret], definition: AnyDefinition | None) -> list[dict[str, object]]:
    updated_at = {each.name: each.updated_at for each in secrets}
    if definition is None:
        return [{"name": name, "isSet": True, "updatedAt": at} for name, at in updated_at.items()]
    return [
        {"name": alias, "isSet": name in updated_at} | ({"updatedAt": updated_at[name]} if name in updated_at else {})
        for alias, name in secret_names(definition).items()
    ]


def _provider(definition: AnyDefinition) -> dict[str, object]:
    shown: dict[str, object] = {
        "kind": definition.kind.value,
        "connectionMethods": [_method(method) for method in definition.connection_methods],
        "schemas": {
            "target": schema_of(definition.target_config),
            "secret": schema_of(definition.target_secrets),
            "connection": schema_of(definition.connection_config),
            "binding": schema_of(definition.binding_config),
        },
    }
    source = definition.webhook_source
    return shown if source is None else shown | {"webhookSource": _webhook_source(source)}


def _method(method: ConnectionMethod) -> dict[str, object]:
    fields = [
        {"secretType": each.secret_type, "label": each.label, "required": each.required}
        | ({"help": each.help} if each.help else {})
        | ({"pattern": each.pattern} if each.pattern is not None else {})
        for each in method.secrets
    ]
    return {"kind": method.kind.value, "label": method.label, "secretType": method.secret_type, "secrets": fields}


def _webhook_source(source: WebhookSource) -> dict[str, object]:
    return {
        "ownership": source.ownership,
        "routing": source.routing,
        "registration": source.registration,
        "eventTypes": list(source.event_types),
        "describe": source.describe,
    }
