"""What a definition's binding comes to in a plan, for tests that put it before real programs."""

from collections.abc import Mapping
from typing import Any

from control_plane.compiler.emit import emit
from control_plane.definitions.contract import AnyDefinition, BindingContext, Connection, MethodKind, Target


def compiled(
    definition: AnyDefinition,
    name: str,
    config: Mapping[str, object],
    *,
    method: MethodKind = MethodKind.API_KEY,
    connection: Mapping[str, object] | None = None,
) -> tuple[list[Any], dict[str, str]]:
    """Return the routes of a binding, and the variables its artifacts set."""
    context: BindingContext[Any, Any, Any] = BindingContext(
        target=Target(key=definition.target_key, config=definition.target_config.model_validate({})),
        connection=Connection(
            id=f"con_{definition.family_id}",
            method=method,
            config=definition.connection_config.model_validate(connection or {}),
        ),
        binding_id=f"bnd_{name}",
        config=definition.binding_config.model_validate(config),
    )
    emitted = emit(definition, context, definition.compile_binding(context))
    environments: list[Any] = [artifact.get("env", {}) for artifact in emitted.artifacts]
    return list(emitted.egress_routes), {name: value for each in environments for name, value in each.items()}
