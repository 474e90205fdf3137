"""What cannot stand side by side is told at the later binding, naming the earlier one and what both want."""

from typing import Any

import pytest

from control_plane.compiler.conflicts import conflicts
from control_plane.compiler.parts import parts_of
from control_plane.compiler.validate import validate
from control_plane.definitions.contract import AnyDefinition, Compiled, Issue, Kind, Route
from control_plane.definitions.registry import Registry
from tests.support.made_integrations import bound, inputs_of, made_definition, place_route

type Document = dict[str, Any]


def brings(variant: str, kind: Kind = Kind.CONNECTOR, **parts: object) -> AnyDefinition:
    """A definition whose every binding brings these parts."""
    return made_definition(variant, kind, lambda _: Compiled(**parts))  # type: ignore[arg-type]  # parts of Compiled


def found(*definitions: AnyDefinition, twice: bool = False) -> list[Issue]:
    """The conflicts of bindings bnd_1, bnd_2 ... of these definitions in turn."""
    variants = [each.variant_id for each in definitions] * (2 if twice else 1)
    given = [bound(f"bnd_{number}", variant) for number, variant in enumerate(variants, 1)]
    validated = validate(inputs_of(definitions, *given), Registry(definitions))
    assert validated.issues == ()
    return conflicts([parts_of(binding) for binding in validated.bindings])


def told(*definitions: AnyDefinition, twice: bool = False) -> list[tuple[str, str]]:
    return [(each.code.removeprefix("compile."), each.pointer) for each in found(*definitions, twice=twice)]


def client(client_id: str, *paths: str, content: str = "", **fields: object) -> Document:
    files = [
        {"fileId": f"f{number}", "path": path, "mode": 420, "content": content, "writeMode": "overwrite"}
        for number, path in enumerate(paths)
    ]
    return {
        "clientId": client_id,
        "setup": {"env": {}, "files": files},
        "processes": [],
        "endpoints": [],
        **fields,
    }


def endpoint(key: str, process: str | None = None) -> Document:
    url = {"type": "ws", "url": "ws://127.0.0.1:4500/"}
    named = {} if process is None else {"processKey": process}
    return {"endpointKey": key, **named, "transport": url, "connectionMode": "dedicated"}


def runtime(key: str, client_id: str = "c", endpoint_key: str = "e") -> Document:
    return {"runtimeKey": key, "clientId": client_id, "endpointKey": endpoint_key, "adapterKey": "a"}


def test_a_tie_is_shown_by_the_request_both_would_claim() -> None:
    definition = made_definition()
    [conflict] = found(definition, twice=True)
    assert (conflict.code, conflict.pointer) == ("compile.route_conflict", "/bindings/1")
    assert conflict.message == (
        "binding bnd_1 and this one both claim GET https://api.example.com/v1 (routes bnd_1.api and bnd_2.api)"
    )


def test_a_binding_may_contradict_itself() -> None:
    def twice(context: Any) -> Compiled:  # noqa: ANN401  a context of any configuration
        route = place_route(context)
        return Compiled(routes=[route, Route(key="again", hosts=route.hosts, auth_injection={"type": "bearer"})])

    assert found(made_definition(compile_binding=twice)) == []

    def alike(context: Any) -> Compiled:  # noqa: ANN401  likewise
        return Compiled(routes=[place_route(context), place_route(context)])

    [conflict] = found(made_definition(compile_binding=alike))
    assert conflict.message.startswith("this binding and this one both claim GET ")


def test_a_faulty_route_hides_no_tie() -> None:
    faulty = Route(key="x", hosts=["*"], auth_injection={"type": "bearer"})
    good = Route(key="y", hosts=["a.example"], auth_injection={"type": "bearer"})
    assert told(brings("one", routes=[faulty, good]), brings("two", routes=[faulty, good])) == [
        ("route_conflict", "/bindings/1")
    ]


def test_artifacts_of_one_key_have_to_be_one_artifact() -> None:
    one = {"artifactKey": "gh", "name": "gh", "lifecycle": {"install": ()}}
    assert told(brings("one", artifacts=[one]), brings("two", artifacts=[dict(one)])) == []
    assert told(brings("one", artifacts=[one]), brings("two", artifacts=[one | {"name": "other"}])) == [
        ("artifact_conflict", "/bindings/1")
    ]


