"""Views: whole, frozen, numbered."""

import dataclasses

import pytest

from control_client.toolset import NOTHING, CallResult, Line, Progress, Tool, Toolset


class Echo:
    """A line that answers what it was asked."""

    async def call(self, tool: str, arguments: object, progress: Progress | None) -> CallResult:
        return CallResult(content=(), structured=(tool, arguments, progress), is_error=False)


def toolset(server: str, *names: str, line: Line | None = None) -> Toolset:
    tools = tuple(
        Tool(server=server, name=name, description="", input_schema={}, is_repeatable=False, line=line or Echo())
        for name in names
    )
    return Toolset(server=server, url=f"http://{server}", tools=tools)


def test_a_view_is_made_of_whole_toolsets() -> None:
    one = NOTHING.replaced(toolset("one", "a", "b")).replaced(toolset("two", "a"))
    assert (one.number, sorted(one.tools)) == (2, [("one", "a"), ("one", "b"), ("two", "a")])
    moved = one.replaced(toolset("one", "c"))
    assert sorted(moved.tools) == [("one", "c"), ("two", "a")]
    assert sorted(one.tools) == [("one", "a"), ("one", "b"), ("two", "a")]
    left = moved.without(["one", "nobody"])
    assert (repr(left), sorted(left.toolsets)) == ("<View 4: 1 servers, 1 tools>", ["two"])


def test_a_view_cannot_be_changed() -> None:
    view = NOTHING.replaced(toolset("one", "a"))
    with pytest.raises(dataclasses.FrozenInstanceError):
        view.number = 5  # type: ignore[misc]  # that is what is tried
    with pytest.raises(TypeError):
        view.toolsets["two"] = toolset("two")  # type: ignore[index]  # likewise


async def test_a_tool_calls_its_own_line() -> None:
    tool = NOTHING.replaced(toolset("one", "a")).tools["one", "a"]
    assert (await tool.call({"x": 1})).structured == ("a", {"x": 1}, None)
