"""The life of a gateway: how it drains, what is taken from it meanwhile, how it ends."""

import asyncio
import contextlib
import json
import os
import socket
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import pytest

from gateway import running
from gateway.stream import ServedStream
from tests.support.figures import InTime
from tests.support.gateway_plans import plan, route
from tests.support.in_process import GatewayInProcess, in_process_gateway
from tests.support.plan_documents import rule_document
from tests.support.raw_end import RawAnswer, RawEnd, RawOrigin, raw_origin
from tests.support.tls_by_hand import TlsByHand, trusting

pytestmark = pytest.mark.uvloop

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
ROUTES = [route("managed", ["api.test"], "con_one", allowCleartext=True)]
RULES = [rule_document("open", "allow", "open.test")]
API = "http://api.test/"


@pytest.fixture
async def origin() -> AsyncIterator[RawOrigin]:
    async with raw_origin() as origin:
        yield origin


@pytest.fixture
async def gateway(
    tmp_path: Path, origin: RawOrigin, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[GatewayInProcess]:
    monkeypatch.setattr(running, "DRAIN_GRACE_SECONDS", 0.1)
    monkeypatch.setattr(running, "DRAIN_POLL_SECONDS", 0.005)
    async with in_process_gateway(
        tmp_path,
        plan=plan(ROUTES, RULES),
        credentials={"con_one": "s3cr3t-of-the-route"},
        connect_to={"api.test:80": origin.port, "api.test:443": origin.port, "open.test:443": origin.port},
        further={"timeouts": {"drain": "5s"}},
    ) as gateway:
        yield gateway


async def ask_admin(gateway: GatewayInProcess, method: str, path: str, body: bytes = b"") -> RawAnswer:
    end = await RawEnd.dial(gateway.gateway.admin_port)
    end.send(f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
    answer = await end.answer()
    end.writer.transport.abort()
    return answer


# ---- draining


async def test_readiness_says_draining_and_nothing_more_is_accepted(
    gateway: GatewayInProcess, origin: RawOrigin
) -> None:
    assert (await ask_admin(gateway, "GET", "/readyz")).status == 200
    client = await gateway.client()
    client.send(gateway.request(API))
    link = await origin.link()
    assert (await ask_admin(gateway, "POST", "/v1/drain")).status == 202
    answer = await ask_admin(gateway, "GET", "/readyz")
    assert (answer.status, json.loads(answer.body)["reasons"]) == (503, ["draining"])
    assert (await ask_admin(gateway, "GET", "/healthz")).status == 200
    with pytest.raises(ConnectionRefusedError):
        await gateway.client()
    link.send(OK)
    assert (await client.answer()).status == 200


async def test_an_exchange_in_flight_ends_and_says_that_it_was_the_last(
    gateway: GatewayInProcess, origin: RawOrigin
) -> None:
    client = await gateway.client()
    client.send(gateway.request(API))
    link = await origin.link()
    await link.head()
    gateway.gateway.begin_drain()
    await asyncio.sleep(0.15)  # longer than the grace of an idle stream
    link.send(OK)
    answer = await client.answer()
    assert (answer.body, answer.value("Connection")) == (b"ok", "close")
    assert await client.rest() == b""
    await gateway.gateway.wait_ended()


async def test_an_idle_stream_may_send_what_was_on_its_way_and_is_closed_in_order(
    gateway: GatewayInProcess, origin: RawOrigin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "DRAIN_GRACE_SECONDS", 1.0)
    idle, late = await gateway.open_tunnel("api.test:443"), await gateway.client()
    tls = TlsByHand(in_process_trust(gateway), "api.test")
    idle.send(tls.hello())
    await tls.finish(idle)
    gateway.gateway.begin_drain()
    await asyncio.sleep(0.02)
    late.send(gateway.request(API))
    link = await origin.link()
    await link.head()
    link.send(OK)
    answer = await late.answer()
    assert (answer.status, answer.value("Connection")) == (200, "close")
    await tls.closed(idle)
    idle.close()
    await gateway.gateway.wait_ended()


def shrink_buffers(transport: asyncio.BaseTransport) -> None:
    """Leave the kernel hardly any room, so that bytes wait in the transport."""
    with socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno())) as same:
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            same.setsockopt(socket.SOL_SOCKET, option, 4096)


