"""Tools as they are shown, and calls of them as requests."""

from typing import Any

import pytest

from control_plane.api.built_in.operations import ARGUMENTS, OPERATIONS
from control_plane.api.built_in.tools import BOUND, Asked, BuiltInTool, built_in_tools
from control_plane.refusals import Refused
from tests.support.control_plane import Replica

# What is tested here knows no database: one is enough.
pytestmark = pytest.mark.parametrize("url", ["sqlite"], indirect=True)

KEYS = {"organizationId": "org_one", "instanceId": "inst_1"}


@pytest.fixture
async def tools(api: Replica) -> dict[str, BuiltInTool]:
    return built_in_tools(await api.ask("GET", "/openapi.json"))


def refused(tool: BuiltInTool, arguments: dict[str, Any]) -> list[tuple[str, str]]:
    with pytest.raises(Refused) as caught:
        tool.asked(arguments, KEYS)
    return [(issue.code, issue.pointer) for issue in caught.value.issues]


async def test_every_tool_is_told_whole(tools: dict[str, BuiltInTool]) -> None:
    assert list(tools) == [each.name for each in OPERATIONS]
    named: set[str] = set()
    for tool in tools.values():
        shown = tool.shown
        assert shown.title
        assert shown.description
        assert shown.input_schema["type"] == "object"
        assert shown.input_schema["additionalProperties"] is False
        assert shown.output_schema is not None
        assert shown.output_schema["type"] == "object", shown.name
        assert "#/components" not in str(shown)
        assert shown.annotations is not None
        assert shown.annotations.open_world_hint is False
        properties = shown.input_schema["properties"]
        assert set(shown.input_schema["required"]) <= set(properties)
        assert not BOUND & set(properties)
        named |= set(properties)
    assert named == set(ARGUMENTS)


async def test_a_call_is_a_request(tools: dict[str, BuiltInTool]) -> None:
    assert tools["list_sandboxes"].asked({"limit": 3}, KEYS) == Asked(
        "GET", "/v1/sandboxes", {"limit": "3", "organizationId": "org_one"}, None
    )
    explained = tools["explain_request"].asked(
        {"sandboxProfileId": "sbp_1", "version": 2, "method": "GET", "url": "https://a.test/?x=1&y"}, KEYS
    )
    assert explained == Asked(
        "GET",
        "/v1/sandbox/profiles/sbp_1/versions/2/explain",
        {"method": "GET", "url": "https://a.test/?x=1&y"},
        None,
    )
    stopped = tools["stop_shared_tool"].asked({"sharedToolId": "stl_1", "atOnce": True}, KEYS)
    assert stopped == Asked("POST", "/api/shared-tools/stl_1/stop", {"atOnce": "true"}, None)
    compared = tools["diff_plans"].asked({"sandboxProfileId": "sbp_1", "version": 2, "otherVersion": 1}, KEYS)
    assert compared == Asked("POST", "/v1/sandbox/profiles/sbp_1/versions/2/diff", {}, {"version": 1})


async def test_what_no_call_can_be(tools: dict[str, BuiltInTool]) -> None:
    show = tools["show_sandbox"]
    assert refused(show, {}) == [("missing_field", "/sandboxId")]
    assert refused(show, {"sandboxId": "sbx_1", "organizationId": "org_two"}) == [("unknown_field", "/organizationId")]
    for value in ("sbx_1/plans", "../x", "", "sbx_1?x=1", "sbx_1\n", None, ["a"], {"a": 1}, 1.5):
        assert refused(show, {"sandboxId": value}) == [("malformed", "/sandboxId")], value
    assert refused(tools["list_sandboxes"], {"cursor": None, "limit": [1]}) == [
        ("malformed", "/cursor"),
        ("malformed", "/limit"),
    ]
