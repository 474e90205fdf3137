"""Every definition of the catalog against its golden file: what its bindings compile to, and what holds for all.

A golden file lists cases: the configuration of target, connection and binding, and the parts of the plan that come of
them. `SALLYPORT_WRITE_GOLDEN=1` writes what is found; read the difference before you commit it.
"""

import json
import os
import pathlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from control_plane.compiler.compile import CompileError, compile_bindings
from control_plane.compiler.emit import emit
from control_plane.compiler.inputs import Inputs, StoredBinding, StoredConnection, StoredTarget
from control_plane.definitions.catalog import CATALOG
from control_plane.definitions.contract import (
    AnyDefinition,
    BindingContext,
    Connection,
    Form,
    FormContext,
    HttpMcp,
    McpServer,
    MethodKind,
    Target,
)
from control_plane.definitions.registry import Registry, definition_faults
from sallyport.plan.codec import parse_plan, seal
from sallyport.plan.fields import Model
from sallyport.setup import setup_document
from tests.support.integrations import example_definitions

GOLDEN = pathlib.Path(__file__).parent / "golden"
BINDING_ID = "bnd_golden"
# The examples of manifests are integrations like any other.
DEFINITIONS = (*CATALOG, *example_definitions())


def golden_cases() -> list[tuple[AnyDefinition, str]]:
    return [
        (definition, case["name"])
        for definition in DEFINITIONS
        for case in read_golden(definition)  # a definition without a golden file fails here, by its name
    ]


def read_golden(definition: AnyDefinition) -> list[dict[str, Any]]:
    cases = json.loads((GOLDEN / f"{definition.variant_id}.json").read_text("utf-8"))
    assert isinstance(cases, list)
    return cases


def context_of(definition: AnyDefinition, case: Mapping[str, Any]) -> BindingContext[Any, Any, Any]:
    connection = case["connection"]
    return BindingContext(
        target=Target(
            key=definition.target_key,
            config=definition.target_config.model_validate(case.get("target", {})),
            secrets=frozenset(case.get("targetSecrets", [])),
        ),
        connection=Connection(
            id="con_golden",
            method=MethodKind(connection["method"]),
            config=definition.connection_config.model_validate(connection.get("config", {})),
            secret_types=frozenset(connection.get("secretTypes", [])),
        ),
        binding_id=BINDING_ID,
        config=definition.binding_config.model_validate(case.get("binding", {})),
    )


def found_of(definition: AnyDefinition, context: BindingContext[Any, Any, Any]) -> dict[str, Any]:
    """Return what a case's binding comes to; empty parts are left out."""
    validate = definition.validate_binding_write_context
    issues = [] if validate is None else [issue._asdict() for issue in validate(context)]
    if issues:
        return {"issues": issues}
    emitted = emit(definition, context, definition.compile_binding(context))
    servers = () if definition.mcp is None else definition.mcp(context)
    parts = {
        "egressRoutes": emitted.egress_routes,
        "artifacts": emitted.artifacts,
        "runtimeClients": emitted.runtime_clients,
        "agentRuntimes": emitted.agent_runtimes,
        "workspaceSources": emitted.workspace_sources,
        "mcp": [_server(server) for server in servers],
    }
    return {name: part for name, part in parts.items() if part}


def _server(server: McpServer) -> dict[str, Any]:
    transport = server.transport
    shown: dict[str, Any] = {"serverId": server.server_id, "name": server.name}
    if isinstance(transport, HttpMcp):
        url = transport.url
        shown["url"] = url if isinstance(url, str) else {"routeKey": url.route_key, "path": url.path}
        return shown | ({"headers": dict(transport.headers)} if transport.headers else {})
    return shown | {"command": transport.command, "args": list(transport.args), "env": dict(transport.env)}


@pytest.mark.parametrize(("definition", "name"), golden_cases(), ids=lambda each: getattr(each, "variant_id", each))
def test_a_binding_compiles_to_its_golden_parts(definition: AnyDefinition, name: str) -> None:
    cases = read_golden(definition)
    case = next(case for case in cases if case["name"] == name)
    found = json.loads(json.dumps(found_of(definition, context_of(definition, case))))
    if os.environ.get("SALLYPORT_WRITE_GOLDEN"):
        case["expect"] = found
        text = json.dumps(cases, indent=2, ensure_ascii=False) + "\n"
        (GOLDEN / f"{definition.variant_id}.json").write_text(text, "utf-8")
    assert found == case["expect"]


@pytest.mark.parametrize(("definition", "name"), golden_cases(), ids=lambda each: getattr(each, "variant_id", each))
def test_the_parts_are_good_in_a_plan(definition: AnyDefinition, name: str) -> None:
    case = next(case for case in read_golden(definition) if case["name"] == name)
    found = found_of(definition, context_of(definition, case))
    if "issues" in found:
        return
    check_in_a_plan(found)


def check_in_a_plan(found: Mapping[str, Any]) -> None:
    """Both readers have to be content: the gateway's, and the stricter one of the sandbox."""
    plan: dict[str, object] = {
        **{"schemaVersion": 1, "sandboxProfileId": "sbp_1", "version": 1, "organizationId": "org_1"},
        **{"sandboxId": "sbx_1", "revision": 1, "image": {"source": "base", "imageRef": "debian:12"}},
        "egress": {"default": "deny", "managedPassthrough": "deny", "rules": []},
        **{part: found.get(part, []) for part in ("egressRoutes", "artifacts", "workspaceSources")},
        **{part: found.get(part, []) for part in ("runtimeClients", "agentRuntimes")},
        "mcpServers": [],
    }
    parse_plan(seal(plan))
    setup_document(plan)


