"""Manifests of integrations.

Allowed outcomes, for any bytes:
- no JSON object;
- ManifestError with at least one issue, each with a pointer and a sentence;
- a definition whose parts fit together. Whatever members of an organization then write into its variables, its
  bindings compile to routes the plan takes, and to hosts that end in two labels of the manifest or the operator.
"""

import json
from collections.abc import Mapping
from typing import Any

from control_plane.compiler.emit import emit
from control_plane.definitions.contract import AnyDefinition, BindingContext, Connection, ConnectionMethod, Target
from control_plane.definitions.generic_http.definition import ManifestError, read_manifest
from control_plane.definitions.registry import definition_faults
from sallyport.json_object import json_object
from sallyport.net.yaml_file import read_yaml
from sallyport.plan.model import EgressRoute
from tests.support.fuzzing import run
from tests.support.integrations import FOLDER, small_manifest

HARMLESS: Mapping[str, object] = {
    "host": "host.example",
    "dns-label": "label",
    "segment": "segment",
    "segments": ["segment"],
    "text": "text",
    "email": "name@host.example",
}
HOSTILE: Mapping[str, object] = {
    "host": "evil.example",
    "dns-label": "evil",
    "segment": "a..b~",
    "segments": ["_", "a.b", "-"],
    "text": "a: {target.host} %2F;",
    "email": "{target.host}@evil.example",
}
VARIABLES = [
    {"name": kind.replace("-", ""), "type": kind, "label": kind}
    | ({"choices": ["a", "b-2"], "default": "a"} if kind == "choice" else {})
    for kind in (*HARMLESS, "choice")
]
ROUTE = {
    "key": "api",
    "hosts": ["{target.host}", "{connection.dnslabel}.{binding.choice}.example.com"],
    "methods": ["GET"],
    "pathPrefixes": ["/{target.segment}/{binding.segments}", "/v1"],
    "additionalHeaders": {"X-A": "{binding.text}"},
    "auth": {"type": "basic", "username": "{connection.email}"},
    "when": {"binding.choice": ["a"]},
}
SEEDS = (
    json.dumps(small_manifest()).encode(),
    json.dumps(dict(read_yaml(FOLDER / "gitlab-api.yaml"))).encode(),
    json.dumps(
        small_manifest(
            targetVariables=VARIABLES, connectionVariables=VARIABLES, bindingVariables=VARIABLES, routes=[ROUTE]
        )
    ).encode(),
    b'{"manifestVersion": 1, "connectionMethods": [{"kind": "oauth2-client-credentials"}], "routes": [{"hosts": "{"}]}',
)


def check(data: bytes) -> None:
    """Check one input."""
    try:
        document = json_object(data)
    except ValueError:
        return
    try:
        definition = read_manifest(document)
    except ManifestError as error:
        assert error.issues
        assert all(issue.message and issue.pointer[:1] in ("", "/") for issue in error.issues)
        return
    assert definition_faults(definition) == []
    for method in definition.connection_methods:
        harmless = hosts_of(definition, method, document, HARMLESS)
        hostile = hosts_of(definition, method, document, HOSTILE)
        for own, other in zip(harmless, hostile, strict=True):
            assert own == other or own.split(".")[-2:] == other.split(".")[-2:], "a member chose where a secret goes"


def hosts_of(
    definition: AnyDefinition, method: ConnectionMethod, document: Mapping[str, Any], values: Mapping[str, object]
) -> list[str]:
    """Return the hosts of what a binding compiles to, under an operator's harmless values and those of members."""

    def config(member: str, given: Mapping[str, object]) -> dict[str, object]:
        return {
            each["name"]: each["choices"][0] if each["type"] == "choice" else given[each["type"]]
            for each in document.get(member, [])
        }

    target = definition.target_config.model_validate(config("targetVariables", HARMLESS))
    connection = definition.connection_config.model_validate(config("connectionVariables", values))
    context: BindingContext[Any, Any, Any] = BindingContext(
        target=Target(key="fuzz", config=target),
        connection=Connection(id="con_fuzz", method=method.kind, config=connection),
        binding_id="bnd_fuzz",
        config=definition.binding_config.model_validate(config("bindingVariables", values)),
    )
    compiled = definition.compile_binding(context)
    for route in emit(definition, context, compiled).egress_routes:
        EgressRoute.model_validate(route)
    return [host for route in compiled.routes for host in route.hosts]


if __name__ == "__main__":
    run(check, SEEDS)
