"""What a binding adds, and the walk through documents that may have any shape."""

from control_plane.compiler.parts import objects, parts_of
from control_plane.compiler.validate import validate
from control_plane.definitions.contract import Compiled, HttpMcp, McpServer
from control_plane.definitions.registry import Registry
from tests.support.made_integrations import bound, inputs_of, made_definition, place_route


def test_a_definition_is_asked_once_for_everything() -> None:
    asked = []

    def compile_binding(context: object) -> Compiled:
        asked.append(context)
        return Compiled(routes=[place_route(context)])  # type: ignore[arg-type]  # as every definition gets it

    server = McpServer(server_id="s", name="s", transport=HttpMcp(url="https://a.example/mcp"))
    definition = made_definition(compile_binding=compile_binding, mcp=lambda _: [server])
    [binding] = validate(inputs_of([definition], bound("bnd_1")), Registry([definition])).bindings
    parts = parts_of(binding)
    assert asked == [binding.context]
    assert (parts.id, parts.pointer, parts.mcp_servers) == ("bnd_1", "/bindings/0", (server,))
    assert [route["egressRuleId"] for route in parts.emitted.egress_routes] == ["bnd_1.api"]


def test_objects_passes_over_what_has_another_shape() -> None:
    document = {"a": [{"b": {"c": 1}}, {"b": [{"c": 2}, 3]}, 4, {}], "x": None}
    assert list(objects(document, "a", "b")) == [{"c": 1}, {"c": 2}]
    assert list(objects(document, "x", "y")) == []
    assert list(objects([], "a")) == []
    assert list(objects(document)) == [document]
