"""The one validator of bindings, asked when they are written and when they are compiled: every issue at once.

Pointers lead into the document of bindings. What is wrong with a connection or a target is told at the `connectionId`
that leads there, with the place inside it in the message. A definition points into what it was given:
`validate_target` into the target's `{config, secrets}`, `validate_binding_write_context` into the binding's
configuration.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from pydantic import ValidationError

from control_plane.compiler.inputs import Inputs, Stored, StoredBinding, StoredConnection, StoredTarget
from control_plane.compiler.issues import CompileCode, issue
from control_plane.definitions.contract import (
    AnyDefinition,
    BindingContext,
    Connection,
    Issue,
    MethodKind,
    Target,
)
from control_plane.definitions.registry import Registry
from sallyport.plan.codec import MAX_ISSUES, json_pointer
from sallyport.plan.fields import Model
from sallyport.plan.schema_faults import schema_faults

ACTIVE = "active"


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidBinding:
    """A binding that stands, with its parsed configuration; `pointer` is its place in the document of bindings."""

    pointer: str
    definition: AnyDefinition
    context: BindingContext[Any, Any, Any]


class Validated(NamedTuple):
    """The bindings that stand, in the order of the document, and what is wrong with the others."""

    bindings: tuple[ValidBinding, ...]
    issues: tuple[Issue, ...]


def validate(inputs: Inputs, registry: Registry) -> Validated:
    """Check each binding with what it leads to."""
    valid: list[ValidBinding] = []
    issues: list[Issue] = []
    for index, binding in enumerate(inputs.bindings):
        found = _validate_binding(f"/bindings/{index}", binding, inputs, registry)
        if isinstance(found, ValidBinding):
            valid.append(found)
        else:
            issues += found
    return Validated(tuple(valid), tuple(issues))


def _validate_binding(
    pointer: str, binding: StoredBinding, inputs: Inputs, registry: Registry
) -> ValidBinding | list[Issue]:
    at_connection = f"{pointer}/connectionId"
    connection = inputs.connections.get(binding.connection_id)
    if connection is None or connection.organization_id != inputs.organization_id:
        # The same words for another organization's: that it exists is none of this one's business.
        message = "the organization has no such connection"
        return [issue(CompileCode.CONNECTION_MISMATCH, at_connection, message)]
    target = inputs.targets.get(connection.target_key)
    definition = None if target is None else registry.find(target.family_id, target.variant_id)
    if target is None or definition is None:
        message = f"nothing defines the integration of target {connection.target_key} any more"
        return [issue(CompileCode.DEFINITION_NOT_FOUND, at_connection, message)]
    issues = list(_states(pointer, binding, connection, target, definition))
    parsed_target, wrong_target = _parse_target(at_connection, target, definition)
    parsed_connection, wrong_connection = _parse_connection(at_connection, connection, definition)
    config, faults = _parse(definition.binding_config, binding.config)
    issues += [*wrong_target, *wrong_connection]
    issues += [
        issue(CompileCode.INVALID_BINDING_CONFIG, f"{pointer}/config{place}", message) for place, message in faults
    ]
    if parsed_target is None or parsed_connection is None or config is None:
        return issues
    context = BindingContext(target=parsed_target, connection=parsed_connection, binding_id=binding.id, config=config)
    if definition.validate_binding_write_context is not None:
        issues += [
            Issue(each.code, f"{pointer}/config{each.pointer}", each.message)
            for each in definition.validate_binding_write_context(context)
        ]
    return issues or ValidBinding(pointer=pointer, definition=definition, context=context)


def _states(
    pointer: str,
    binding: StoredBinding,
    connection: StoredConnection,
    target: StoredTarget,
    definition: AnyDefinition,
) -> Iterator[Issue]:
    at_connection = f"{pointer}/connectionId"
    if not target.enabled:
        yield issue(CompileCode.TARGET_DISABLED, at_connection, f"target {target.key} is disabled")
    if connection.status != ACTIVE:
        message = f"the connection's status is {connection.status}; authorise it again, or bind another one"
        yield issue(CompileCode.CONNECTION_NOT_ACTIVE, at_connection, message)
    if binding.kind != definition.kind.value:
        message = f"{definition.display_name} is of kind {definition.kind.value}"
        yield issue(CompileCode.KIND_MISMATCH, f"{pointer}/kind", message)


def _parse_target(
    pointer: str, target: StoredTarget, definition: AnyDefinition
) -> tuple[Target[Any] | None, list[Issue]]:
    config, faults = _parse(definition.target_config, target.config)
    issues = [
        issue(CompileCode.INVALID_TARGET_CONFIG, pointer, f"target {target.key}, {place or 'configuration'}: {message}")
        for place, message in faults
    ]
    unknown = sorted(target.secrets - set(definition.target_secrets.model_fields))
    if unknown:
        message = f"target {target.key} has secrets that its integration does not know: {', '.join(unknown)}"
        issues.append(issue(CompileCode.INVALID_TARGET_SECRETS, pointer, message))
    if config is None:
        return None, issues
    parsed = Target(key=target.key, config=config, secrets=target.secrets)
    if definition.validate_target is not None:
        issues += [
            Issue(each.code, pointer, f"target {target.key}, {each.pointer or 'configuration'}: {each.message}")
            for each in definition.validate_target(parsed)
        ]
    return parsed, issues


def _parse_connection(
    pointer: str, connection: StoredConnection, definition: AnyDefinition
) -> tuple[Connection[Any] | None, list[Issue]]:
    method = next((each.kind for each in definition.connection_methods if each.kind.value == connection.method), None)
    config, faults = _parse(definition.connection_config, connection.config)
    issues = [
        issue(CompileCode.CONNECTION_MISMATCH, pointer, f"the connection, {place or 'configuration'}: {message}")
        for place, message in faults
    ]
    if method is None:
        message = f"{definition.display_name} has no connections by {_method_word(connection.method)}"
        issues.append(issue(CompileCode.CONNECTION_MISMATCH, pointer, message))
    if method is None or config is None:
        return None, issues
    parsed = Connection(id=connection.id, method=method, config=config, secret_types=connection.secret_types)
    return parsed, issues


def _method_word(method: str) -> str:
    return method if method in [each.value for each in MethodKind] else "this method"


def _in_order(value: object) -> Any:  # noqa: ANN401  JSON
    """The same JSON with its members by name: what a definition makes of a map must not depend on who wrote it how."""
    if isinstance(value, Mapping):
        return {name: _in_order(value[name]) for name in sorted(value)}
    return [_in_order(item) for item in value] if isinstance(value, list) else value


def _parse(model: type[Model], stored: Stored) -> tuple[Model | None, list[tuple[str, str]]]:
    """Return the configuration, or (pointer, message) of everything wrong with it."""
    document = _in_order(stored)
    try:
        return model.model_validate(document), []
    except ValidationError as error:
        faults = schema_faults(error, document, already=frozenset(), most=MAX_ISSUES)
        return None, [(json_pointer(fault.path), fault.message) for fault in faults]