def test_one_of_each_fits_into_one_profile() -> None:
    together: dict[str, list[Any]] = {}
    for number, definition in enumerate(DEFINITIONS):
        for case in read_golden(definition)[:4]:
            found = found_of(definition, replace(context_of(definition, case), binding_id=f"bnd_{number}"))
            if found.get("egressRoutes"):
                break
        for part, items in found.items():
            together[part] = together.get(part, []) + items
    keys = [artifact["artifactKey"] for artifact in together["artifacts"]]
    shared = {key for key in keys if keys.count(key) > 1}
    assert shared <= {"git"}, "a key that two definitions have means the same artifact"
    together["artifacts"] = [
        each for number, each in enumerate(together["artifacts"]) if keys.index(keys[number]) == number
    ]
    together["workspaceSources"] = []  # of the same repositories, at both sites
    check_in_a_plan(together)


def inputs_of(*cases: tuple[AnyDefinition, Mapping[str, Any]]) -> Inputs:
    """Return a profile with one binding for each case."""
    bindings, connections, targets = [], {}, {}
    for number, (definition, case) in enumerate(cases):
        connection_id, connection = f"con_{number}", case["connection"]
        bindings.append(
            StoredBinding(
                id=f"bnd_{number}",
                connection_id=connection_id,
                kind=definition.kind.value,
                config=case.get("binding", {}),
            )
        )
        connections[connection_id] = StoredConnection(
            id=connection_id,
            organization_id="org_1",
            target_key=definition.target_key,
            status="active",
            method=connection["method"],
            config=connection.get("config", {}),
            secret_types=frozenset(connection.get("secretTypes", [])),
        )
        targets[definition.target_key] = StoredTarget(
            key=definition.target_key,
            family_id=definition.family_id,
            variant_id=definition.variant_id,
            enabled=True,
            config=case.get("target", {}),
            secrets=frozenset(case.get("targetSecrets", [])),
        )
    return Inputs(
        organization_id="org_1",
        profile_id="sbp_1",
        version=1,
        image=None,
        egress=None,
        bindings=bindings,
        connections=connections,
        targets=targets,
    )


@pytest.mark.parametrize(("definition", "name"), golden_cases(), ids=lambda each: getattr(each, "variant_id", each))
def test_the_compiler_makes_a_plan_of_it_alone(definition: AnyDefinition, name: str) -> None:
    case = next(case for case in read_golden(definition) if case["name"] == name)
    inputs = inputs_of((definition, case))
    if "issues" in case["expect"]:
        with pytest.raises(CompileError) as caught:
            compile_bindings(inputs, Registry(DEFINITIONS))
        told = [issue for issue in caught.value.issues if not issue.code.startswith("compile.")]
        assert [issue.code for issue in told] == [issue["code"] for issue in case["expect"]["issues"]]
        return
    plan = compile_bindings(inputs, Registry(DEFINITIONS)).plan
    assert len(plan.egress_routes) == len(case["expect"].get("egressRoutes", []))
    assert len(plan.mcp_servers) == len(case["expect"].get("mcp", []))


def test_an_agent_finds_the_servers_of_its_profile_s_connectors() -> None:
    with_servers = [
        (definition, next(case for case in read_golden(definition) if case["expect"].get("mcp")))
        for definition in DEFINITIONS
        if definition.mcp is not None
    ]
    agent = next(definition for definition in DEFINITIONS if definition.variant_id == "openai-default")
    case = next(case for case in read_golden(agent) if case["expect"].get("runtimeClients"))
    plan = compile_bindings(inputs_of(*with_servers, (agent, case)), Registry(DEFINITIONS)).plan
    assert {server.name for server in plan.mcp_servers} == {"atlassian", "gitlab", "linear", "notion"}
    [codex] = plan.runtime_clients
    written = "".join(file.content for file in codex.setup.files)
    for url in ("mcp.atlassian.com/v1/mcp", "git.acme.example/api/v4/mcp", "mcp.linear.app/mcp", "mcp.notion.com/mcp"):
        assert f"https://{url}" in written


@pytest.mark.parametrize("definition", DEFINITIONS, ids=lambda each: each.variant_id)
def test_a_definition_is_whole(definition: AnyDefinition) -> None:
    assert definition_faults(definition) == []


@pytest.mark.parametrize(("definition", "name"), golden_cases(), ids=lambda each: getattr(each, "variant_id", each))
def test_every_form_resolves_to_members_of_its_schema(definition: AnyDefinition, name: str) -> None:
    case = next(case for case in read_golden(definition) if case["name"] == name)
    context = context_of(definition, case)
    forms: list[tuple[Form[Any, Any] | None, type[Model], object]] = [
        (definition.target_form, definition.target_config, case.get("target", {})),
        (definition.target_secret_form, definition.target_secrets, {}),
        (definition.connection_form, definition.connection_config, case["connection"].get("config", {})),
        (definition.binding_form, definition.binding_config, case.get("binding", {})),
    ]
    for form, model, value in forms:
        members = model.model_json_schema().get("properties", {})
        if form is None:
            assert not members or model is not definition.binding_config, "a binding's configuration has a form"
            continue
        assert isinstance(value, dict)
        for known in (context, None):
            fields = form(
                FormContext(
                    target=None if known is None else known.target,
                    connection=None if known is None else known.connection,
                    value=value,
                )
            )
            assert len({field.name for field in fields}) == len(fields)
            assert {field.name for field in fields} <= set(members)
            assert all(field.label for field in fields)


@pytest.mark.parametrize("definition", DEFINITIONS, ids=lambda each: each.variant_id)
def test_every_connection_method_has_a_case(definition: AnyDefinition) -> None:
    shown = {case["connection"]["method"] for case in read_golden(definition)}
    assert shown == {method.kind.value for method in definition.connection_methods}
