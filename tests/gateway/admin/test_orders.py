"""What a parent orders of a serving process: a whole gateway in its place, on sockets that were bound for it."""

import asyncio
import contextlib
import json
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.app import start_gateway
from gateway.config import load_config
from gateway.plan_holder import PreparedPlan
from gateway.processes.link import Answered, ask, open_answer, read_lines
from gateway.processes.place import Place
from gateway.processes.reports import MAX_LINE_BYTES
from gateway.running import Gateway
from sallyport.net.transports import bind_shared
from sallyport.wire.websocket import REPLACED
from sallyport_cli.keys import public_pem
from tests.support.fake_control import FakeControl, fake_control
from tests.support.gateway_plans import plan
from tests.support.in_process import signed_token, signing_jwk, signing_key
from tests.support.raw_end import RawEnd
from tests.support.tunnel_client import tunnel_client

pytestmark = pytest.mark.uvloop


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """A gateway in its place."""

    gateway: Gateway
    place: Place

    async def order(self, method: str, path: str, document: object = None) -> Answered:
        body = document if isinstance(document, bytes) else b"" if document is None else json.dumps(document).encode()
        return await ask(self.place.admin_socket, method, path, body)


@contextlib.asynccontextmanager
async def serving(folder: Path, control: FakeControl | None = None) -> AsyncIterator[Serving]:
    (folder / "tokens.pem").write_bytes(public_pem(signing_key()))
    (folder / "plan.json").write_bytes(b"not looked at")
    rows = [bind_shared("127.0.0.1", 0, 1)[0] for _ in range(2)]
    # The gateway closes what it inherits.
    proxy, tunnel = (tuple(bound.detach() for bound in row) for row in rows)
    place = Place(
        number=1,
        proxy=proxy,
        tunnel=tunnel,
        admin_socket=folder / "admin.sock",
        audit_lock=folder / "lock",
        settings_folder=folder,
        parent_addresses=(("127.0.0.1", 9900),),
    )
    document: dict[str, object] = {"audit": {"path": "off"}, "interception": {"ca_dir": "ca"}}
    if control is None:
        document |= {"plans": ["plan.json"], "tokens": {"public_key": "tokens.pem"}}
    else:
        settings = {"url": control.url, "token_file": str(control.token_file(folder)), "gateway_id": "gw_1"}
        document |= {"control": settings | {"state_dir": str(folder / "state")}}
    gateway = await start_gateway(load_config(document, {}, folder), place)
    try:
        yield Serving(gateway=gateway, place=place)
    finally:
        await gateway.close()


@pytest.fixture
async def one(tmp_path: Path) -> AsyncIterator[Serving]:
    async with serving(tmp_path) as one:
        yield one


async def test_it_accepts_when_it_is_told_to(one: Serving) -> None:
    with pytest.raises(ConnectionRefusedError):
        await RawEnd.dial(one.gateway.proxy.port)
    assert (await one.order("POST", "/internal/serve")).status == 204
    client = await RawEnd.dial(one.gateway.proxy.port)
    client.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert (await client.answer()).status == 200
    client.abort()


async def test_plans_come_and_go(one: Serving) -> None:
    plans = one.gateway.parts.plans
    assert len(plans) == 0  # files are the parent's to read
    assert (await one.order("PUT", "/internal/plans/sbx_one?change=1", plan([]))).status == 204
    assert plans.table("sbx_one") is not None
    assert (await one.order("POST", "/internal/plans-withheld", {"withheld": "yes"})).status == 204
    assert (plans.table("sbx_one"), len(plans)) == (None, 1)
    assert (await one.order("POST", "/internal/plans-withheld", {"withheld": "no"})).status == 204
    assert plans.table("sbx_one") is not None
    for _ in range(2):
        assert (await one.order("DELETE", "/internal/plans/sbx_one?change=2")).status == 204
    assert len(plans) == 0
    # The parent counts what all have; it would be counted once for each process.
    metrics = one.gateway.parts.metrics.render()
    assert b'sallyport_plan_apply_total{result="applied"} 0.0\n' in metrics
    assert b"sallyport_plans_active 0.0\n" in metrics


async def test_a_removal_ahead_of_its_turn_is_not_undone_by_what_stands_before_it(one: Serving) -> None:
    plans = one.gateway.parts.plans
    for change, document in ((1, plan([])), (3, plan([], revision=3))):
        assert (await one.order("PUT", f"/internal/plans/sbx_one?change={change}", document)).status == 204
    assert (await one.order("DELETE", "/internal/ahead/sbx_one?change=5")).status == 204
    assert len(plans) == 0
    assert (await one.order("PUT", "/internal/plans/sbx_one?change=4", plan([], revision=4))).status == 204
    assert len(plans) == 0
    assert (await one.order("DELETE", "/internal/plans/sbx_one?change=5")).status == 204
    # What comes back is not older than what was removed, whatever its revision.
    assert (await one.order("PUT", "/internal/plans/sbx_one?change=6", plan([]))).status == 204
    assert (await one.order("DELETE", "/internal/ahead/sbx_one?change=5")).status == 204
    assert len(plans) == 1


