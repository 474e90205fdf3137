"""Upstream links: who may share one, how many there are, who waits, and what never becomes one (C12, A4, S11)."""

import asyncio
import contextlib
import dataclasses
import datetime
import gc
import os
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from gateway.build import codec_kind
from gateway.core.route_table import RouteUpstream, make_upstream
from gateway.memory import MemoryWatch
from gateway.serve import Exchange
from gateway.stream import ServedStream
from gateway.upstream import CLOSE_SECONDS, UpstreamError, UpstreamLink
from sallyport.destination import Destination
from sallyport.net import bulk_turns
from sallyport.net.bulk_turns import TURN_READS, BulkTurns
from sallyport.net.dial import Dialer
from sallyport.net.interception import _server_context
from sallyport.plan.codec import seal
from sallyport.problem import Code
from tests.support import in_process
from tests.support.gateway_plans import SANDBOX, plan, route
from tests.support.in_process import GatewayInProcess, in_process_gateway, origin_context, proxy_token
from tests.support.passing_time import let_time_pass
from tests.support.plan_documents import plan_document, rule_document
from tests.support.raw_end import RawEnd, RawOrigin, raw_origin
from tests.support.spent_turns import SpentTurns
from tests.support.transports import TlsTrust
from tests.support.until import until

pytestmark = pytest.mark.uvloop

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
ROUTES = [route("managed", ["api.test"], "con_one", allowCleartext=True)]
RULES = [rule_document("open", "allow", "open.test")]
PLAN = plan(ROUTES, RULES)
API, OPEN = "http://api.test/", "http://open.test/"


@pytest.fixture
async def origin() -> AsyncIterator[RawOrigin]:
    async with raw_origin() as origin:
        yield origin


@pytest.fixture
async def gateway(tmp_path: Path, origin: RawOrigin) -> AsyncIterator[GatewayInProcess]:
    async with started(tmp_path, origin.port) as gateway:
        yield gateway


def started(folder: Path, port: int, **further: Mapping[str, object]) -> AbstractAsyncContextManager[GatewayInProcess]:
    return in_process_gateway(
        folder,
        plan=PLAN,
        credentials={"con_one": "s3cr3t-of-the-route"},
        connect_to={f"{host}:{there}": port for host in ("api.test", "open.test") for there in (80, 443)},
        further=further,
    )


async def ask(gateway: GatewayInProcess, url: str) -> RawEnd:
    client = await gateway.client()
    client.send(gateway.request(url))
    return client


async def complete(gateway: GatewayInProcess, origin: RawOrigin, url: str, link: RawEnd | None = None) -> RawEnd:
    """One exchange: over this link where one is expected to be used again, else over a new one. Returns the link."""
    client = await ask(gateway, url)
    used = link or await origin.link()
    await used.head()
    used.send(OK)
    assert (await client.answer()).status == 200
    client.close()
    return used


async def status(gateway: GatewayInProcess, url: str) -> tuple[int, str]:
    answer = await (await ask(gateway, url)).answer()
    return answer.status, answer.value("X-Sallyport-Error")


# ---- sharing


async def test_a_link_is_used_again(gateway: GatewayInProcess, origin: RawOrigin) -> None:
    link = await complete(gateway, origin, API)
    for _ in range(3):
        await complete(gateway, origin, API, link)
    assert len(origin.ends) == 1
    assert gateway.metric("sallyport_upstream_link_reuse_total") == 3
    assert [record["linkReused"] for record in gateway.audit.entries] == [False, True, True, True]


async def test_c12_a_forwarded_request_never_uses_a_link_that_carried_a_credential(
    gateway: GatewayInProcess, origin: RawOrigin
) -> None:
    both = plan_document(
        [
            route(
                "managed",
                [],
                "con_one",
                allowCleartext=True,
                match={"hosts": ["api.test"], "pathPrefixes": ["/v1"]},
            )
        ],
        [rule_document("rest", "allow", "api.test")],
        default="deny",
        revision=2,
    )
    gateway.parts.plans.apply(seal(both))
    await complete(gateway, origin, "http://api.test/v1")
    await complete(gateway, origin, "http://api.test/v2")
    assert len(origin.ends) == 2


async def test_c12_sandboxes_share_links_of_a_connection_and_no_others(
    gateway: GatewayInProcess, origin: RawOrigin
) -> None:
    for sandbox, organization in (("sbx_two", "org_one"), ("sbx_three", "org_two")):
        document = plan_document(ROUTES, RULES, default="deny", sandboxId=sandbox, organizationId=organization)
        gateway.parts.plans.apply(seal(document))
    links: dict[str, list[RawEnd]] = {}
    for sandbox, organization in (("sbx_one", "org_one"), ("sbx_two", "org_one"), ("sbx_three", "org_two")):
        gateway.token = proxy_token(sandbox, organization_id=organization)
        shared = links["sbx_one"][0] if sandbox == "sbx_two" else None
        links[sandbox] = [await complete(gateway, origin, API, shared), await complete(gateway, origin, OPEN)]
    assert len(origin.ends) == 5


