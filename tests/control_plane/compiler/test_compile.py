"""A compilation is a plan a gateway takes, the same bytes whatever the order, the process or the locale."""

import hashlib
import json
import random
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.compiler.compile import (
    DEFAULT_EGRESS,
    DEFAULT_IMAGE,
    NO_SANDBOX,
    CompileError,
    compile_bindings,
    seal_for,
)
from control_plane.compiler.inputs import Inputs, StoredBinding
from control_plane.definitions.catalog import CATALOG
from control_plane.definitions.contract import (
    AnyDefinition,
    Compiled,
    EgressUrl,
    HttpMcp,
    Kind,
    McpConfig,
    McpServer,
    Route,
)
from control_plane.definitions.registry import Registry
from sallyport.plan.codec import parse_plan
from sallyport.setup import MAX_WORKSPACE_SOURCES
from tests.support.made_integrations import Context, bound, inputs_of, made_definition, place_route

ROOT = Path(__file__).resolve().parents[3]
CONFIG = McpConfig(client_id="agent", file_id="config", format="toml", path=["mcp"], headers_name="headers")


def agent_parts(context: Context) -> Compiled:
    file = {"fileId": "config", "path": "/a.toml", "mode": 420, "content": "# mine\n", "writeMode": "overwrite"}
    client = {
        "clientId": "agent",
        "setup": {"env": {"B": "1", "A": "2"}, "files": (file,)},
        "processes": (),
        "endpoints": (
            {
                "endpointKey": "e",
                "transport": {"type": "ws", "url": "ws://127.0.0.1:4500/"},
                "connectionMode": "dedicated",
            },
        ),
    }
    runtime = {"runtimeKey": "r", "clientId": "agent", "endpointKey": "e", "adapterKey": "a"}
    artifact = {"artifactKey": "tool", "name": "Tool", "lifecycle": {"install": ()}}
    return Compiled(runtime_clients=[client], agent_runtimes=[runtime], artifacts=[artifact])


def tools(context: Context) -> Sequence[McpServer]:
    return [McpServer(server_id="mcp", name="tools", transport=HttpMcp(url=EgressUrl("api", "/v1")))]


def git_parts(context: Context) -> Compiled:
    source = {"sourceKind": "git-clone", "path": "/w/a", "originUrl": f"https://{context.config.host}/a"}
    return Compiled(routes=[place_route(context)], workspace_sources=[source])


DEFINITIONS: tuple[AnyDefinition, ...] = (
    made_definition(mcp=tools),
    made_definition("agent", Kind.AGENT, agent_parts, mcp_config=CONFIG),
    made_definition("git", Kind.GIT, git_parts),
)
REGISTRY = Registry(DEFINITIONS)


def several() -> Inputs:
    """Bindings of every kind, whose ids and places stand in different orders."""
    return inputs_of(
        DEFINITIONS,
        bound("bnd_c", config={"host": "c.example"}),
        bound("bnd_b", "agent"),
        bound("bnd_a", config={"host": "a.example", "prefixes": ["/v1", "/z"]}),
        bound("bnd_d", "git", config={"host": "git.example"}),
    )


def sealed(inputs: Inputs) -> bytes:
    return seal_for(compile_bindings(inputs, REGISTRY).content, "sbx_one", 7).document


def test_bindings_become_a_plan_in_the_order_of_their_ids() -> None:
    plan = parse_plan(sealed(several()))
    assert (plan.sandbox_id, plan.revision, plan.sandbox_profile_id, plan.version) == ("sbx_one", 7, "sbp_one", 1)
    assert [route.egress_rule_id for route in plan.egress_routes] == ["bnd_a.api", "bnd_c.api", "bnd_d.api"]
    assert [(server.binding_id, server.name) for server in plan.mcp_servers] == [
        ("bnd_a", "tools"),
        ("bnd_c", "tools-2"),
    ]
    [client] = plan.runtime_clients
    assert client.setup.files[0].content == (
        '# mine\n\n[mcp.tools]\nurl = "https://a.example/v1"\n\n[mcp.tools-2]\nurl = "https://c.example/v1"\n'
    )
    assert [(each.binding_id, each.runtime_key) for each in plan.agent_runtimes] == [("bnd_b", "r")]
    assert [source.path for source in plan.workspace_sources] == ["/w/a"]
    assert [artifact.artifact_key for artifact in plan.artifacts] == ["tool"]


