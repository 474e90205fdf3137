"""Integrations that a test makes up, and the inputs of a compilation that binds them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from control_plane.compiler.inputs import Inputs, StoredBinding, StoredConnection, StoredTarget
from control_plane.definitions.contract import (
    AnyDefinition,
    BindingContext,
    Compiled,
    ConnectionMethod,
    IntegrationDefinition,
    Kind,
    MethodKind,
    Nothing,
    Route,
    SecretField,
)
from control_plane.definitions.fields import SecretText
from sallyport.plan.fields import Listed, Model, PathPrefix

ORGANIZATION = "org_one"
PROFILE = "sbp_one"


class Secrets(Model):
    """The secrets a made-up target may have."""

    client_id: SecretText | None = None


class Place(Model):
    """A made-up binding: where it leads."""

    host: str = "api.example.com"
    prefixes: Listed[PathPrefix] = ("/v1",)


type Context = BindingContext[Any, Any, Any]


def place_route(context: Context) -> Route:
    """Return the one route of a binding whose configuration is a Place."""
    return Route(
        key="api",
        hosts=[context.config.host],
        methods=["GET", "POST"],
        path_prefixes=context.config.prefixes,
        auth_injection={"type": "bearer"},
    )


def made_definition(
    variant: str = "place",
    kind: Kind = Kind.CONNECTOR,
    compile_binding: Callable[[Context], Compiled] = lambda context: Compiled(routes=[place_route(context)]),
    **fields: Any,  # noqa: ANN401  whatever a definition has
) -> AnyDefinition:
    """Return a definition whose bindings are a Place and whose connections are API keys."""
    given: dict[str, Any] = {
        "family_id": f"{variant}-family",
        "variant_id": variant,
        "kind": kind,
        "display_name": variant.title(),
        "description": "Made up.",
        "logo_key": "none",
        "target_config": Nothing,
        "target_secrets": Secrets,
        "connection_config": Nothing,
        "binding_config": Place,
        "connection_methods": [
            ConnectionMethod(
                kind=MethodKind.API_KEY,
                label="Key",
                secret_type="api_key",
                secrets=[SecretField(secret_type="api_key", label="Key")],
            )
        ],
        "compile_binding": compile_binding,
    }
    return IntegrationDefinition(**(given | fields))


def bound(binding_id: str, variant: str = "place", config: Mapping[str, object] | None = None) -> StoredBinding:
    """Return a binding of the connection `con_<variant>`."""
    return StoredBinding(id=binding_id, connection_id=f"con_{variant}", kind="connector", config=config or {})


def inputs_of(definitions: Sequence[AnyDefinition], *bindings: StoredBinding) -> Inputs:
    """Return inputs with a target and a connection `con_<variant>` of each definition; kinds follow definitions."""
    kinds = {f"con_{each.variant_id}": each.kind.value for each in definitions}
    return Inputs(
        organization_id=ORGANIZATION,
        profile_id=PROFILE,
        version=1,
        image=None,
        egress=None,
        bindings=[replace(each, kind=kinds.get(each.connection_id, each.kind)) for each in bindings],
        connections={
            f"con_{each.variant_id}": StoredConnection(
                id=f"con_{each.variant_id}",
                organization_id=ORGANIZATION,
                target_key=each.variant_id,
                status="active",
                method="api-key",
                config={},
                secret_types=frozenset({"api_key"}),
            )
            for each in definitions
        },
        targets={
            each.variant_id: StoredTarget(
                key=each.variant_id,
                family_id=each.family_id,
                variant_id=each.variant_id,
                enabled=True,
                config={},
            )
            for each in definitions
        },
    )