# ---- how many, and who waits


def has_tasks(gateway: GatewayInProcess, count: int) -> bool:
    return len(gateway.parts.tasks) == count


async def test_waiters_are_served_in_order_by_the_link_that_becomes_free(tmp_path: Path, origin: RawOrigin) -> None:
    async with started(tmp_path, origin.port, limits={"links_per_key": 1, "idle_links_per_key": 1}) as gateway:
        clients = [await ask(gateway, API + "0")]
        link = await origin.link()
        assert b"GET /0 " in await link.head()
        for number in (1, 2, 3):
            clients.append(await ask(gateway, API + str(number)))
            await until(partial(has_tasks, gateway, number))
        for number, client in enumerate(clients):
            link.send(OK)
            assert (await client.answer()).status == 200
            if number < 3:
                assert f"GET /{number + 1} ".encode() in await link.head()
    assert len(origin.ends) == 1


async def test_a_waiter_dials_when_the_link_it_waits_for_is_lost(tmp_path: Path, origin: RawOrigin) -> None:
    async with started(tmp_path, origin.port, limits={"links_per_key": 1, "idle_links_per_key": 1}) as gateway:
        first = await ask(gateway, API)
        link = await origin.link()
        await link.head()
        second = await ask(gateway, API)
        await until(lambda: len(gateway.parts.tasks) == 1)
        link.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
        assert (await first.answer()).status == 200
        another = await origin.link()
        await another.head()
        another.send(OK)
        assert (await second.answer()).status == 200


async def test_an_owner_s_idle_link_makes_room_for_another_and_a_busy_one_does_not(
    tmp_path: Path, origin: RawOrigin
) -> None:
    other = "http://open.test:443/"
    async with started(tmp_path, origin.port, limits={"links_per_owner": 1}) as gateway:
        link = await complete(gateway, origin, OPEN)
        await ask(gateway, other)
        assert await link.gone() == b""
        busy = await origin.link()
        await busy.head()
        assert gateway.parts.upstreams.state.open == 1
        assert await status(gateway, OPEN) == (503, "overloaded")
        # What shares a connection is an owner of its own.
        await complete(gateway, origin, API)
    assert len(origin.ends) == 3


async def test_of_links_that_sandboxes_share_one_holds_no_more_than_it_leaves(
    tmp_path: Path, origin: RawOrigin
) -> None:
    """Of six three are held, a fourth request waits, the neighbour is served meanwhile; then the fourth is too."""
    async with started(tmp_path, origin.port, limits={"links_per_key": 6, "idle_links_per_key": 6}) as gateway:
        gateway.parts.plans.apply(seal(plan_document(ROUTES, RULES, default="deny", sandboxId="sbx_two")))
        clients, links = [], []
        for number in range(3):
            clients.append(await ask(gateway, API + str(number)))
            links.append(await origin.link())
            await links[-1].head()
        waiting = await ask(gateway, API + "waits")
        await until(partial(has_tasks, gateway, 1))
        gateway.token = proxy_token("sbx_two")
        shared = await complete(gateway, origin, API)
        # Its link is idle now, and still not for who has its share.
        assert len(gateway.parts.tasks) == 1
        await complete(gateway, origin, API, shared)
        links[1].send(OK)
        assert (await clients[1].answer()).status == 200
        assert b"GET /waits " in await links[1].head()
        links[1].send(OK)
        assert (await waiting.answer()).status == 200
    assert len(origin.ends) == 4


async def test_a_second_try_where_every_place_is_an_idle_link_s_takes_that_of_one(
    tmp_path: Path, origin: RawOrigin
) -> None:
    async with started(tmp_path, origin.port, limits={"links_per_key": 1, "idle_links_per_key": 1}) as gateway:
        pool, upstream = gateway.parts.upstreams, plain_upstream()
        idle = await pool.open(upstream, SANDBOX)
        pool.release(idle)
        fresh = await pool.open(upstream, SANDBOX)
        assert idle.is_lost
        assert (fresh.is_lost, pool.state.open) == (False, 1)
        fresh.drop()


