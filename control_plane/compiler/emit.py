"""Write what a binding compiled to in the words of the plan, with the ids that a definition leaves out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from control_plane.definitions.contract import AnyDefinition, BindingContext, Compiled, CredentialHeader, Route
from sallyport.plan.fields import Model

# A part of a plan under construction: JSON, nothing but dicts, lists, strings, integers and booleans.
type Part = dict[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class EmittedBinding:
    """The parts of a plan that come from one binding; its MCP servers are still to be collected."""

    egress_routes: list[Part]
    artifacts: list[Part]
    runtime_clients: list[Part]
    agent_runtimes: list[Part]
    workspace_sources: list[Part]


def emit[T: Model, C: Model, B: Model](
    definition: AnyDefinition, context: BindingContext[T, C, B], compiled: Compiled
) -> EmittedBinding:
    """Complete the parts of one binding."""
    return EmittedBinding(
        egress_routes=[_route(definition, context, route) for route in compiled.routes],
        artifacts=[_plain(each) for each in compiled.artifacts],
        runtime_clients=[_plain(each) for each in compiled.runtime_clients],
        agent_runtimes=[{"bindingId": context.binding_id, **_plain(each)} for each in compiled.agent_runtimes],
        workspace_sources=[_plain(each) for each in compiled.workspace_sources],
    )


def rule_id(binding_id: str, route_key: str) -> str:
    """Return the id of a binding's route: what errors and audit records name it by."""
    return f"{binding_id}.{route_key}"


def _route[T: Model, C: Model, B: Model](
    definition: AnyDefinition, context: BindingContext[T, C, B], route: Route
) -> Part:
    method = definition.method(context.connection.method)
    assert method is not None, "a connection is made by one of its definition's methods"
    match = {
        "hosts": list(route.hosts),
        "ports": _listed(route.ports),
        "methods": _listed(route.methods),
        "pathPrefixes": _listed(route.path_prefixes),
        "encodedSlash": route.encoded_slash,
    }
    resolver = _resolver(
        context.connection.id, route.secret_type or method.secret_type, route.slot_key, route.resolver_key
    )
    return _present(
        {
            "egressRuleId": rule_id(context.binding_id, route.key),
            "bindingId": context.binding_id,
            "familyId": definition.family_id,
            "variantId": definition.variant_id,
            "match": _present(match),
            "upstream": None if route.base_url is None else {"baseUrl": route.base_url},
            "authInjection": _plain(route.auth_injection),
            "credentialResolver": resolver,
            "additionalHeaders": dict(route.additional_headers) if route.additional_headers else None,
            "additionalCredentialHeaders": [
                _credential_header(context.connection.id, each) for each in route.additional_credential_headers
            ]
            or None,
            "placeholders": [_plain(each) for each in route.placeholders] or None,
            "keepHeaders": list(route.keep_headers) or None,
            "stripQuery": list(route.strip_query) or None,
            "allowCleartext": True if route.allow_cleartext else None,
            "limits": None if route.limits is None else _plain(route.limits),
        }
    )


def _credential_header(connection_id: str, each: CredentialHeader) -> Part:
    resolver = _resolver(connection_id, each.secret_type, each.slot_key, each.resolver_key)
    return {"header": each.header, "credentialResolver": resolver}


def _resolver(connection_id: str, secret_type: str, slot_key: str | None, resolver_key: str | None) -> Part:
    return _present(
        {
            "kind": "integration_connection",
            "connectionId": connection_id,
            "secretType": secret_type,
            "slotKey": slot_key,
            "resolverKey": resolver_key,
        }
    )


def _present(fields: Mapping[str, object]) -> Part:
    """An optional field of a plan is absent, never null."""
    return {name: value for name, value in fields.items() if value is not None}


def _listed(values: Sequence[object] | None) -> list[object] | None:
    return None if values is None else list(values)


def _plain(value: Mapping[str, object]) -> Part:
    plain = _json(value)
    assert isinstance(plain, dict)
    return plain


def _json(value: object) -> object:
    """Turn the tuples and mappings a definition is written in into what JSON has."""
    if isinstance(value, Mapping):
        return {name: _json(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json(item) for item in value]
    return value
