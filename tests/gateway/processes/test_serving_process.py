"""One serving process from its parent's side: told everything before it accepts, replaced when it is of no use."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.plan_holder import is_quick
from gateway.processes import serving_process
from gateway.processes.link import LinkError
from gateway.processes.serving_process import Order, ServingFailed
from sallyport.plan.codec import seal
from tests.support.gateway_plans import plan, route
from tests.support.plan_documents import plan_document
from tests.support.stub_fleet import StubFleet, eventually, stub_fleet

REVOKE = ("jti", "tok_one", 4e9)


@pytest.fixture
async def stubs(tmp_path: Path) -> AsyncIterator[StubFleet]:
    async with stub_fleet(tmp_path, workers=1) as stubs:
        yield stubs


async def test_it_knows_everything_before_it_accepts(stubs: StubFleet) -> None:
    stubs.fleet.keys(b'{"keys": []}')
    stubs.fleet.revoke(*REVOKE)
    stubs.plans.apply(plan([]))
    stubs.plans.withhold()
    (process,) = stubs.fleet.processes
    assert repr(process) == "<ServingProcess 1 starting>"
    stubs.start()
    await stubs.serving()
    assert repr(process) == "<ServingProcess 1 serving>"
    asked = [line.split(" ")[1] for line in stubs.orders()]
    assert asked == [
        "/v1/tokens/revoke",
        "/internal/keys",
        "/internal/plans-withheld",
        "/internal/plans/sbx_one?change=1",
        "/internal/serve",
    ]


async def test_a_successor_knows_what_the_killed_one_knew_and_what_came_meanwhile(stubs: StubFleet) -> None:
    stubs.start()
    await stubs.serving()
    (process,) = stubs.fleet.processes
    pid = process.process_id
    assert pid is not None
    stubs.plans.apply(plan([]))
    await stubs.fleet.settled("sbx_one")
    os.kill(pid, signal.SIGKILL)
    await eventually(lambda: not process.is_serving)
    stubs.fleet.revoke(*REVOKE)
    assert await process.tell(Order("POST", "/nobody")) is None
    with pytest.raises(LinkError, match="is being started"):
        await process.ask("GET", "/metrics")
    await stubs.serving()
    assert process.process_id != pid
    asked = [line.split(" ")[1] for line in stubs.orders(pid=process.process_id)]
    assert asked == ["/v1/tokens/revoke", "/internal/plans/sbx_one?change=1", "/internal/serve"]
    assert process.deaths == 1


async def test_a_revocation_does_not_wait_for_a_plan_that_compiles(stubs: StubFleet) -> None:
    stubs.start()
    await stubs.serving()
    stubs.write("hangs", "/internal/plans")
    stubs.plans.apply(plan([]))
    await eventually(lambda: "PUT /internal/plans/sbx_one" in " ".join(stubs.orders()))
    async with asyncio.timeout(5):
        assert await stubs.fleet.revoke_everywhere(*REVOKE) == 1
        assert await stubs.fleet.invalidate_everywhere("all", None) == 10


async def test_a_removal_does_not_wait_for_plans_that_compile(stubs: StubFleet) -> None:
    stubs.start()
    await stubs.serving()
    stubs.plans.apply(plan([]))
    await stubs.fleet.settled("sbx_one")
    stubs.write("hangs", "/internal/plans")
    stubs.plans.apply(plan([], revision=2))
    await eventually(lambda: "PUT /internal/plans/sbx_one?change=2" in stubs.asked())
    stubs.plans.remove("sbx_one")
    async with asyncio.timeout(5):
        await stubs.fleet.settled("sbx_one")  # nor does whoever has asked for it
    assert "DELETE /internal/ahead/sbx_one?change=3" in stubs.asked()
    assert "DELETE /internal/plans/sbx_one?change=3" not in stubs.asked()


async def test_a_newer_plan_that_compiles_quickly_does_not_wait_for_others(stubs: StubFleet) -> None:
    """The first plan of a sandbox, and a large one, come in their turn."""
    stubs.start()
    await stubs.serving()
    stubs.plans.apply(plan([]))
    await stubs.fleet.settled("sbx_one")
    stubs.write("hangs", "/internal/plans/")
    other = seal(plan_document([]) | {"sandboxId": "sbx_two"})
    stubs.plans.apply(other)
    await eventually(lambda: "PUT /internal/plans/sbx_two?change=2" in stubs.asked())
    stubs.plans.apply(plan([], revision=2))
    async with asyncio.timeout(5):
        await stubs.fleet.settled("sbx_one")
    assert [line for line in stubs.asked() if "ahead" in line] == ["PUT /internal/ahead/sbx_one?change=3"]
    assert not is_quick(large_plan(3))
    for revision in (3, 4):  # the first of these takes something away: it claims hosts
        stubs.plans.apply(large_plan(revision))
    await eventually(lambda: "PUT /internal/ahead/sbx_one?change=4" in stubs.asked())
    stubs.plans.apply(plan([], revision=5))
    async with asyncio.timeout(5):
        await stubs.fleet.settled("sbx_one")
    assert not any("change=5" in line for line in stubs.asked())


def large_plan(revision: int, *, is_whole: bool = True) -> bytes:
    hosts = [f"{'x' * 60}.{'y' * 60}.{'z' * 30}-{number}.test" for number in range(900)]
    routes = [route("r", hosts, "con_one"), route("s", ["s.test"], "con_two")]
    return plan(routes if is_whole else routes[:1], revision=revision)


def small_plan(sandbox_id: str, revision: int, *, is_whole: bool = True) -> bytes:
    routes = [route("r", ["r.test"], "con_one")] if is_whole else []
    return seal(plan_document(routes, default="deny", revision=revision) | {"sandboxId": sandbox_id})


async def test_a_plan_that_takes_something_away_does_not_wait_for_those_that_do_not(stubs: StubFleet) -> None:
    """However many others there are that replace one, and of what size it is; a small one waits for no large one."""
    stubs.start()
    await stubs.serving()
    stubs.plans.apply(large_plan(1))
    for sandbox_id in ("sbx_two", "sbx_three"):
        stubs.plans.apply(small_plan(sandbox_id, 1))
        await stubs.fleet.settled(sandbox_id)
    stubs.write("hangs", "change=4")
    stubs.plans.apply(small_plan("sbx_three", 2))
    await eventually(lambda: "PUT /internal/ahead/sbx_three?change=4" in stubs.asked())
    stubs.plans.apply(large_plan(2, is_whole=False))
    async with asyncio.timeout(5):
        await stubs.fleet.settled("sbx_one")
    stubs.write("hangs", "change=6")
    stubs.plans.apply(large_plan(3))
    await eventually(lambda: "PUT /internal/ahead/sbx_one?change=6" in stubs.asked())
    stubs.plans.apply(small_plan("sbx_two", 2, is_whole=False))
    async with asyncio.timeout(5):
        await stubs.fleet.settled("sbx_two")
    assert not any("plans" in line and line.endswith(("=5", "=6", "=7")) for line in stubs.asked())


@pytest.mark.parametrize("how", ["refuses", "hangs"])
async def test_one_that_does_not_take_an_order_is_replaced(
    stubs: StubFleet, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    stubs.start()
    await stubs.serving()
    (process,) = stubs.fleet.processes
    pid = process.process_id
    monkeypatch.setattr(serving_process, "ORDER_SECONDS", 0.3)  # its first orders had all the time they need
    stubs.write(how, "/v1/tokens/revoke")
    told = process.tell(Order("POST", "/v1/tokens/revoke"))
    assert await told is None
    stubs.write(how, "")
    await eventually(lambda: process.process_id not in (None, pid))
    await stubs.serving()


async def test_one_that_says_nothing_is_replaced(stubs: StubFleet, monkeypatch: pytest.MonkeyPatch) -> None:
    stubs.start()
    await stubs.serving()
    pid = stubs.fleet.processes[0].process_id
    monkeypatch.setattr(serving_process, "SILENCE_SECONDS", 0.3)
    stubs.write("reports-1", '{"held": ["sbx_one"]}')
    await eventually(lambda: bool(stubs.fleet.streams.sandboxes()))  # the next line has that time
    stubs.write("silent", "yes")
    await eventually(lambda: stubs.fleet.processes[0].process_id not in (None, pid))


async def test_one_that_cannot_start_ends_the_whole_with_its_status(stubs: StubFleet) -> None:
    stubs.write("fails-1", "3")
    stubs.start()
    await eventually(lambda: bool(stubs.failures))
    (failure,) = stubs.failures
    assert isinstance(failure, ServingFailed)
    assert (str(failure), failure.status) == ("serving process 1 ended with status 3 at its start", 3)


async def test_one_that_ends_again_and_again_ends_the_whole(stubs: StubFleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving_process, "MAX_ENDS", 2)
    stubs.start()
    await stubs.serving()
    stubs.write("fails-1", "1")
    os.kill(stubs.fleet.processes[0].process_id or 0, signal.SIGKILL)
    await eventually(lambda: bool(stubs.failures))
    assert str(stubs.failures[0]) == "serving process 1 ended 2 times within 60 s"


async def test_the_end_comes_while_it_is_started_too(stubs: StubFleet) -> None:
    (process,) = stubs.fleet.processes
    stubs.start()
    process.end()
    await eventually(lambda: stubs.running[0].done())
    assert repr(process) == "<ServingProcess 1 ending>"
    assert stubs.failures == []