async def test_an_answer_that_still_has_to_arrive_is_not_cut(gateway: GatewayInProcess, origin: RawOrigin) -> None:
    client = await gateway.client()
    reading = cast(asyncio.Transport, client.writer.transport)
    reading.pause_reading()
    shrink_buffers(reading)
    client.send(gateway.request(API))
    link = await origin.link()
    await link.head()
    (stream,) = gateway.parts.streams.all()
    assert isinstance(stream, ServedStream)
    shrink_buffers(stream.transport)
    body = bytes(range(256)) * 400
    link.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
    # The exchange is over once the gateway has all of the answer, however much of it the sandbox has yet to take.
    await gateway.audit.until(1)
    assert stream.transport.get_write_buffer_size() > 0
    gateway.gateway.begin_drain()
    await asyncio.sleep(0.15)
    reading.resume_reading()
    await client.head()
    assert await client.exactly(len(body)) == body


async def test_a_handshake_that_began_before_the_drain_has_its_moment(
    gateway: GatewayInProcess, origin: RawOrigin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "DRAIN_GRACE_SECONDS", 1.0)
    client = await gateway.open_tunnel("api.test:443")
    gateway.gateway.begin_drain()
    await asyncio.sleep(1.1)  # longer than the grace of an idle stream
    context = in_process_trust(gateway)
    await client.start_tls(context, "api.test")
    await asyncio.sleep(0.05)
    client.send(b"TRACE / HTTP/1.1\r\nHost: api.test\r\n\r\n")
    answer = await client.answer()
    assert (answer.status, answer.value("Connection")) == (405, "close")


async def test_the_deadline_cuts_what_is_left(
    tmp_path: Path, origin: RawOrigin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "DRAIN_POLL_SECONDS", 0.005)
    async with in_process_gateway(
        tmp_path,
        plan=plan(ROUTES, RULES),
        credentials={"con_one": "s3cr3t-of-the-route"},
        connect_to={"api.test:80": origin.port, "open.test:443": origin.port},
        further={"timeouts": {"drain": "50ms"}},
    ) as gateway:
        waiting, opaque = await gateway.client(), await gateway.open_tunnel("open.test:443")
        await origin.link()
        waiting.send(gateway.request(API))
        link = await origin.link()
        gateway.gateway.begin_drain()
        gateway.gateway.begin_drain()
        await gateway.gateway.wait_ended()
        assert await waiting.gone() == b""
        assert await opaque.gone() == b""
        await link.gone()
        assert {record["host"] for record in await gateway.audit.until(2)} == {"api.test", "open.test"}
        assert gateway.parts.streams.open == 0


async def test_t5_a_drain_under_load_loses_no_request(
    gateway: GatewayInProcess, origin: RawOrigin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "DRAIN_GRACE_SECONDS", 5.0)  # a late loop keeps requests on their way

    async def serve() -> None:
        while True:
            link = await origin._waiting.get()
            gateway.parts.tasks.spawn(answer_all(link), name="origin link")

    async def answer_all(link: RawEnd) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while await link.head():
                link.send(OK)

    async def send_all(client: RawEnd) -> None:
        for number in range(1_000_000):
            client.send(gateway.request(API))
            answer = await client.answer()
            assert answer.body == b"ok"
            if answer.values("Connection"):
                return
            if number == 0:
                await under_load.wait()
        raise AssertionError("never told to end")

    under_load = asyncio.Barrier(10 + 1)

    async with asyncio.TaskGroup() as load:
        serving = load.create_task(serve())
        sending = [load.create_task(send_all(await gateway.client())) for _ in range(10)]
        await under_load.wait()
        await asyncio.sleep(0.1)
        gateway.gateway.begin_drain()
        await asyncio.wait(sending)
        serving.cancel()
    await gateway.gateway.wait_ended()


def in_process_trust(gateway: GatewayInProcess) -> ssl.SSLContext:
    return trusting(gateway.parts.authorities.authority("sbx_one", gateway.parts.clock.wall).certificate_pem)


# ---- while it runs


async def test_t2_a_plan_counts_from_the_next_request_of_an_open_stream(
    gateway: GatewayInProcess, origin: RawOrigin
) -> None:
    client = await gateway.client()
    client.send(gateway.request(API))
    link = await origin.link()
    await link.head()
    denied = plan(ROUTES, [rule_document("gone", "deny", "api.test", methods=["GET"])], revision=2)
    assert (await ask_admin(gateway, "PUT", "/v1/sandboxes/sbx_one/plan", denied)).status == 200
    link.send(OK)
    assert (await client.answer()).status == 200
    client.send(gateway.request(API))
    answer = await client.answer()
    assert (answer.status, json.loads(answer.body)["egressRuleId"]) == (403, "gone")
    assert [record["planRevision"] for record in await gateway.audit.until(2)] == [1, 2]


