"""A link to a real server: its calls, its end, and that of its callers."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from control_client.server_link import ServerLink
from control_client.tool_errors import CUT, GONE, REFUSED, TIMEOUT, UNREACHABLE, UNSENDABLE, ServerError, ToolCallError
from control_client.toolset import Toolset
from tests.support.fake_control import Answer, answer, break_off, hang_up
from tests.support.refusing_port import refusing_port
from tests.support.tool_server import ToolPlace, tools_here
from tests.support.until import until

KEY = "key-of-one"


class Linked:
    """A link, its server, and what it said of itself."""

    def __init__(self, place: ToolPlace, *, server: str = "one", key: str = KEY, call_seconds: float = 60) -> None:
        self.place = place
        self.broken: list[ServerLink] = []
        fields = {"Authorization": f"Bearer {key}"}
        self.link = ServerLink(
            server, place.url(server), fields, on_broken=self.broken.append, call_seconds=call_seconds
        )

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Toolset]:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(self.link.run())
            yield await self.link.ready()
            self.link.close()
            await task


async def test_it_lists_and_calls_by_the_key() -> None:
    async with tools_here("A", {"one": KEY}) as place:
        linked = Linked(place)
        async with linked.running() as toolset:
            assert [tool.name for tool in toolset.tools] == [
                *("one_echo", "one_work", "one_hold", "one_hold_again", "one_fail", "one_refuse")
            ]
            assert [tool.is_repeatable for tool in toolset.tools] == [True, True, False, True, False, False]
            found = await linked.link.call("one_echo", {"caller": "a", "number": 1}, None)
            assert not found.is_error
            assert '"place": "A"' in found.content[0]["text"]
            assert repr(linked.link) == "<ServerLink one: open, 0 calls>"
            failed = await linked.link.call("one_fail", {}, None)
            assert failed.is_error
        assert {shown for _, shown in place.shown} == {f"Bearer {KEY}"}
        assert KEY not in repr(linked.link)
        with pytest.raises(ToolCallError) as caught:
            await linked.link.call("one_echo", {"caller": "a", "number": 1}, None)
        assert (caught.value.code, caught.value.may_repeat) == (GONE, True)


async def test_progress_comes_in_order_and_counts_as_the_call() -> None:
    heard: list[float] = []
    async with tools_here("A", {"one": KEY}) as place:
        linked = Linked(place)

        async def hear(progress: float, total: float | None, message: str | None) -> None:
            assert (total, message, linked.link.open_calls) == (3, None, 1)
            heard.append(progress)

        async with linked.running():
            await linked.link.call("one_work", {"caller": "a", "number": 1, "steps": 3}, hear)
            assert linked.link.open_calls == 0
    assert heard == [1, 2, 3]


async def test_a_server_that_does_not_take_the_key_is_never_ready() -> None:
    async with tools_here("A", {"one": KEY}) as place:
        linked = Linked(place, key="another")
        await linked.link.run()
        with pytest.raises(ServerError, match="401"):
            await linked.link.ready()


async def test_a_server_that_is_not_there_is_never_ready() -> None:
    with refusing_port() as port:
        place = ToolPlace("A", {"one": KEY})
        place.port = port
        linked = Linked(place)
        await linked.link.run()
        with pytest.raises(ServerError, match="ConnectError"):
            await linked.link.ready()
        assert linked.broken == []  # it was never whole


JSON = "application/json"


@pytest.mark.parametrize(
    "wrong",
    [
        answer(200, b"{", Content_Type=JSON),
        answer(200, b"[" * 100_000, Content_Type=JSON),
        answer(200, b"\xff", Content_Type=JSON),
        answer(200, b"<h1>nginx</h1>", Content_Type="text/html"),
        answer(200, b"data: {\n\n", Content_Type="text/event-stream"),
        answer(200, b"data: \xff\n\n", Content_Type="text/event-stream"),
        answer(200, b"\x1f\x8b", Content_Type=JSON, Content_Encoding="gzip"),
        answer(202),
        answer(500),
        answer(302, b"", Location="http://127.0.0.1:1/"),
        answer(307, b"", Location="http://127.0.0.1:1/"),
        hang_up,
        break_off,
    ],
)
async def test_whatever_a_server_answers_instead_it_is_never_ready(wrong: Answer) -> None:
    app = web.Application()
    app.router.add_route("*", "/one/mcp", wrong)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    place = ToolPlace("A", {})
    place.port = runner.addresses[0][1]
    linked = Linked(place)
    await linked.link.run()
    with pytest.raises(ServerError):
        await linked.link.ready()
    await runner.cleanup()


async def test_a_retired_link_ends_once_its_calls_have_drained() -> None:
    async with tools_here("A", {"one": KEY}) as place, asyncio.TaskGroup() as group:
        linked = Linked(place)
        async with linked.running():
            held = group.create_task(linked.link.call("one_hold", {}, None))
            await place.holding.wait()
            retired = group.create_task(linked.link.retire(60))
            await asyncio.sleep(0)
            # It takes calls of those who hold a tool of it, up to its end.
            await linked.link.call("one_echo", {"caller": "a", "number": 1}, None)
            assert not retired.done()
            place.release.set()
            assert (await held).content[0]["text"] == "A"
            await retired
            assert repr(linked.link).startswith("<ServerLink one: closed")


async def test_what_has_not_drained_in_time_is_cut_and_says_so() -> None:
    async with tools_here("A", {"one": KEY}) as place, asyncio.TaskGroup() as group:
        linked = Linked(place)
        async with linked.running():
            held = group.create_task(_outcome(linked.link, "one_hold"))
            await place.holding.wait()
            await linked.link.retire(0)
            assert await held == (CUT, False)
        place.release.set()


async def test_a_caller_that_leaves_takes_its_call_along_and_no_other() -> None:
    async with tools_here("A", {"one": KEY}) as place, asyncio.TaskGroup() as group:
        linked = Linked(place)
        async with linked.running():
            leaving = group.create_task(linked.link.call("one_hold", {}, None))
            staying = group.create_task(linked.link.call("one_hold", {}, None))
            await until(lambda: place.held == 2)
            leaving.cancel()
            await until(lambda: linked.link.open_calls == 1)
            place.release.set()
            assert (await staying).content[0]["text"] == "A"
        assert leaving.cancelled()


async def test_a_server_that_crashes_cuts_what_was_sent_and_no_more_is_begun() -> None:
    async with asyncio.TaskGroup() as group:
        async with contextlib.AsyncExitStack() as serving:
            place = await serving.enter_async_context(tools_here("A", {"one": KEY}))
            linked = Linked(place)
            run = group.create_task(linked.link.run())
            await linked.link.ready()
            held = group.create_task(_outcome(linked.link, "one_hold"))
            await place.holding.wait()
        assert await held == (CUT, False)
        assert await _outcome(linked.link, "one_echo") in [(UNREACHABLE, True), (GONE, True)]
        assert linked.broken == [linked.link]
        linked.link.close()
        await run


async def test_a_server_s_refusal_breaks_nothing() -> None:
    async with tools_here("A", {"one": KEY}) as place:
        linked = Linked(place)
        async with linked.running():
            assert await _outcome(linked.link, "one_refuse") == (REFUSED, False)
            assert linked.broken == []


@pytest.mark.parametrize(
    "wrong", [{1, 2}, float("nan"), "\ud800", [[]], object()], ids=["set", "nan", "half a pair", "deep", "object"]
)
async def test_arguments_that_cannot_be_sent_are_their_caller_s_alone(wrong: object) -> None:
    if wrong == [[]]:
        for _ in range(100_000):
            wrong = [wrong]
    async with tools_here("A", {"one": KEY}) as place, asyncio.TaskGroup() as group:
        linked = Linked(place)
        async with linked.running():
            held = group.create_task(linked.link.call("one_hold", {}, None))
            await place.holding.wait()
            with pytest.raises(ToolCallError, match=UNSENDABLE) as caught:
                await linked.link.call("one_echo", {"caller": wrong, "number": 1}, None)
            assert not caught.value.may_repeat
            place.release.set()
            assert (await held).content[0]["text"] == "A"
            assert linked.broken == []


async def test_a_tool_s_odd_name_is_nobody_else_s_trouble() -> None:
    async with tools_here("A", {"odd": KEY}) as place, asyncio.TaskGroup() as group:
        linked = Linked(place, server="odd")
        async with linked.running():
            held = group.create_task(linked.link.call("odd_hold", {}, None))
            await place.holding.wait()
            assert await _outcome(linked.link, "größe \r\n") is None
            place.release.set()
            assert (await held).content[0]["text"] == "A"
            assert linked.broken == []


async def test_a_call_that_takes_too_long_is_told_so() -> None:
    async with tools_here("A", {"one": KEY}) as place:
        linked = Linked(place, call_seconds=0.2)
        async with linked.running():
            assert await _outcome(linked.link, "one_hold") == (TIMEOUT, False)
            assert linked.broken == []
            place.release.set()


async def _outcome(link: ServerLink, tool: str) -> tuple[str, bool] | None:
    try:
        await link.call(tool, {}, None)
    except ToolCallError as error:
        return error.code, error.may_repeat
    return None