@pytest.fixture(params=["each read a turn", "what takes long a turn"])
def turn_reads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many reads fit into a turn; where they are many, a moment counts as so many."""
    if request.param == "each read a turn":
        return 1
    if codec_kind() != "pure":
        pytest.skip("compiled code has its constants in it")
    monkeypatch.setattr(bulk_turns, "READ_SECONDS", 1e-9)
    return 1000


async def test_bulk_that_is_taken_in_turns_is_whole_both_ways_and_its_link_is_used_again(
    gateway: GatewayInProcess, origin: RawOrigin, turn_reads: int
) -> None:
    loop = asyncio.get_running_loop()
    held: set[type] = set()

    def next_turn(call: Callable[[], None]) -> None:
        held.update(map(type, turns._late))
        call()

    turns = BulkTurns(lambda call: loop.call_soon(next_turn, call), turn_reads=turn_reads)
    gateway.parts.upstreams.turns = turns
    bulk = bytes(range(256)) * 32 * 1024
    post = gateway.request(API).replace(b"GET", b"POST", 1).replace(b"\r\n\r\n", b"\r\nContent-Length: %d\r\n\r\n")
    client = await gateway.client()
    client.send(post % len(bulk) + bulk)
    link = await origin.link()
    await link.head()
    assert await link.exactly(len(bulk)) == bulk
    link.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(bulk) + bulk)
    assert (await client.answer()).body == bulk
    assert held == {ServedStream, UpstreamLink}
    await complete(gateway, origin, API, link)
    client.send(gateway.request(API))
    await link.head()
    link.send(OK)
    assert (await client.answer()).status == 200


def spent_turns(gateway: GatewayInProcess) -> SpentTurns:
    """Give a gateway turns that a test spends."""
    turns = SpentTurns()
    gateway.parts.upstreams.turns = turns.turns
    return turns


LONG = b"X-Long: " + b"x" * 2000
BODY = bytes(range(250)) * 20


def backlog(gateway: GatewayInProcess) -> int:
    """What waits of the sandbox, for its peers or for a turn of the loop."""
    return gateway.parts.backlogs.of(SANDBOX).held


def post(gateway: GatewayInProcess, size: int) -> bytes:
    return gateway.request(API, b"Content-Length: %d" % size, method="POST")


@pytest.mark.parametrize("is_in_pieces", [False, True], ids=["long", "its-end"])
async def test_t6_a_head_that_arrives_when_a_turn_is_spent_waits_for_a_later_one(
    gateway: GatewayInProcess, origin: RawOrigin, is_in_pieces: bool
) -> None:
    """Short pieces at the end of a long head too: with the last of them all of it is read."""
    loop = spent_turns(gateway)
    client = await gateway.client()
    head = gateway.request(API, LONG)
    if is_in_pieces:
        client.send(head[:-2])
        await until(lambda: any(stream.held_bytes > 2000 for stream in gateway.parts.streams.all()))
    loop.spend()
    client.send(head[-2:] if is_in_pieces else head)
    await until(lambda: loop.turns.waiting == 1)
    assert not origin.ends
    loop.pass_on()
    link = await origin.link()
    assert LONG in await link.head()
    link.send(OK)
    assert (await client.answer()).status == 200


async def test_t6_a_body_that_arrives_when_a_turn_is_spent_waits_for_a_later_one(
    gateway: GatewayInProcess, origin: RawOrigin
) -> None:
    loop = spent_turns(gateway)
    client = await gateway.client()
    client.send(post(gateway, len(BODY)))
    link = await origin.link()
    await link.head()
    loop.spend()
    client.send(BODY)
    await until(lambda: loop.turns.waiting == 1)
    assert backlog(gateway) == len(BODY)
    loop.pass_on()
    assert await link.exactly(len(BODY)) == BODY
    assert backlog(gateway) == 0
    link.send(OK)
    assert (await client.answer()).status == 200
    client.send(gateway.request(API))
    await link.head()
    link.send(OK)
    assert (await client.answer()).status == 200


@pytest.mark.parametrize("is_whole", [True, False])
async def test_t6_a_body_that_came_with_its_head_waits_where_a_turn_is_spent(
    gateway: GatewayInProcess, origin: RawOrigin, monkeypatch: pytest.MonkeyPatch, is_whole: bool
) -> None:
    """A hundred dials may be over in one turn, each of a body that came before; the stream's end is behind it."""
    loop = spent_turns(gateway)
    dial = Dialer.dial

    async def spend(*given: Any) -> Any:  # noqa: ANN401  as dial() is called and returns
        made = await dial(*given)
        loop.spend()
        return made

    monkeypatch.setattr(Dialer, "dial", spend)
    client = await gateway.client()
    client.send(post(gateway, len(BODY)) + (BODY if is_whole else BODY[:-1]))
    client.writer.write_eof()
    link = await origin.link()
    await link.head()
    await until(lambda: loop.turns.waiting == 1)
    (stream,) = gateway.parts.streams.all()
    assert stream.held_bytes >= len(BODY) - 1
    loop.pass_on()
    if is_whole:
        assert await link.exactly(len(BODY)) == BODY
        link.send(OK)
        assert (await client.answer()).status == 200
    else:
        assert await client.gone() == b""
    await until(lambda: not gateway.parts.streams.all())


async def test_t6_an_answer_that_arrives_when_a_turn_is_spent_waits_for_a_later_one(
    gateway: GatewayInProcess, origin: RawOrigin
) -> None:
    loop = spent_turns(gateway)
    client = await ask(gateway, API)
    link = await origin.link()
    await link.head()
    loop.spend()
    link.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY)
    await until(lambda: loop.turns.waiting == 1)
    assert gateway.parts.upstreams.state.idle == 0
    assert backlog(gateway) > len(BODY)
    loop.pass_on()
    assert (await client.answer()).body == BODY
    assert backlog(gateway) == 0
    await complete(gateway, origin, API, link)