def test_a_version_that_says_nothing_lets_nothing_out() -> None:
    compilation = compile_bindings(inputs_of(DEFINITIONS), REGISTRY)
    assert (compilation.content["image"], compilation.content["egress"]) == (DEFAULT_IMAGE, DEFAULT_EGRESS)
    assert (compilation.plan.egress.default, compilation.plan.sandbox_id) == ("deny", NO_SANDBOX)
    image = {"source": "base", "imageRef": "mine:2"}
    egress = {"default": "passthrough", "managedPassthrough": "allow", "rules": []}
    content = compile_bindings(replace(inputs_of(DEFINITIONS), image=image, egress=egress), REGISTRY).content
    assert (content["image"], content["egress"]) == (image, egress)


def test_what_two_bindings_bring_alike_is_there_once() -> None:
    silent = made_definition("agent", compile_binding=lambda context: replace(agent_parts(context), agent_runtimes=()))
    found = compile_bindings(inputs_of([silent], bound("bnd_1", "agent"), bound("bnd_2", "agent")), Registry([silent]))
    assert (len(found.plan.runtime_clients), len(found.plan.artifacts)) == (1, 1)


# --- issues


def refused(inputs: Inputs, registry: Registry = REGISTRY) -> list[tuple[str, str]]:
    with pytest.raises(CompileError) as error:
        compile_bindings(inputs, registry)
    return [(each.code, each.pointer) for each in error.value.issues]


def test_every_issue_of_every_stage_comes_at_once_in_the_order_of_the_document() -> None:
    inputs = inputs_of(
        DEFINITIONS,
        bound("bnd_z", config={"host": "c.example"}),
        bound("bnd_y", config={"nonsense": 1}),
        bound("bnd_x", config={"host": "c.example"}),
        bound("bnd_w", "agent"),
        bound("bnd_v", "agent"),
    )
    assert refused(inputs) == [
        ("compile.invalid_binding_config", "/bindings/1/config/nonsense"),
        ("compile.route_conflict", "/bindings/2"),
        ("compile.agent_runtime_conflict", "/bindings/4"),
    ]


def test_what_the_plan_refuses_is_told_at_the_binding_that_brought_it() -> None:
    wrong = made_definition(
        "wrong",
        compile_binding=lambda context: Compiled(
            routes=[place_route(context)],
            artifacts=[{"artifactKey": "", "name": "x", "lifecycle": {"install": ()}}],
            runtime_clients=[{"clientId": "c"}],
        ),
        mcp=lambda _: [McpServer(server_id="s", name="", transport=HttpMcp(url="ftp://x"))],
    )
    registry = Registry([*DEFINITIONS, wrong])
    inputs = inputs_of(
        [*DEFINITIONS, wrong],
        bound("bnd_b", config={"host": "good.example"}),
        bound("bnd_a", "wrong", config={"host": "*"}),
        bound("bnd_c", "agent"),
    )
    found = refused(inputs, registry)
    assert {pointer for _, pointer in found} == {"/bindings/1"}
    assert {code for code, _ in found} >= {"plan.lone_wildcard", "plan.malformed", "plan.missing_field"}
    with pytest.raises(CompileError) as error:
        compile_bindings(inputs, registry)
    assert "/egressRoutes/0/match/hosts/0: " in str(error.value)


def test_a_faulty_version_is_told_of_the_whole() -> None:
    assert refused(replace(several(), image={"source": "base"})) == [("plan.missing_field", "")]
    assert refused(replace(several(), egress={"default": 1.5})) == [("plan.malformed", "")]


def test_a_plan_that_is_too_large_is_refused() -> None:
    many = made_definition(
        "many",
        compile_binding=lambda _: Compiled(
            routes=[
                Route(key=f"r{number}", hosts=[f"h{number}.example"], auth_injection={"type": "bearer"})
                for number in range(1_001)
            ]
        ),
    )
    assert refused(inputs_of([many], bound("bnd_1", "many")), Registry([many])) == [("plan.too_many_routes", "")]


def test_what_the_sandbox_would_refuse_is_refused_here() -> None:
    many = made_definition(
        "many",
        compile_binding=lambda context: Compiled(
            workspace_sources=[
                {"sourceKind": "git-clone", "path": f"/w/{number}", "originUrl": "https://git.example/a"}
                for number in range(MAX_WORKSPACE_SOURCES + 1)
            ]
        ),
    )
    assert refused(inputs_of([many], bound("bnd_1", "many")), Registry([many])) == [("compile.setup_refused", "")]
    relative = made_definition(
        "relative",
        compile_binding=lambda context: Compiled(
            workspace_sources=[{"sourceKind": "git-clone", "path": "../a", "originUrl": "https://git.example/a"}]
        ),
    )
    found = refused(inputs_of([relative], bound("bnd_1", "relative")), Registry([relative]))
    assert found == [("compile.setup_refused", "/bindings/0")]