async def test_a_removal_overtakes_the_plan_that_is_being_compiled(
    one: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans, compiles, may_end = one.gateway.parts.plans, asyncio.Event(), threading.Event()
    prepare, loop = plans.prepare, asyncio.get_running_loop()

    def slowly(body: bytes) -> PreparedPlan:
        loop.call_soon_threadsafe(compiles.set)
        assert may_end.wait(20)
        return prepare(body)

    assert (await one.order("PUT", "/internal/plans/sbx_one?change=1", plan([]))).status == 204
    monkeypatch.setattr(plans, "prepare", slowly)
    async with asyncio.TaskGroup() as tasks:
        put = tasks.create_task(one.order("PUT", "/internal/plans/sbx_one?change=2", plan([], revision=2)))
        await compiles.wait()
        assert (await one.order("DELETE", "/internal/ahead/sbx_one?change=3")).status == 204
        assert len(plans) == 0
        may_end.set()
    assert put.result().status == 204
    assert len(plans) == 0


async def test_a_plan_ahead_of_its_turn_is_not_undone_by_what_stands_before_it(one: Serving) -> None:
    plans = one.gateway.parts.plans

    def revision() -> int:
        table = plans.table("sbx_one")
        return 0 if table is None else table.revision

    assert (await one.order("PUT", "/internal/plans/sbx_one?change=1", plan([]))).status == 204
    assert (await one.order("PUT", "/internal/ahead/sbx_one?change=4", plan([], revision=4))).status == 204
    assert revision() == 4
    for change in (2, 3, 4):
        order = await one.order("PUT", f"/internal/plans/sbx_one?change={change}", plan([], revision=change))
        assert (order.status, revision()) == (204, 4)
    assert (await one.order("PUT", "/internal/plans/sbx_one?change=5", plan([], revision=5))).status == 204
    assert (await one.order("PUT", "/internal/ahead/sbx_one?change=5", plan([], revision=5))).status == 204
    assert revision() == 5


@pytest.mark.parametrize(("first", "second"), [("ahead", "plans"), ("plans", "ahead")])
async def test_of_the_two_orders_of_a_plan_the_second_is_answered_when_it_is_in_force(
    one: Serving, monkeypatch: pytest.MonkeyPatch, first: str, second: str
) -> None:
    """Else what follows its turn would be undone by it, or a push be answered before the plan is there."""
    plans, compiles, may_end = one.gateway.parts.plans, asyncio.Event(), threading.Event()
    prepare, loop = plans.prepare, asyncio.get_running_loop()

    def slowly(body: bytes) -> PreparedPlan:
        loop.call_soon_threadsafe(compiles.set)
        assert may_end.wait(20)
        return prepare(body)

    assert (await one.order("PUT", "/internal/plans/sbx_one?change=1", plan([]))).status == 204
    monkeypatch.setattr(plans, "prepare", slowly)
    document = plan([], revision=2)
    async with asyncio.TaskGroup() as tasks:
        before = tasks.create_task(one.order("PUT", f"/internal/{first}/sbx_one?change=2", document))
        await compiles.wait()
        behind = tasks.create_task(one.order("PUT", f"/internal/{second}/sbx_one?change=2", document))
        assert await asyncio.wait([behind], timeout=0.1) == (set(), {behind})
        may_end.set()
    assert (before.result().status, behind.result().status) == (204, 204)
    table = plans.table("sbx_one")
    assert table is not None
    assert table.revision == 2


@pytest.mark.parametrize(
    ("method", "path", "document"),
    [
        ("PUT", "/internal/plans/sbx_one?change=1", b"{}"),
        ("PUT", "/internal/ahead/sbx_one?change=1", b"{}"),
        ("PUT", "/internal/plans/sbx_two?change=1", plan([])),
        ("PUT", "/internal/plans/sbx_one", plan([])),
        ("DELETE", "/internal/plans/sbx_one?change=-1", None),
        ("PUT", "/internal/keys", b"{}"),
        ("POST", "/internal/plans-withheld", {"withheld": "perhaps"}),
        ("POST", "/internal/superseded", {"epoch": 1}),
    ],
)
async def test_an_order_that_cannot_be_is_refused(one: Serving, method: str, path: str, document: object) -> None:
    assert (await one.order(method, path, document)).status >= 400


async def test_a_tunnel_is_reported_and_closed_when_it_is_outlived(one: Serving) -> None:
    await one.order("POST", "/internal/serve")
    stream, head = await open_answer(one.place.admin_socket, "GET", "/internal/reports")
    async with contextlib.aclosing(read_lines(stream, head, most_line_bytes=MAX_LINE_BYTES)) as lines:
        assert await anext(lines) == b""
        assert one.gateway.tunnel is not None
        token = signed_token("sallyport-tunnel")
        async with tunnel_client(one.gateway.parts.clock, one.gateway.tunnel.port, token) as tunnel:
            while not (line := await anext(lines)):
                pass  # one that says only that it is there, each second
            report = json.loads(line)
            epoch = report["epoch"]
            assert report == {"tunnel": "sbx_one", "epoch": epoch}
            await one.order("POST", "/internal/superseded", {"sandboxId": "sbx_one", "epoch": epoch - 1})
            assert await tunnel.ended_within_a_moment() is None
            await one.order("POST", "/internal/superseded", {"sandboxId": "sbx_one", "epoch": epoch})
            assert await tunnel.ended() == REPLACED
    stream.abort()


async def test_keys_come_from_the_parent_and_so_do_plans(tmp_path: Path) -> None:
    async with fake_control() as control, serving(tmp_path, control) as one:
        assert (await one.order("PUT", "/internal/keys", {"keys": [{**signing_jwk(), "use": "sig"}]})).status == 204
        wanted = one.gateway.parts.plans.want("sbx_one")
        assert wanted is not None
        assert (await one.order("POST", "/internal/plans/sbx_one/settled")).status == 204
        await wanted
        assert control.asked == []
        assert not (tmp_path / "state").exists()
