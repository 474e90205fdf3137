"""Opaque bytes both ways: ends, resets, slow sides, silence, and what an upgraded stream must not carry back (C3)."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import pytest

from gateway.passthrough import Passthrough
from gateway.relay import OpaqueRelay
from sallyport.net.splice import SPLICE_AFTER_BYTES
from tests.support.gateway_plans import plan, route
from tests.support.in_process import GatewayInProcess, in_process_gateway
from tests.support.passing_time import let_time_pass
from tests.support.plan_documents import rule_document
from tests.support.raw_end import RawEnd, RawOrigin, raw_origin
from tests.support.transports import End, tcp_pair
from tests.support.until import until

pytestmark = pytest.mark.uvloop

SECRET = "s3cr3t-of-the-route"
MIB = 1024 * 1024
UPGRADE = (b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Key: eA==")
# How much a passthrough has carried each way when something happens to it.
EARLY = pytest.mark.parametrize("early", [0, SPLICE_AFTER_BYTES], ids=["relayed", "spliced"])
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


@pytest.fixture
async def origin() -> AsyncIterator[RawOrigin]:
    async with raw_origin() as origin:
        yield origin


@pytest.fixture
async def gateway(tmp_path: Path, origin: RawOrigin) -> AsyncIterator[GatewayInProcess]:
    document = plan(
        [route("managed", ["api.test"], "con_one", allowCleartext=True)], [rule_document("open", "allow", "open.test")]
    )
    reached = {"api.test:80": origin.port, "open.test:443": origin.port, "open.test:80": origin.port}
    async with in_process_gateway(
        tmp_path, plan=document, credentials={"con_one": SECRET}, connect_to=reached
    ) as gateway:
        yield gateway


async def opaque(gateway: GatewayInProcess, origin: RawOrigin, early: int = 0) -> tuple[RawEnd, RawEnd]:
    """Both ends of a passthrough that has begun, and has carried so many bytes each way: enough, or none, to splice."""
    client = await gateway.open_tunnel("open.test:443")
    link = await origin.link()
    client.send(b"begun")
    assert await link.exactly(5) == b"begun"
    if early:
        for sender, receiver in ((client, link), (link, client)):
            sender.send(bytes(early))
            assert await receiver.exactly(early) == bytes(early)
        await until(lambda: len(gateway.parts.splices) == 2)
    return client, link


async def upgraded(gateway: GatewayInProcess, origin: RawOrigin, host: str = "api.test") -> tuple[RawEnd, RawEnd]:
    """Both ends of a stream after a 101."""
    client = await gateway.client()
    client.send(gateway.request(f"http://{host}/ws", *UPGRADE))
    link = await origin.link()
    await link.head()
    link.send(SWITCHED)
    assert (await client.head()).startswith(b"HTTP/1.1 101 ")
    return client, link


def relay_of(gateway: GatewayInProcess) -> OpaqueRelay:
    (stream,) = gateway.parts.streams.all()
    assert isinstance(stream, Passthrough)
    assert stream._relay is not None
    return stream._relay


# ---- what an upgraded stream carries


async def test_c3_the_secret_is_masked_after_a_101(gateway: GatewayInProcess, origin: RawOrigin) -> None:
    client, link = await upgraded(gateway, origin)
    frame = b"\x81\x1esaid: " + SECRET.encode() + b" over\x81\x01!"
    for byte in range(len(frame)):
        link.send(frame[byte : byte + 1])
        await link.flush()
    received = await client.exactly(len(frame))
    assert SECRET.encode() not in received
    assert received.startswith(b"\x81\x1esaid: ")
    assert received.endswith(b" over\x81\x01!")


async def test_c3_what_could_begin_a_secret_is_given_out_at_the_end(
    gateway: GatewayInProcess, origin: RawOrigin
) -> None:
    client, link = await upgraded(gateway, origin)
    tail = b"\x81\x7dtail:" + SECRET[:6].encode()
    link.send(tail)
    link.close()
    assert await client.rest() == tail


async def test_c3_a_message_that_ends_as_the_secret_begins_is_not_held_back(
    gateway: GatewayInProcess, origin: RawOrigin
) -> None:
    client, link = await upgraded(gateway, origin)
    for frame in (b"\x81\x06" + SECRET[:6].encode(), b"\x01\x06" + SECRET[:6].encode() + b"\x89\x01s"):
        link.send(frame)
        assert await client.exactly(len(frame)) == frame


async def test_c3_a_secret_across_two_fragments_is_masked(gateway: GatewayInProcess, origin: RawOrigin) -> None:
    client, link = await upgraded(gateway, origin)
    secret = SECRET.encode()
    message = b"\x01\x06" + secret[:6] + b"\x80" + bytes([len(secret) - 6]) + secret[6:]
    for byte in range(len(message)):
        link.send(message[byte : byte + 1])
        await link.flush()
    got = await client.exactly(len(message))
    assert (got[:2], got[8:10]) == (message[:2], message[8:10])
    assert len(set(got[2:8] + got[10:])) == 1


@pytest.mark.parametrize("data", [b"\x81\x85maskhello", b"\xc1\x01x", b"HTTP/1.1 200 OK\r\n\r\n", b"p"])
async def test_c3_what_is_no_frame_passes_and_is_searched_all_the_same(
    gateway: GatewayInProcess, origin: RawOrigin, data: bytes
) -> None:
    client, link = await upgraded(gateway, origin)
    link.send(data)
    assert await client.exactly(len(data)) == data
    link.send(b"<" + SECRET.encode() + b">")
    got = await client.exactly(len(SECRET) + 2)
    assert (got[:1], got[-1:], len(set(got[1:-1]))) == (b"<", b">", 1)


async def test_bytes_that_come_with_the_101_and_before_it_are_passed_on(
    gateway: GatewayInProcess, origin: RawOrigin
) -> None:
    client = await gateway.client()
    client.send(gateway.request("http://api.test/ws", *UPGRADE) + b"early")
    link = await origin.link()
    await link.head()
    link.send(SWITCHED + b"\x81\x02hi")
    await client.head()
    assert await client.exactly(4) == b"\x81\x02hi"
    assert await link.exactly(5) == b"early"


async def test_an_upgraded_stream_is_recorded_once_it_has_ended(gateway: GatewayInProcess, origin: RawOrigin) -> None:
    client, link = await upgraded(gateway, origin)
    client.send(b"12345")
    assert await link.exactly(5) == b"12345"
    link.send(b"\x81\x013")
    assert await client.exactly(3) == b"\x81\x013"
    assert gateway.audit.entries == []
    client.close()
    assert await link.rest() == b""
    link.close()
    (record,) = await gateway.audit.until(1)
    assert (record["status"], record["bytesUp"], record["bytesDown"]) == (101, 5, 3)
    await until(lambda: gateway.parts.streams.open == 0)
    assert gateway.parts.upstreams.state.open == 0


# ---- ends


@EARLY
async def test_a_half_close_of_the_sandbox_is_passed_on_and_the_other_way_stays_open(
    gateway: GatewayInProcess, origin: RawOrigin, early: int
) -> None:
    client, link = await opaque(gateway, origin, early)
    client.send(b"last words")
    client.end()
    assert await link.rest() == b"last words"
    link.send(b"answer")
    link.end()
    assert await client.rest() == b"answer"
    (record,) = await gateway.audit.until(1)
    assert (record["bytesUp"], record["bytesDown"]) == (15 + early, 6 + early)


@EARLY
async def test_a_half_close_of_the_upstream_is_passed_on_and_the_other_way_stays_open(
    gateway: GatewayInProcess, origin: RawOrigin, early: int
) -> None:
    client, link = await opaque(gateway, origin, early)
    link.send(b"bye")
    link.end()
    assert await client.rest() == b"bye"
    client.send(b"still here")
    client.end()
    assert await link.rest() == b"still here"
    await gateway.audit.until(1)


@EARLY
async def test_a_reset_of_either_side_ends_the_other(gateway: GatewayInProcess, origin: RawOrigin, early: int) -> None:
    for number in range(2):
        client, link = await opaque(gateway, origin, early)
        (link, client)[number].abort()
        await (client, link)[number].gone()
        await gateway.audit.until(number + 1)
    assert gateway.parts.streams.open == 0


def relay_between(
    gateway: GatewayInProcess, downstream: End, upstream: End, *, up: bytes = b"", down: bytes = b""
) -> tuple[OpaqueRelay, list[tuple[int, int]]]:
    """A relay of these two ends that has started, and the times it was told over."""
    ends: list[tuple[int, int]] = []
    relay = OpaqueRelay(
        gateway.parts,
        downstream.transport,
        upstream.transport,
        backlog=gateway.parts.backlogs.nobody,
        scrubber=None,
        on_end=lambda *moved: ends.append(moved),
    )
    relay.start(up=up, down=down)
    return relay, ends


@pytest.mark.parametrize("gone", ["sandbox", "upstream", "both"])
async def test_sides_that_are_gone_before_the_relay_starts_end_it_once(gateway: GatewayInProcess, gone: str) -> None:
    sandbox, downstream, upstream, server = End(), End(), End(), End()
    await tcp_pair(sandbox, downstream)
    await tcp_pair(upstream, server)
    if gone != "upstream":
        downstream.transport.close()
    if gone != "sandbox":
        upstream.transport.abort()
    _, ends = relay_between(gateway, downstream, upstream, up=b"up", down=b"down")
    await sandbox.until_event("lost")
    await server.until_event("lost")
    await until(lambda: bool(ends))
    await asyncio.sleep(0)
    assert ends == [(2, 4)]


# ---- slow sides


def transport_of(end: RawEnd) -> asyncio.Transport:
    return cast(asyncio.Transport, end.writer.transport)


@pytest.mark.parametrize("slow", ["sandbox", "upstream"])
async def test_a_slow_side_holds_the_other_back_and_nothing_is_lost(
    gateway: GatewayInProcess, origin: RawOrigin, slow: str
) -> None:
    client, link = await opaque(gateway, origin)
    reader, writer = (client, link) if slow == "sandbox" else (link, client)
    transport_of(reader).pause_reading()
    payload = bytes(range(256)) * (16 * MIB // 256)
    writer.send(payload)
    relay = relay_of(gateway)
    side = relay._up if slow == "sandbox" else relay._down
    await until(lambda: not side.other.transport.is_reading())
    assert side.transport.get_write_buffer_size() <= MIB
    transport_of(reader).resume_reading()
    assert await reader.exactly(len(payload)) == payload


async def test_a_transport_that_was_told_to_pause_before_the_relay_had_it_is_held_back_too(
    gateway: GatewayInProcess,
) -> None:
    sandbox, downstream, upstream, server = End(), End(), End(), End()
    await tcp_pair(sandbox, downstream)
    await tcp_pair(upstream, server)
    sandbox.transport.pause_reading()
    downstream.transport.write(bytes(8 * MIB))
    assert "pause" in downstream.events
    written = downstream.transport.get_write_buffer_size()
    relay, ends = relay_between(gateway, downstream, upstream)
    server.transport.write(bytes(16 * MIB))
    await until(lambda: not upstream.transport.is_reading())
    assert downstream.transport.get_write_buffer_size() <= written + MIB
    sandbox.transport.resume_reading()
    await sandbox.until(lambda end: len(end.received) == 24 * MIB)
    relay.abort()
    await until(lambda: len(ends) == 1)


# ---- silence and revocation


@EARLY
async def test_silence_ends_a_relay_and_bytes_put_its_end_off(
    gateway: GatewayInProcess, origin: RawOrigin, early: int
) -> None:
    client, link = await opaque(gateway, origin, early)
    idle = gateway.parts.timeouts.opaque_idle
    let_time_pass(gateway.parts.clock, idle - 60)
    link.send(b"x")
    assert await client.exactly(1) == b"x"
    let_time_pass(gateway.parts.clock, idle - 60)
    assert await client.is_quiet()
    let_time_pass(gateway.parts.clock, 61)
    assert await client.gone() == b""
    assert await link.gone() == b""
    await gateway.audit.until(1)


@pytest.mark.parametrize(
    ("kind", "name"), [("sandbox", "sbx_one"), ("connection", "con_one"), ("binding", "bnd_managed")]
)
async def test_a_revocation_ends_an_upgraded_stream_and_its_link(
    gateway: GatewayInProcess, origin: RawOrigin, kind: str, name: str
) -> None:
    client, link = await upgraded(gateway, origin)
    assert gateway.gateway.revoke(kind, name, gateway.parts.clock.wall + 60) == 1
    assert await client.gone() == b""
    assert await link.gone() == b""
    await gateway.audit.until(1)


@EARLY
async def test_a_revocation_ends_opaque_streams_of_its_sandbox_alone(
    gateway: GatewayInProcess, origin: RawOrigin, early: int
) -> None:
    client, link = await opaque(gateway, origin, early)
    until_at = gateway.parts.clock.wall + 60
    assert gateway.gateway.revoke("sandbox", "sbx_two", until_at) == 0
    assert gateway.gateway.revoke("connection", "con_one", until_at) == 0
    client.send(b"alive")
    assert await link.exactly(5) == b"alive"
    assert gateway.gateway.revoke("sandbox", "sbx_one", until_at) == 1
    assert await client.gone() == b""
    assert await link.gone() == b""


async def test_a_revocation_drops_what_waits_in_a_pipe(gateway: GatewayInProcess, origin: RawOrigin) -> None:
    client, link = await opaque(gateway, origin, SPLICE_AFTER_BYTES)
    before = gateway.parts.streams.open
    client.pause()
    link.send(bytes(64 * MIB))
    splice = relay_of(gateway)._down._splice
    assert splice is not None
    await until(lambda: splice.waiting > 0 and splice._is_writing)
    assert gateway.gateway.revoke("sandbox", "sbx_one", gateway.parts.clock.wall + 60) == before
    (record,) = await gateway.audit.until(1)
    assert (record["code"], record["bytesUp"]) == ("authority_withdrawn", 5 + SPLICE_AFTER_BYTES)
    assert len(gateway.parts.splices) == 0
    await link.gone()


async def test_what_waits_in_a_pipe_counts_in_its_sandbox_s_backlog(
    gateway: GatewayInProcess, origin: RawOrigin
) -> None:
    client, link = await opaque(gateway, origin, SPLICE_AFTER_BYTES)
    backlog = gateway.parts.backlogs.of("sbx_one")
    client.pause()
    link.send(16 * MIB * b"x")
    side = relay_of(gateway)._down
    splice = side._splice
    assert splice is not None
    await until(lambda: splice.waiting > 0 and splice._is_writing)
    assert backlog.held == splice.waiting
    assert not side.is_taken
    client.resume()
    assert await client.exactly(16 * MIB) == 16 * MIB * b"x"
    await until(lambda: backlog.held == 0 and side.is_taken)


@pytest.mark.parametrize("seconds", [0, 3600])
async def test_no_more_splices_than_there_may_be(tmp_path: Path, origin: RawOrigin, seconds: int) -> None:
    """Who is quiet makes room, and nobody loses a byte by it."""
    open_test = plan([], [rule_document("open", "allow", "open.test")])
    async with in_process_gateway(
        tmp_path,
        plan=open_test,
        connect_to={"open.test:443": origin.port},
        further={"limits": {"splices": 2}, "timeouts": {"opaque_idle": "1d"}},
    ) as gateway:
        first = await opaque(gateway, origin, SPLICE_AFTER_BYTES)
        relay = relay_of(gateway)
        let_time_pass(gateway.parts.clock, seconds)
        second = await opaque(gateway, origin, SPLICE_AFTER_BYTES)
        await until(lambda: (relay._up._splice is None, relay._down._splice is None) == (seconds > 0, seconds > 0))
        assert len(gateway.parts.splices) == 2
        for sender, receiver in (first, first[::-1], second, second[::-1]):
            sender.send(bytes(MIB))
            assert await receiver.exactly(MIB) == bytes(MIB)


async def test_what_comes_by_a_tunnel_is_never_spliced(gateway: GatewayInProcess, origin: RawOrigin) -> None:
    tunnel = await gateway.tunnel()
    client = tunnel.ask(b"CONNECT open.test:443 HTTP/1.1\r\nHost: open.test:443\r\n\r\n", "passthrough; revision=1")
    link = await origin.link()
    assert (await client.head()).startswith(b"HTTP/1.1 200 ")
    for sender, receiver in ((client, link), (link, client)):
        sender.send(bytes(2 * MIB))
        assert await receiver.exactly(2 * MIB) == bytes(2 * MIB)
    assert len(gateway.parts.splices) == 0


async def test_of_an_upgraded_stream_what_is_searched_for_the_secret_is_never_spliced(
    gateway: GatewayInProcess, origin: RawOrigin
) -> None:
    client, link = await upgraded(gateway, origin)
    frame = b"\x82\x7f" + MIB.to_bytes(8) + bytes(MIB - len(SECRET)) + SECRET.encode()
    for sender, receiver in ((client, link), (link, client)):
        for _ in range(2):
            sender.send(frame)
            got = await receiver.exactly(len(frame))
        assert (SECRET.encode() in got) == (receiver is link)
    assert len(gateway.parts.splices) == 1


async def test_a_relay_says_what_it_has_carried(gateway: GatewayInProcess, origin: RawOrigin) -> None:
    client, link = await opaque(gateway, origin)
    link.send(b"123")
    assert await client.exactly(3) == b"123"
    assert repr(relay_of(gateway)) == "<OpaqueRelay 5 bytes up, 3 down>"
