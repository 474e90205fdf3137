"""Servers that come, go, move and crash under running calls, on real links to real servers."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

import pytest

from control_client.reload import LiveTools
from control_client.tool_errors import CUT, UNKNOWN, UNREACHABLE, ToolCallError
from control_client.toolset import CallResult, View
from tests.support.tool_server import tools_here
from tests.support.until import until

KEY = "key"
NAMES = {"one": KEY, "two": KEY}


@contextlib.asynccontextmanager
async def live_tools(*, grace_seconds: float = 60, patience_seconds: float = 60) -> AsyncIterator[LiveTools]:
    async def fields_for(url: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {KEY}"}

    tools = LiveTools(fields_for, grace_seconds=grace_seconds, patience_seconds=patience_seconds)
    try:
        yield tools
    finally:
        await tools.close()


async def test_servers_join_when_they_are_whole_and_leave_at_once() -> None:
    async with tools_here("A", NAMES) as place, live_tools() as tools:
        tools.apply({"one": place.url("one"), "two": place.url("two")})
        view = await tools.settled()
        assert sorted(view.toolsets) == ["one", "two"]
        assert ("one", "one_echo") in view.tools
        assert place_of(await tools.call("two", "two_echo", {"caller": "a", "number": 1})) == "A"
        tools.apply({"two": place.url("two")})
        assert sorted(tools.view.toolsets) == ["two"]
        assert tools.view.toolsets["two"] is view.toolsets["two"]  # unchanged servers keep their links
        with pytest.raises(ToolCallError, match=UNKNOWN):
            await tools.call("one", "one_echo", {"caller": "a", "number": 1})
    assert tools.view.toolsets == {}


async def test_a_moved_server_is_built_first_and_the_old_one_finishes_its_calls() -> None:
    async with tools_here("A", NAMES) as old, tools_here("B", NAMES) as new, live_tools() as tools:
        tools.apply({"one": old.url("one")})
        await tools.settled()
        async with asyncio.TaskGroup() as group:
            tool = tools.view.tools["one", "one_hold"]
            held = group.create_task(tool.call({}))
            await old.holding.wait()
            tools.apply({"one": new.url("one")})
            assert tools.view.tools["one", "one_hold"] is tool  # the new one is not there yet
            await tools.settled()
            assert place_of(await tools.call("one", "one_echo", {"caller": "a", "number": 1})) == "B"
            # Who holds the tool holds its link, too.
            echo = group.create_task(tool.line.call("one_echo", {"caller": "a", "number": 2}, None))
            assert place_of(await echo) == "A"
            old.release.set()
            assert (await held).content[0]["text"] == "A"


async def test_after_the_grace_period_what_still_runs_is_cut() -> None:
    async with tools_here("A", NAMES) as place, live_tools(grace_seconds=0) as tools:
        tools.apply({"one": place.url("one")})
        await tools.settled()
        async with asyncio.TaskGroup() as group:
            held = group.create_task(outcome(tools, "one_hold"))
            await place.holding.wait()
            tools.apply({})
            assert await held == CUT
            place.release.set()


async def test_a_server_that_cannot_be_built_is_never_half_listed_and_its_old_one_serves_on() -> None:
    async with tools_here("A", NAMES) as place, live_tools() as tools:
        tools.apply({"one": place.url("one")})
        before = await tools.settled()
        strange = place.url("three")
        tools.apply({"one": strange, "two": strange})
        await until(lambda: ("POST", f"Bearer {KEY}") in place.shown[-2:] and "being built" in repr(tools))
        assert tools.view.toolsets == before.toolsets
        assert place_of(await tools.call("one", "one_echo", {"caller": "a", "number": 1})) == "A"
        tools.apply({"one": place.url("one"), "two": place.url("two")})
        after = await tools.settled()
        assert after.toolsets["one"] is before.toolsets["one"]  # it moved, and moved back
        assert sorted(after.toolsets) == ["one", "two"]


async def test_a_server_that_comes_back_gets_its_waiting_calls_and_no_cut_one_twice() -> None:
    async with live_tools() as tools, asyncio.TaskGroup() as group:
        async with tools_here("A", NAMES) as place:
            tools.apply({"one": place.url("one")})
            before = await tools.settled()
            cut = group.create_task(outcome(tools, "one_hold"))
            again = group.create_task(tools.call("one", "one_hold_again", {}))
            await until(lambda: place.held == 2)
        await until(cut.done)
        assert await cut == CUT
        waiting = group.create_task(tools.call("one", "one_echo", {"caller": "a", "number": 1}))
        await until(lambda: "1 being built" in repr(tools))
        assert tools.view is before  # it stays listed
        async with tools_here("B", NAMES, port=place.port) as place:
            place.release.set()
            assert place_of(await waiting) == "B"
            assert (await again).content[0]["text"] == "B"
            assert place.held == 1
            assert tools.view.number == before.number + 1


async def test_a_call_that_is_cut_twice_is_not_made_a_third_time() -> None:
    async with live_tools() as tools, asyncio.TaskGroup() as group:
        async with tools_here("A", NAMES) as place:
            tools.apply({"one": place.url("one")})
            await tools.settled()
            twice = group.create_task(outcome(tools, "one_hold_again"))
            await place.holding.wait()
        async with tools_here("B", NAMES, port=place.port) as again:
            await again.holding.wait()
        await until(twice.done)
        assert await twice == CUT


async def test_a_call_waits_for_its_server_no_longer_than_it_is_told() -> None:
    async with live_tools(patience_seconds=0) as tools:
        async with tools_here("A", NAMES) as place:
            tools.apply({"one": place.url("one")})
            await tools.settled()
        assert await outcome(tools, "one_echo") == UNREACHABLE


async def test_closing_cuts_what_runs_and_leaves_nothing_behind() -> None:
    async with tools_here("A", NAMES) as place, asyncio.TaskGroup() as group:
        before = asyncio.all_tasks()
        async with live_tools() as tools:
            tools.apply({"one": place.url("one"), "two": place.url("two"), "three": place.url("three")})
            await until(lambda: len(tools.view.toolsets) == 2)
            held = group.create_task(outcome(tools, "one_hold"))
            await place.holding.wait()
        assert await held == CUT
        assert {task for task in asyncio.all_tasks() - before if _is_ours(task)} == set()
        place.release.set()


def _is_ours(task: asyncio.Task[object]) -> bool:
    return task.get_name().partition(" ")[0] in ("build", "link", "retire")


async def test_no_view_is_ever_partial_and_numbers_only_rise() -> None:
    seen: list[View] = []
    async with tools_here("A", NAMES) as old, tools_here("B", NAMES) as new, live_tools() as tools:

        async def look() -> None:
            while True:
                if not seen or seen[-1] is not tools.view:
                    seen.append(tools.view)
                await asyncio.sleep(0)

        async with asyncio.TaskGroup() as group:
            looking = group.create_task(look())
            for place in (old, new):
                tools.apply({name: place.url(name) for name in NAMES})
                await tools.settled()
            tools.apply({"two": new.url("two")})
            looking.cancel()
    assert [view.number for view in seen] == sorted({view.number for view in seen})
    for view in seen:
        assert set(view.tools) == {(each.server, each.name) for each in view.tools.values()}
        for name, toolset in view.toolsets.items():
            assert len(toolset.tools) == 6
            assert {tool.line for tool in toolset.tools} == {view.tools[name, f"{name}_echo"].line}


def place_of(result: CallResult) -> str:
    return str(json.loads(result.content[0]["text"])["place"])


async def outcome(tools: LiveTools, tool: str) -> str | None:
    try:
        await tools.call("one", tool, {})
    except ToolCallError as error:
        return error.code
    return None