async def test_t6_an_answer_before_the_end_of_a_body_that_waits_for_its_turn_is_the_last_of_its_stream(
    gateway: GatewayInProcess, origin: RawOrigin
) -> None:
    loop = spent_turns(gateway)
    client = await gateway.client()
    client.send(post(gateway, len(BODY)))
    link = await origin.link()
    await link.head()
    loop.spend()
    client.send(BODY + gateway.request(API))
    await until(lambda: loop.turns.waiting == 1)
    link.send(OK)
    assert (await client.answer()).status == 200
    loop.pass_on()
    client.close()
    await until(lambda: gateway.parts.upstreams.state.open == 0)
    assert len(origin.ends) == 1


SOCKET = (b"Connection: Upgrade", b"Upgrade: websocket")
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


async def test_t6_a_stream_that_is_given_on_waits_for_no_turn(gateway: GatewayInProcess, origin: RawOrigin) -> None:
    """It would have the transport read when that turn came, whatever holds it by then."""
    loop = spent_turns(gateway)
    client = await gateway.client()
    loop.turns.reads = float(TURN_READS)  # full, and not spent: what is taken is held behind it
    client.send(gateway.request(OPEN, *SOCKET, LONG))
    link = await origin.link()
    await link.head()
    assert loop.turns.waiting == 1
    link.send(SWITCHED + b"down")
    assert (await client.head()).startswith(b"HTTP/1.1 101 ")
    assert await client.exactly(4) == b"down"
    assert loop.turns.waiting == 0
    client.send(b"up")
    assert await link.exactly(2) == b"up"


async def test_t6_a_101_that_was_late_leaves_its_transport_to_who_has_it(
    gateway: GatewayInProcess, origin: RawOrigin
) -> None:
    """The sandbox takes nothing of what came behind it, so no more is read."""
    loop = spent_turns(gateway)
    client = await gateway.client()
    client.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.send(gateway.request(OPEN, *SOCKET))
    link = await origin.link()
    await link.head()
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]
    (used,) = (held for held in gc.get_objects() if isinstance(held, UpstreamLink) and held.user is not None)
    loop.spend()
    used.data_received(SWITCHED + bytes(8 * 1024 * 1024))
    loop.pass_on()
    assert used.is_lost
    assert not used.transport.is_reading()
    client.writer.transport.abort()


@pytest.mark.parametrize("gone", ["sandbox", "upstream"])
async def test_t6_who_is_gone_when_its_turn_comes_gets_nothing(
    gateway: GatewayInProcess, origin: RawOrigin, gone: str
) -> None:
    loop = spent_turns(gateway)
    client = await ask(gateway, API)
    link = await origin.link()
    await link.head()
    loop.spend()
    link.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY)
    await until(lambda: loop.turns.waiting == 1)
    if gone == "sandbox":
        (stream,) = gateway.parts.streams.all()
        stream.abort()
        await until(lambda: gateway.parts.upstreams.state.open == 0)
    else:
        (used,) = loop.turns._late
        assert isinstance(used, UpstreamLink)
        used.transport.abort()
        assert (await client.answer()).status == 502
    assert (loop.turns.waiting, backlog(gateway)) == (0, 0)
    loop.pass_on()
    await complete(gateway, origin, API)


async def test_who_waits_too_long_is_told_that_the_gateway_is_overloaded(tmp_path: Path, origin: RawOrigin) -> None:
    one = {"links_per_key": 1, "idle_links_per_key": 1}
    async with started(tmp_path, origin.port, limits=one, timeouts={"connect": "1s"}) as gateway:
        await ask(gateway, API)
        link = await origin.link()
        assert await status(gateway, API) == (503, "overloaded")
        await link.head()
    assert len(origin.ends) == 1


async def test_a_waiter_that_was_cancelled_does_not_keep_the_place_it_was_given(
    tmp_path: Path, origin: RawOrigin
) -> None:
    async with started(tmp_path, origin.port, limits={"links_per_key": 1, "idle_links_per_key": 1}) as gateway:
        pool, upstream = gateway.parts.upstreams, plain_upstream()
        link = await pool.open(upstream, SANDBOX)
        waiting = gateway.parts.tasks.spawn(pool.open(upstream, SANDBOX), name="waiter")
        await asyncio.sleep(0)
        # In one turn of the loop: the waiter's sandbox has gone, and so has the link. The waiter is in the queue yet.
        waiting.cancel()
        link.connection_lost(None)
        await asyncio.wait([waiting])
        link.transport.abort()
        await until(lambda: pool.state.open == 0)
        assert not (await pool.open(upstream, SANDBOX)).is_lost


async def test_a_waiter_that_was_cancelled_passes_on_the_link_it_was_given(tmp_path: Path, origin: RawOrigin) -> None:
    async with started(tmp_path, origin.port, limits={"links_per_key": 1, "idle_links_per_key": 1}) as gateway:
        pool, upstream = gateway.parts.upstreams, plain_upstream()
        link = await pool.open(upstream, SANDBOX)
        first = gateway.parts.tasks.spawn(pool.open(upstream, SANDBOX), name="first")
        second = gateway.parts.tasks.spawn(pool.open(upstream, SANDBOX), name="second")
        await asyncio.sleep(0)
        pool.release(link)
        first.cancel()
        assert await second is link