# --- every integration that comes with Sallyport


def golden_cases() -> list[tuple[AnyDefinition, dict[str, Any]]]:
    folder = ROOT / "tests/control_plane/definitions/golden"
    return [
        (definition, case)
        for definition in CATALOG
        for case in json.loads((folder / f"{definition.variant_id}.json").read_text("utf-8"))
    ]


@pytest.mark.parametrize(
    ("definition", "case"), golden_cases(), ids=lambda each: each["name"] if isinstance(each, dict) else each.variant_id
)
def test_every_golden_binding_compiles_to_a_whole_plan(definition: AnyDefinition, case: dict[str, Any]) -> None:
    given = inputs_of([definition], bound("bnd_1", definition.variant_id, case.get("binding", {})))
    [connection], [target] = given.connections.values(), given.targets.values()
    connected = replace(
        connection,
        method=case["connection"]["method"],
        config=case["connection"].get("config", {}),
        secret_types=frozenset(case["connection"].get("secretTypes", [])),
    )
    offered = replace(target, config=case.get("target", {}), secrets=frozenset(case.get("targetSecrets", [])))
    inputs = replace(given, connections={connected.id: connected}, targets={offered.key: offered})
    issues = [(each["code"], f"/bindings/0/config{each['pointer']}") for each in case["expect"].get("issues", [])]
    if issues:
        assert refused(inputs, Registry([definition])) == issues
        return
    plan = compile_bindings(inputs, Registry([definition])).plan
    assert len(plan.egress_routes) == len(case["expect"].get("egressRoutes", []))


# --- determinism


def bindings_of(hosts: Sequence[str]) -> list[StoredBinding]:
    return [bound(f"bnd_{number}", config={"host": host}) for number, host in enumerate(hosts)]


@given(
    st.lists(st.sampled_from([f"h{number}.example" for number in range(9)]), unique=True, max_size=6),
    st.randoms(use_true_random=False),
)
def test_the_order_in_which_anything_is_given_changes_no_byte(hosts: list[str], shuffler: random.Random) -> None:
    inputs = inputs_of(DEFINITIONS, *bindings_of(hosts), bound("bnd_agent", "agent"))

    def shuffled[T](items: Sequence[T]) -> list[T]:
        return shuffler.sample(list(items), len(items))

    other = replace(
        inputs,
        bindings=[
            replace(each, config=dict(shuffled(list(each.config.items())))) for each in shuffled(inputs.bindings)
        ],
        connections=dict(shuffled(list(inputs.connections.items()))),
        targets=dict(shuffled(list(inputs.targets.items()))),
    )
    shuffled_registry = Registry(shuffled(DEFINITIONS))
    assert seal_for(compile_bindings(other, shuffled_registry).content, "sbx_one", 7).document == sealed(inputs)


PROGRAM = """
import hashlib, locale, sys
sys.path.insert(0, {root!r})
locale.setlocale(locale.LC_ALL, "")
import importlib.util
spec = importlib.util.spec_from_file_location("compiled", {path!r})
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
print(hashlib.sha256(module.sealed(module.several())).hexdigest())
"""


@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONHASHSEED": "0", "LC_ALL": "C"},
        {"PYTHONHASHSEED": "4242", "LC_ALL": "C.UTF-8", "TZ": "Asia/Kolkata"},
    ],
)
def test_another_process_another_locale_another_hash_seed(environment: dict[str, str]) -> None:
    program = PROGRAM.format(root=str(ROOT), path=__file__)
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.strip() == hashlib.sha256(sealed(several())).hexdigest()


def test_the_digest_tells_whether_a_plan_is_another_one() -> None:
    content = compile_bindings(several(), REGISTRY).content
    first = seal_for(content, "sbx_one", 7)
    assert parse_plan(first.document).digest == first.digest
    assert seal_for(dict(reversed(content.items())), "sbx_one", 7) == first
    assert seal_for(content, "sbx_one", 8).digest != first.digest
    assert seal_for(content | {"version": 2}, "sbx_one", 7).digest != first.digest