def test_a_variable_has_one_value() -> None:
    def artifact(key: str, value: str) -> Document:
        return {"artifactKey": key, "name": key, "env": {"A": value}, "lifecycle": {"install": ()}}

    one = brings("one", artifacts=[artifact("a", "1")])
    assert told(one, brings("two", artifacts=[artifact("b", "1")])) == []
    [conflict] = found(one, brings("two", artifacts=[artifact("b", "2")]))
    assert (conflict.code, conflict.pointer) == ("compile.artifact_conflict", "/bindings/1")
    assert conflict.message == "artifact a of binding bnd_1 sets A to something else"
    assert [each.pointer for each in found(one, brings("two", artifacts=[artifact("a", "2")]))] == ["/bindings/1"]


def test_runtime_clients_of_one_id_have_to_be_one_client() -> None:
    assert told(brings("one", runtime_clients=[client("c", "/a")]), twice=True) == []
    other = client("c", "/a", content="x")
    assert told(brings("one", runtime_clients=[client("c", "/a")]), brings("two", runtime_clients=[other])) == [
        ("runtime_client_conflict", "/bindings/1")
    ]


@pytest.mark.parametrize("path", ["/etc/a", "/etc//a", "/etc/./a"])
def test_two_clients_write_no_path_both(path: str) -> None:
    one = brings("one", runtime_clients=[client("c", "/etc/a", content="1")])
    [conflict] = found(one, brings("two", runtime_clients=[client("d", path, content="2")]))
    assert (conflict.code, conflict.pointer) == ("compile.runtime_client_conflict", "/bindings/1")
    assert conflict.message == "binding bnd_1 writes /etc/a too (runtime client c)"
    assert told(one, brings("two", runtime_clients=[client("d", "/etc/b", content="2")])) == []


def test_one_client_writes_no_path_twice() -> None:
    [conflict] = found(brings("one", runtime_clients=[client("c", "/a", "/a")]))
    assert "this binding writes /a too" in conflict.message


def test_an_agent_runtime_is_there_once() -> None:
    parts: Document = {
        "runtime_clients": [client("c", endpoints=[endpoint("e")])],
        "agent_runtimes": [runtime("codex")],
    }
    assert told(brings("one", Kind.AGENT, **parts)) == []
    assert told(brings("one", Kind.AGENT, **parts), twice=True) == [("agent_runtime_conflict", "/bindings/1")]


def test_what_is_named_has_to_be_there() -> None:
    process = {"processKey": "p"}
    whole = client("c", endpoints=[endpoint("e", "p")], processes=[process])
    assert told(brings("one", runtime_clients=[whole], agent_runtimes=[runtime("r")])) == []
    broken = client("c", endpoints=[endpoint("e", "q")], processes=[process])
    assert told(brings("one", runtime_clients=[broken])) == [("runtime_client_invalid_ref", "/bindings/0")]
    astray = brings("one", runtime_clients=[whole], agent_runtimes=[runtime("r", endpoint_key="x")])
    assert told(astray) == [("runtime_client_invalid_ref", "/bindings/0")]
    assert told(brings("one", agent_runtimes=[runtime("r")])) == [("runtime_client_invalid_ref", "/bindings/0")]
    assert told(brings("one", agent_runtimes=[runtime("r")]), brings("two", runtime_clients=[whole])) == []


def test_an_agent_with_an_endpoint_says_how_it_is_spoken_to() -> None:
    reached, silent = client("c", endpoints=[endpoint("e")]), client("c")
    assert told(brings("one", Kind.AGENT, runtime_clients=[reached])) == [("agent_runtime_required", "/bindings/0")]
    assert told(brings("one", Kind.AGENT, runtime_clients=[silent])) == []
    assert told(brings("one", Kind.AGENT)) == []
    assert told(brings("one", Kind.CONNECTOR, runtime_clients=[reached])) == []


def source(repository: str, path: str) -> Document:
    return {"sourceKind": "git-clone", "path": path, "originUrl": f"https://git.example/{repository}"}


def test_repositories_are_bound_once_in_a_family_and_cloned_to_places_of_their_own() -> None:
    one = brings("one", Kind.GIT, workspace_sources=[source("a", "/w/a")])
    assert told(one, brings("two", Kind.GIT, workspace_sources=[source("b", "/w/b")])) == []
    assert told(one, brings("two", Kind.GIT, workspace_sources=[source("b", "/w//a")])) == [
        ("workspace_conflict", "/bindings/1")
    ]
    [conflict] = found(one, twice=True)
    assert conflict.message == ("binding bnd_1 of the same family has https://git.example/a; bind each repository once")
    assert told(brings("one", workspace_sources=[source("a", "/w/a")]), twice=True) == []