@pytest.mark.parametrize("kind", ["jti", "sid", "sandbox", "connection", "binding"])
async def test_a_revocation_ends_an_event_stream_and_its_link_at_once(
    gateway: GatewayInProcess, origin: RawOrigin, kind: str, in_time: InTime
) -> None:
    claims = gateway.parts.tokens.verify(gateway.token, gateway.parts.clock.wall)
    name = {
        "jti": claims.token_id,
        "sid": claims.lineage,
        "sandbox": claims.sandbox_id,
        "connection": "con_one",
        "binding": "bnd_managed",
    }[kind]
    client = await gateway.client()
    client.send(gateway.request(API))
    link = await origin.link()
    await link.head()
    link.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nping\r\n")
    await client.until(b"ping\r\n")
    order = json.dumps({"kind": kind, "id": name, "until": int(gateway.parts.clock.wall) + 3600}).encode()
    began = time.perf_counter()
    answer = await ask_admin(gateway, "POST", "/v1/tokens/revoke", order)
    assert json.loads(answer.body) == {"streamsEnded": 1}
    # Before the order is answered: no timer is waited for.
    assert gateway.parts.streams.open == 0
    assert await client.gone() == b""
    assert await link.gone() == b""
    in_time(f"from the revocation of a {kind} to the end of its streams", time.perf_counter() - began, 1)
    again = await gateway.client()
    again.send(gateway.request(API))
    assert (await again.answer()).status == (502 if kind in ("connection", "binding") else 407)


async def test_a_revocation_of_another_leaves_a_stream_alone(gateway: GatewayInProcess, origin: RawOrigin) -> None:
    client = await gateway.client()
    client.send(gateway.request(API))
    link = await origin.link()
    await link.head()
    for kind in ("jti", "sid", "sandbox", "connection", "binding"):
        assert gateway.gateway.revoke(kind, "another", gateway.parts.clock.wall + 60) == 0
    link.send(OK)
    assert (await client.answer()).status == 200


@pytest.mark.parametrize(("kind", "name"), [("connection", "con_one"), ("binding", "bnd_managed")])
async def test_c8_a_revocation_of_one_organization_leaves_the_other_s_stream_and_link(
    gateway: GatewayInProcess, origin: RawOrigin, kind: str, name: str
) -> None:
    wall = gateway.parts.clock.wall
    client = await gateway.client()
    client.send(gateway.request(API))
    link = await origin.link()
    await link.head()
    assert gateway.gateway.revoke(kind, name, wall + 60, "org_two") == 0
    link.send(OK)
    assert (await client.answer()).status == 200
    assert gateway.gateway.revoke(kind, name, wall + 60, "org_two") == 0
    client.send(gateway.request(API))
    await link.head()  # by the link that was idle meanwhile
    assert gateway.gateway.revoke(kind, name, wall + 60, "org_one") == 1
    assert await client.gone() == b""


async def test_what_is_revoked_is_looked_for_among_its_own_kind(gateway: GatewayInProcess, origin: RawOrigin) -> None:
    """Ids of different kinds may be spelled alike."""
    wall = gateway.parts.clock.wall
    client = await gateway.client()
    client.send(gateway.request(API))
    link = await origin.link()
    await link.head()
    for kind in ("jti", "sid", "sandbox"):
        for name in ("bnd_managed", "con_one"):
            assert gateway.gateway.revoke(kind, name, wall + 60) == 0
    assert gateway.gateway.revoke("connection", "sbx_one", wall + 60) == 0
    link.send(OK)
    assert (await client.answer()).status == 200
    assert gateway.gateway.revoke("sandbox", "con_one", wall + 60) == 0
    assert gateway.parts.upstreams.state.idle == 1


async def test_closing_at_once_ends_everything(gateway: GatewayInProcess, origin: RawOrigin) -> None:
    client, opaque = await gateway.client(), await gateway.open_tunnel("open.test:443")
    client.send(gateway.request(API))
    links = [await origin.link(), await origin.link()]
    await gateway.gateway.close()
    for end in (client, opaque, *links):
        await end.gone()
    assert gateway.parts.streams.open == 0
    assert len(gateway.parts.tasks) == 0