async def test_s10_a_link_goes_by_any_number_of_waiters_that_were_cancelled(tmp_path: Path, origin: RawOrigin) -> None:
    """A tunnel with a thousand requests in line has ended, and a neighbour's answer in the same turn."""
    async with started(tmp_path, origin.port, limits={"links_per_key": 1, "idle_links_per_key": 1}) as gateway:
        pool, upstream = gateway.parts.upstreams, plain_upstream()
        link = await pool.open(upstream, SANDBOX)
        waiting = [gateway.parts.tasks.spawn(pool.open(upstream, SANDBOX), name="waiter") for _ in range(3000)]
        await asyncio.sleep(0)
        for each in waiting:
            each.cancel()
        pool.release(link)
        assert (pool.state.open, pool.state.idle) == (1, 1)
        await asyncio.wait(waiting)
        assert pool.checkout(upstream.pool_key, SANDBOX) is link


async def test_a_dial_that_is_given_up_gives_its_place_back(gateway: GatewayInProcess) -> None:
    async with raw_origin() as silent:
        gateway.parts.dialer._connect_to[("api.test", 443)] = ("127.0.0.1", silent.port)
        dialling = gateway.parts.tasks.spawn(
            gateway.parts.upstreams.open(plain_upstream("https"), SANDBOX), name="dial"
        )
        await silent.link()
        assert gateway.parts.upstreams.state.open == 1
        dialling.cancel()
        await asyncio.wait([dialling])
        await until(lambda: gateway.parts.upstreams.state.open == 0)


async def test_a_sandbox_that_goes_as_the_handshake_ends_costs_no_place_twice(
    gateway: GatewayInProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = gateway.parts.upstreams
    connection_made = UpstreamLink.connection_made

    def note(link: UpstreamLink, transport: asyncio.BaseTransport) -> None:
        connection_made(link, transport)
        dialling.cancel()

    async with raw_origin(origin_context("api.test")) as served:
        gateway.parts.dialer._connect_to[("api.test", 443)] = ("127.0.0.1", served.port)
        kept = await pool.open(plain_upstream("https"), SANDBOX)
        monkeypatch.setattr(UpstreamLink, "connection_made", note)
        dialling = gateway.parts.tasks.spawn(pool.open(plain_upstream("https"), SANDBOX), name="dial")
        await asyncio.wait([dialling])
        assert dialling.cancelled()
        await served.link()
        await (await served.link()).gone()
        assert pool.state.open == 1
        kept.drop()
        await until(lambda: pool.state.open == 0)


async def test_a_link_that_is_lost_as_the_handshake_ends_is_given_to_nobody(
    gateway: GatewayInProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would tell no exchange of its end, and who has it would wait for an answer until that is late."""
    pool = gateway.parts.upstreams
    connection_made = UpstreamLink.connection_made

    def lose(link: UpstreamLink, transport: asyncio.BaseTransport) -> None:
        connection_made(link, transport)
        link.transport.abort()

    async with raw_origin(origin_context("api.test")) as served:
        gateway.parts.dialer._connect_to[("api.test", 443)] = ("127.0.0.1", served.port)
        client = await gateway.intercepted("api.test:443")
        monkeypatch.setattr(UpstreamLink, "connection_made", lose)
        client.send(b"GET / HTTP/1.1\r\nHost: api.test\r\n\r\n")
        answer = await client.answer()
        assert (answer.status, answer.value("X-Sallyport-Error")) == (502, "upstream_unreachable")
        await until(lambda: pool.state.open == 0)


def plain_upstream(scheme: str = "http") -> RouteUpstream:
    return make_upstream(Destination(scheme, "api.test", 443 if scheme == "https" else 80), "org_one", ("sandbox", "s"))


# ---- idle links


async def test_an_idle_link_is_closed_in_time(gateway: GatewayInProcess, origin: RawOrigin) -> None:
    link = await complete(gateway, origin, API)
    let_time_pass(gateway.parts.clock, gateway.parts.timeouts.pool_idle - 1)
    assert gateway.metric("sallyport_upstream_links_idle") == 1
    let_time_pass(gateway.parts.clock, 2)
    assert await link.rest() == b""
    await until(lambda: gateway.parts.upstreams.state.open == 0)


async def test_s11_bytes_on_an_idle_link_spoil_it(gateway: GatewayInProcess, origin: RawOrigin) -> None:
    link = await complete(gateway, origin, API)
    link.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
    await link.gone()
    await until(lambda: gateway.parts.upstreams.state.open == 0)
    await complete(gateway, origin, API)
    assert len(origin.ends) == 2


async def test_s11_bytes_behind_an_answer_spoil_its_link(gateway: GatewayInProcess, origin: RawOrigin) -> None:
    client = await ask(gateway, API)
    link = await origin.link()
    await link.head()
    link.send(OK + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
    assert (await client.answer()).body == b"ok"
    client.send(gateway.request(API))
    another = await origin.link()
    await another.head()
    another.send(OK)
    assert (await client.answer()).body == b"ok"


async def test_an_idle_link_that_the_upstream_closed_is_not_used(gateway: GatewayInProcess, origin: RawOrigin) -> None:
    link = await complete(gateway, origin, API)
    link.close()
    await until(lambda: gateway.parts.upstreams.state.open == 0)
    await complete(gateway, origin, API)
    assert len(origin.ends) == 2


@pytest.mark.parametrize(
    ("kind", "name", "url"),
    [
        ("connection", "con_one", API),
        ("binding", "bnd_managed", API),
        ("sandbox", "sbx_one", OPEN),
    ],
)
async def test_a_revocation_closes_idle_links(
    gateway: GatewayInProcess, origin: RawOrigin, kind: str, name: str, url: str
) -> None:
    link, other = await complete(gateway, origin, url), await complete(gateway, origin, OPEN if url == API else API)
    gateway.gateway.revoke(kind, "another", gateway.parts.clock.wall + 60)
    assert gateway.parts.upstreams.state.idle == 2
    gateway.gateway.revoke(kind, name, gateway.parts.clock.wall + 60)
    assert await link.gone() == b""
    assert await other.is_quiet()
    assert gateway.parts.upstreams.state.idle == 1


async def test_no_link_is_kept_where_the_operator_wants_none(tmp_path: Path, origin: RawOrigin) -> None:
    async with started(tmp_path, origin.port, limits={"idle_links_per_key": 0}) as gateway:
        link = await complete(gateway, origin, API)
        assert await link.gone() == b""
        await complete(gateway, origin, API)
    assert len(origin.ends) == 2


# ---- upstreams that take nothing

# More than the kernel finds room for once it is full, and less than makes a transport pause its protocol.
UNSENT = bytes(32 * 1024)


async def fill(link: UpstreamLink) -> None:
    """Have the kernel take all it will toward an upstream that reads nothing, past the link's transport."""
    with socket.socket(fileno=os.dup(link.transport.get_extra_info("socket").fileno())) as way:
        way.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        refused = 0
        while refused < 10:
            try:
                way.send(bytes(4096))
                refused = 0
            except BlockingIOError:
                refused += 1
                await asyncio.sleep(0.01)  # its peer tells of room up to 40 ms later


class StuckUpstream:
    """An upstream that reads nothing, once TLS has begun where it speaks it."""

    def __init__(self, listening: socket.socket, scheme: str) -> None:
        self._socket, _ = listening.accept()
        self._outgoing, incoming = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls: ssl.SSLObject | None = None
        if scheme == "https":
            self._tls = origin_context("api.test").wrap_bio(incoming, self._outgoing, server_side=True)
            while self._is_handshaking(self._tls):
                incoming.write(self._socket.recv(65536))

    def _is_handshaking(self, tls: ssl.SSLObject) -> bool:
        try:
            tls.do_handshake()
        except ssl.SSLWantReadError:
            return True
        finally:
            self._socket.sendall(self._outgoing.read())
        return False

    def end(self) -> None:
        """End this side in good order."""
        if self._tls is None:
            self._socket.shutdown(socket.SHUT_WR)
        else:
            with contextlib.suppress(ssl.SSLWantReadError):
                self._tls.unwrap()
            self._socket.sendall(self._outgoing.read())

    def close(self) -> None:
        self._socket.close()


@contextlib.asynccontextmanager
async def stuck_link(
    gateway: GatewayInProcess, scheme: str = "http"
) -> AsyncIterator[tuple[UpstreamLink, StuckUpstream]]:
    """Dial a link to an upstream that reads nothing, and toward which the kernel takes no more."""
    upstream = plain_upstream(scheme)
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        there = (upstream.destination.host, upstream.destination.port)
        gateway.parts.dialer._connect_to[there] = ("127.0.0.1", listening.getsockname()[1])
        dialling = gateway.parts.tasks.spawn(gateway.parts.upstreams.open(upstream, SANDBOX), name="dial")
        with contextlib.closing(await asyncio.to_thread(StuckUpstream, listening, scheme)) as accepted:
            link = await dialling
            await fill(link)
            yield link, accepted


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("end", ["idle for too long", "the upstream ends", "enough are idle"])
async def test_t6_a_link_whose_upstream_takes_nothing_gives_its_place_back(
    gateway: GatewayInProcess, end: str, scheme: str
) -> None:
    parts = gateway.parts
    async with stuck_link(gateway, scheme) as (link, upstream):
        if scheme == "http":
            link.transport.write(UNSENT)
        if end == "enough are idle":
            parts.upstreams.state._idle_per_key = 0
        parts.upstreams.release(link)
        if end == "idle for too long":
            let_time_pass(parts.clock, parts.timeouts.pool_idle + 1)
        elif end == "the upstream ends":
            link.hold_reading("test")
            upstream.end()
            await fill(link)  # what it sends also says that it has room for some bytes more
            link.resume_reading("test")
        if scheme == "https":
            # In good order, as nothing was unsent: but the upstream does not take that it is over.
            await until(link.transport.is_closing)
            let_time_pass(parts.clock, CLOSE_SECONDS + 1)
        else:
            parts.clock.close()  # it does not wait for a deadline
        await until(lambda: parts.upstreams.state.open == 0)


@pytest.mark.parametrize("is_closing", [False, True], ids=["open", "closing"])
async def test_t6_who_asks_for_a_link_is_not_charged_with_one_whose_upstream_takes_nothing(
    gateway: GatewayInProcess, is_closing: bool
) -> None:
    pool = gateway.parts.upstreams
    async with stuck_link(gateway) as (link, _):
        pool.release(link)
        link.transport.write(UNSENT)
        if is_closing:
            link.transport.close()
        assert pool.checkout(link.key, SANDBOX) is None
        assert (pool.state.open, pool.state.idle) == (0, 0)


async def test_t6_who_waits_for_a_link_dials_where_it_is_given_one_whose_upstream_takes_nothing(
    tmp_path: Path, origin: RawOrigin
) -> None:
    async with started(tmp_path, origin.port, limits={"links_per_key": 1, "idle_links_per_key": 1}) as gateway:
        pool = gateway.parts.upstreams
        async with stuck_link(gateway) as (link, _):
            waiting = gateway.parts.tasks.spawn(pool.open(plain_upstream(), SANDBOX), name="waits")
            await asyncio.sleep(0)
            pool.release(link)
            link.transport.write(UNSENT)
            assert await waiting is not link
            assert pool.state.open == 1


async def test_t6_an_idle_link_that_has_more_to_write_than_its_upstream_takes_is_spoilt(
    gateway: GatewayInProcess,
) -> None:
    """As by TLS, which answers some of what its peer sends by itself."""
    pool = gateway.parts.upstreams
    async with stuck_link(gateway) as (link, _):
        pool.release(link)
        link.transport.write(bytes(gateway.parts.limits.write_buffer_bytes + 1))
        await until(lambda: pool.state.open == 0)


@pytest.mark.parametrize("framing", [b"Content-Length: 2", b"X-Until: close"])
async def test_t6_a_link_that_answers_before_it_has_taken_the_request_carries_no_other(
    gateway: GatewayInProcess, origin: RawOrigin, framing: bytes
) -> None:
    client = await gateway.client()
    client.send(gateway.request(API, b"Transfer-Encoding: chunked", method="POST"))
    end = await origin.link()
    await end.head()
    end.pause()
    (stream,) = gateway.parts.streams.all()
    assert isinstance(stream, ServedStream)
    exchange = stream.exchange
    assert isinstance(exchange, Exchange)
    assert exchange.link is not None
    transport, refused = exchange.link.transport, 0
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    while refused < 10:
        refused = refused + 1 if transport.get_write_buffer_size() else 0
        if not refused:
            client.send(b"8000\r\n%b\r\n" % bytes(0x8000))
        await asyncio.sleep(0.01)
    client.send(b"0\r\n\r\n")
    await until(lambda: exchange.is_request_done)
    assert transport.get_write_buffer_size() < gateway.parts.limits.write_buffer_bytes
    end.send(b"HTTP/1.1 200 OK\r\n%b\r\n\r\nok" % framing)
    if framing.startswith(b"X-"):
        end.end()
    assert (await client.answer()).body == b"ok"
    assert gateway.parts.upstreams.state.idle == 0
    await until(lambda: gateway.parts.upstreams.state.open == 0)


# ---- TLS to the upstream


def expired() -> ssl.SSLContext:
    authority = in_process._origin_trust()[0]._store.authority("origins", in_process._now())
    return _server_context(authority.issue("api.test", in_process._now() - 400 * 86_400), "api.test")


@pytest.mark.parametrize("fault", ["another name", "unknown authority", "expired"])
async def test_a4_an_upstream_that_cannot_be_verified_is_never_spoken_to(
    gateway: GatewayInProcess, tmp_path: Path, fault: str
) -> None:
    context = {
        "another name": lambda: origin_context("other.test"),
        "unknown authority": lambda: TlsTrust(tmp_path / "strange").server,
        "expired": expired,
    }[fault]()
    context.sni_callback = None
    async with raw_origin(context) as served:
        gateway.parts.dialer._connect_to[("api.test", 443)] = ("127.0.0.1", served.port)
        client = await gateway.intercepted("api.test:443")
        client.send(b"GET / HTTP/1.1\r\nHost: api.test\r\n\r\n")
        answer = await client.answer()
        assert (answer.status, answer.value("X-Sallyport-Error")) == (502, "upstream_unreachable")
        assert b"certificate" not in answer.body.lower()
        for end in served.ends:
            assert await end.gone() == b""
    assert gateway.parts.upstreams.state.open == 0


async def test_a_handshake_that_does_not_end_is_a_504(tmp_path: Path, origin: RawOrigin) -> None:
    async with started(tmp_path, origin.port, timeouts={"handshake": "100ms"}) as gateway:
        with pytest.raises(UpstreamError) as caught:
            await gateway.parts.upstreams.open(plain_upstream("https"), SANDBOX)
        assert caught.value.code is Code.UPSTREAM_TIMEOUT
        assert gateway.parts.upstreams.state.open == 0


async def offered_again(gateway: GatewayInProcess, context: ssl.SSLContext) -> list[bool]:
    """Tell for two links, one after the other, to an origin of this context, whether each resumed a session."""
    async with raw_origin(context) as served:
        gateway.parts.dialer._connect_to[("api.test", 443)] = ("127.0.0.1", served.port)
        client = await gateway.intercepted("api.test:443")
        reused = []
        for _ in range(2):
            client.send(b"GET / HTTP/1.1\r\nHost: api.test\r\n\r\n")
            link = await served.link()
            await link.head()
            reused.append(link.writer.get_extra_info("ssl_object").session_reused)
            link.send(OK)
            assert (await client.answer()).status == 200
            await until(lambda: gateway.parts.upstreams.state.idle == 1)
            link.close()
            await until(lambda: gateway.parts.upstreams.state.open == 0)
    return reused


async def test_a_tls_session_is_offered_again_once(gateway: GatewayInProcess) -> None:
    assert await offered_again(gateway, origin_context("api.test")) == [False, True]


async def test_t5_a_gateway_that_holds_too_much_keeps_no_tls_session(gateway: GatewayInProcess) -> None:
    """Whatever its peer has made of a ticket."""
    upstreams = gateway.parts.upstreams
    await offered_again(gateway, origin_context("api.test"))
    assert len(upstreams._sessions) == 1
    watch = MemoryWatch(gateway.parts, 1024)
    watch.look(1025)
    assert len(upstreams._sessions) == 0
    watch.look(0)
    watch.close()


def certificate(size: int) -> bytes:
    """Make a certificate that proves nothing, of so many bytes and some more as DER."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "junk")])
    filler = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), bytes(size))
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now, now)
        .add_extension(filler, critical=False)
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM)


@pytest.mark.parametrize(
    ("junk", "is_kept"),
    [([1] * 7, True), ([1] * 8, False), ([12_000], True), ([16_000], False), ([30_000, 30_000], False)],
)
async def test_t5_a_tls_session_of_an_upstream_that_sends_certificates_without_need_is_not_kept(
    gateway: GatewayInProcess, junk: list[int], is_kept: bool
) -> None:
    """However many there are, and however large; the answers come all the same."""
    authority = in_process._origin_trust()[0]._store.authority("origins", in_process._now())
    leaf = authority.issue("api.test", in_process._now())
    chain = leaf.certificate_pem + b"".join(certificate(size) for size in junk)
    context = _server_context(dataclasses.replace(leaf, certificate_pem=chain), "api.test")
    assert await offered_again(gateway, context) == [False, is_kept]
    assert len(gateway.parts.upstreams._sessions) == is_kept


# ---- through the operator's proxy


async def test_every_link_goes_through_the_proxy_by_connect(tmp_path: Path, origin: RawOrigin) -> None:
    async with raw_origin() as proxy:
        upstream: dict[str, object] = {"proxy": f"http://127.0.0.1:{proxy.port}", "connect_to": {}}
        async with started(tmp_path, origin.port, upstream=upstream) as gateway:
            client = await ask(gateway, API)
            link = await proxy.link()
            assert await link.head() == b"CONNECT api.test:80 HTTP/1.1\r\nHost: api.test:80\r\nSallyport-Hop: 1\r\n\r\n"
            link.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
            assert (await link.head()).startswith(b"GET / HTTP/1.1\r\nHost: api.test\r\n")
            link.send(OK)
            assert (await client.answer()).body == b"ok"
            refused = await ask(gateway, OPEN)
            another = await proxy.link()
            await another.head()
            another.send(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            answer = await refused.answer()
            assert (answer.status, answer.value("X-Sallyport-Error")) == (502, "upstream_unreachable")
    assert origin.ends == []


async def test_t3_the_proxy_of_the_gateway_s_own_environment_is_ignored(
    tmp_path: Path, origin: RawOrigin, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with raw_origin() as trap:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{trap.port}")
        async with started(tmp_path, origin.port) as gateway:
            await complete(gateway, origin, API)
    assert trap.ends == []


async def test_a_link_says_what_it_is(gateway: GatewayInProcess, origin: RawOrigin) -> None:
    await complete(gateway, origin, API)
    pool = gateway.parts.upstreams
    (link,) = pool.state.idle_links(lambda _: True)
    assert repr(link) == "<UpstreamLink http://api.test:80 idle, used 1 times>"
    assert repr(pool.state) == "<PoolState 1 open, 1 idle, 1 keys>"
