"""What the operator allows one sandbox, through the explicit listener and through a tunnel alike."""

import asyncio
import json
import resource
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.passthrough import Passthrough
from gateway.stream import TURN_REQUESTS, ServedStream
from sallyport.net.tunnel_stream import TunnelStream
from sallyport.net.websocket_upgrade import upgrade_request
from sallyport.plan.codec import seal
from sallyport.wire import websocket
from sallyport.wire.yamux.frames import DATA, RST, SYN, WINDOW_UPDATE, frame_header
from tests.support.gateway_plans import SANDBOX, plan
from tests.support.in_process import GatewayInProcess, Settings, proxy_token, signed_token
from tests.support.passing_time import let_time_pass
from tests.support.plan_documents import plan_document
from tests.support.raw_end import RawAnswer, RawEnd, raw_origin
from tests.support.refusing_port import refusing_port
from tests.support.stage import HOST, OK, Stage, one_route, stage
from tests.support.tunnel_client import OpeningRefused, TunnelClient
from tests.support.two_ways import WAYS, Ask, way_into
from tests.support.until import until

pytestmark = pytest.mark.uvloop

both_ways = pytest.mark.parametrize("way", WAYS)
GET = b"GET http://%b/v1/x HTTP/1.1\r\nHost: %b\r\n\r\n" % (HOST.encode(), HOST.encode())
OPEN = b"GET http://open.test/x HTTP/1.1\r\nHost: open.test\r\n\r\n"
CONNECT = b"CONNECT api.test:443 HTTP/1.1\r\nHost: api.test:443\r\n\r\n"
DEAD = b"CONNECT dead.test:443 HTTP/1.1\r\nHost: dead.test:443\r\n\r\n"
INSIDE = b"GET /v1/x HTTP/1.1\r\nHost: api.test\r\n\r\n"
CLOSING_OK = OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
PLAN_OF_TWO = seal({**plan_document([one_route()], [], default="passthrough"), "sandboxId": "sbx_two"})
REFUSED = b"GET http://api.test/%00 HTTP/1.1\r\nHost: api.test\r\n\r\n"


def told(answer: RawAnswer) -> tuple[int, str, str]:
    """Status, code and the setting that the hint names."""
    problem: dict[str, Any] = json.loads(answer.body)
    return answer.status, problem["code"], problem["hint"].split()[-1]


async def served(scene: Stage, end: RawEnd) -> int:
    link = await scene.origin.link()
    await link.head()
    link.send(CLOSING_OK)
    return (await end.answer()).status


@both_ways
async def test_s10_a_sandbox_s_requests_in_a_minute(tmp_path: Path, way: str) -> None:
    """Routes, rules, refusals and CONNECTs alike; another sandbox has its own, and a plan push gives nothing back."""
    limits = {"limits": {"sandbox_requests_per_minute": 60, "sandbox_burst": 4}}
    async with stage(tmp_path, further=limits) as scene:
        gateway = scene.gateway
        gateway.parts.clock._timer.cancel()  # or a second that all of this takes would give one back
        gateway.parts.plans.apply(PLAN_OF_TWO)
        ask = await way_into(gateway, way)
        assert await served(scene, await ask(GET)) == 200
        assert await served(scene, await ask(OPEN)) == 200
        assert (await (await ask(REFUSED)).answer()).status == 400
        assert (await (await ask(CONNECT, "intercepted; revision=1")).head()).startswith(b"HTTP/1.1 200 ")
        expected = (429, "rate_limited", "limits.sandbox_requests_per_minute")
        for revision, head, declared in ((2, GET, "plain"), (3, CONNECT, "intercepted"), (4, OPEN, "plain")):
            gateway.parts.plans.apply(plan([one_route()], default="passthrough", revision=revision))
            answer = await (await ask(head, f"{declared}; revision={revision}")).answer()
            assert (told(answer), answer.value("Retry-After")) == (expected, "1")
        neighbour = await way_into(gateway, way, "sbx_two")
        assert await served(scene, await neighbour(GET)) == 200


@both_ways
async def test_s10_a_sandbox_s_requests_at_once(tmp_path: Path, way: str) -> None:
    async with stage(tmp_path, further={"limits": {"sandbox_concurrent_requests": 1}}) as scene:
        ask = await way_into(scene.gateway, way)
        first = await ask(GET)
        link = await scene.origin.link()
        await link.head()
        answer = await (await ask(OPEN)).answer()
        assert told(answer) == (429, "rate_limited", "limits.sandbox_concurrent_requests")
        assert answer.value("Retry-After") == "1"
        # A push in between does not open a second place; the end of the first does.
        scene.gateway.parts.plans.apply(plan([one_route()], default="passthrough", revision=2))
        assert (await (await ask(GET)).answer()).status == 429
        link.send(OK)
        assert (await first.answer()).status == 200
        await scene.gateway.audit.until(3)
        assert await served(scene, await ask(OPEN)) == 200


async def sockets(scene: Stage, way: str, count: int) -> list[RawEnd]:
    """Open sockets that say nothing, at the listener of this way, and wait until the gateway has them all."""
    gateway = scene.gateway.gateway
    assert gateway.tunnel is not None
    port = gateway.proxy.port if way == "explicit" else gateway.tunnel.port
    return [await RawEnd.dial(port) for _ in range(count)]


FEW = {"limits": {"open_streams": 20, "streams_per_sandbox": 10, "anonymous_streams": 20}}


@pytest.mark.parametrize("flooded", WAYS)
@both_ways
async def test_s10_sockets_that_show_no_token_take_no_place_of_a_sandbox(
    tmp_path: Path, way: str, flooded: str
) -> None:
    async with stage(tmp_path, further=FEW) as scene:
        streams = scene.gateway.parts.streams
        open_before = await way_into(scene.gateway, way)
        assert await served(scene, await open_before(GET)) == 200
        silent = await sockets(scene, flooded, 25)
        # A new stream of what is open already, and one whose connection comes after all of them.
        assert await served(scene, await open_before(GET)) == 200
        comes_after = await way_into(scene.gateway, way)
        assert await served(scene, await comes_after(GET)) == 200
        assert streams.open - streams.admitted <= 20
        dropped = scene.gateway.metric("sallyport_anonymous_dropped_total")
        assert dropped >= 5
        for end in silent[: int(dropped)]:
            assert await end.gone() == b""
        assert await silent[-1].is_quiet()
        for end in silent:
            end.abort()


@pytest.mark.parametrize("flooded", WAYS)
@both_ways
async def test_s10_streams_too_many_of_one_sandbox_take_no_place_of_others(
    tmp_path: Path, way: str, flooded: str
) -> None:
    """They linger until their answers have been read, and one sandbox can open any number of them."""
    async with stage(tmp_path, further=FEW) as scene:
        streams = scene.gateway.parts.streams
        scene.gateway.parts.plans.apply(PLAN_OF_TWO)
        theirs, other = await way_into(scene.gateway, flooded), await way_into(scene.gateway, way, "sbx_two")
        held = []
        for _ in range(10):
            held.append(await theirs(OPEN))
            await (await scene.origin.link()).head()
        for _ in range(25):
            held.append(end := await theirs(OPEN))
            assert (await end.head()).startswith(b"HTTP/1.1 503 ")
        assert streams.admitted <= 12
        assert streams.open - streams.admitted <= 20
        assert await served(scene, await other(OPEN)) == 200
        for end in held:
            end.writer.transport.abort()


@pytest.fixture
def dead_port() -> Iterator[int]:
    with refusing_port() as port:
        yield port


@both_ways
async def test_s10_a_refused_connect_takes_a_place_of_its_sandbox_until_it_has_ended(
    tmp_path: Path, way: str, dead_port: int
) -> None:
    few = {"limits": {"streams_per_sandbox": 3}}
    async with stage(tmp_path, further=few) as scene:
        gateway = scene.gateway
        gateway.parts.dialer._connect_to[("dead.test", 443)] = ("127.0.0.1", dead_port)
        ask = await way_into(gateway, way)
        lingering = []
        for _ in range(3):
            lingering.append(end := await ask(DEAD, "passthrough; revision=1"))
            assert (await end.head()).startswith(b"HTTP/1.1 502 ")
        before = gateway.parts.streams.of_sandboxes
        answer = await (await ask(OPEN)).answer()
        assert (before, answer.status) == (3, 503)
        assert json.loads(answer.body)["detail"] == "the sandbox has as many streams as it may"
        for end in lingering:
            end.writer.transport.abort()
        await until(lambda: gateway.parts.streams.of_sandboxes <= 1)
        assert await served(scene, await ask(OPEN)) == 200


@both_ways
async def test_s10_tunnels_that_replace_one_another_take_no_place_of_others(tmp_path: Path, way: str) -> None:
    """Each lingers until its sandboxd has closed it too, and one sandbox can open any number of them."""
    async with stage(tmp_path, further=FEW) as scene:
        gateway = scene.gateway
        streams = gateway.parts.streams
        gateway.parts.plans.apply(PLAN_OF_TWO)
        other_before = await way_into(gateway, way, "sbx_two")
        request = upgrade_request("gateway.test", token=signed_token("sallyport-tunnel"))[0]
        tunnels = []
        for _ in range(45):
            tunnels += await sockets(scene, "tunnel", 1)
            end = tunnels[-1]
            end.send(request)
            assert (await end.head()).startswith(b"HTTP/1.1 101 ")
        assert streams.admitted <= 2
        assert streams.open - streams.admitted <= 20
        assert await served(scene, await other_before(OPEN)) == 200
        other = await way_into(gateway, way, "sbx_two")
        assert await served(scene, await other(GET)) == 200
        assert not tunnels[-1].has_ended
        mine = await way_into(gateway, "tunnel")
        assert await served(scene, await mine(GET)) == 200
        for end in tunnels:
            end.abort()


async def test_s10_where_there_are_few_descriptors_sockets_without_a_token_have_a_quarter(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (400, hard))
    try:
        async with stage(tmp_path) as scene:
            silent = await sockets(scene, "explicit", 110)
            streams = scene.gateway.parts.streams
            await until(lambda: (streams.open, streams.dropped) == (100, 10))
            ask = await way_into(scene.gateway, "explicit")
            assert await served(scene, await ask(GET)) == 200
            for end in silent:
                end.abort()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("flooded", WAYS)
async def test_s10_who_is_slow_with_a_token_has_as_long_as_others_leave_room(tmp_path: Path, flooded: str) -> None:
    """Who was dropped has been answered nothing, and may come again."""
    async with stage(tmp_path, further=FEW) as scene:
        head = scene.gateway.request(f"http://{HOST}/v1/x")
        silent = await sockets(scene, flooded, 25)
        for newcomers, is_served in ((19, True), (20, False), (0, True)):
            slow = await scene.gateway.client()
            slow.send(head[:20])
            await until(lambda: any(getattr(stream, "_buffer", b"") for stream in scene.gateway.parts.streams.all()))
            silent += await sockets(scene, flooded, newcomers)
            if is_served:
                slow.send(head[20:])
                assert await served(scene, slow) == 200
            else:
                assert await slow.gone() == b""
        for end in silent:
            end.abort()


async def test_s10_streams_whose_token_is_taken_back_by_their_next_request_are_anonymous_too(tmp_path: Path) -> None:
    async with stage(tmp_path, further={"limits": {"anonymous_streams": 2}}) as scene:
        streams = scene.gateway.parts.streams
        ends = []
        for _ in range(4):
            ends.append(end := await scene.gateway.client())
            end.send(scene.gateway.request(f"http://{HOST}/%00"))
            await end.answer()
        assert (streams.admitted, streams.dropped) == (4, 0)
        for end in ends:
            end.send(b"GET http://open.test/ HTTP/1.1\r\nHost: open.test\r\n\r\n")
            await end.head()
        assert (streams.admitted, streams.dropped) == (0, 2)
        for end in ends:
            end.abort()


@both_ways
async def test_s10_sandboxes_still_have_a_limit_together(tmp_path: Path, way: str) -> None:
    limits = {"limits": {"open_streams": 3, "streams_per_sandbox": 3}}
    async with stage(tmp_path, further=limits) as scene:
        asks = [await way_into(scene.gateway, way, sandbox) for sandbox in ("sbx_one", "sbx_two")]
        held = [await asks[0](OPEN) for _ in range(3 if way == "explicit" else 1)]
        for _ in held:
            await (await scene.origin.link()).head()
        answer = await (await asks[1](OPEN)).answer()
        assert (answer.status, json.loads(answer.body)["detail"][:11]) == (503, "the gateway")
        # A tunnel is one of them; and where nothing is free it is told so.
        with pytest.raises(OpeningRefused) as caught:
            await scene.gateway.tunnel("sbx_two")
        assert (caught.value.answer.status, caught.value.answer.value("Retry-After")) == (503, "1")
        for end in held:
            end.writer.transport.abort()


@both_ways
async def test_a_route_s_limit_is_not_reset_by_a_push(tmp_path: Path, way: str) -> None:
    routes = [one_route(limits={"requestsPerMinute": 1})]
    async with stage(tmp_path, routes=routes) as scene:
        ask = await way_into(scene.gateway, way)
        assert await served(scene, await ask(GET)) == 200
        scene.gateway.parts.plans.apply(plan(routes, default="passthrough", revision=2))
        answer = await (await ask(GET)).answer()
        assert (answer.status, json.loads(answer.body)["egressRuleId"]) == (429, "r")
        assert "requestsPerMinute" in json.loads(answer.body)["hint"]
        assert 1 <= int(answer.value("Retry-After")) <= 60


@both_ways
@pytest.mark.parametrize(
    ("of_route", "setting"),
    [(None, "limits.request_body_bytes"), (4096, "limits.request_body_bytes"), (512, "maxRequestBodyBytes")],
)
async def test_s10_a_body_over_the_lower_limit_is_413(
    tmp_path: Path, way: str, of_route: int | None, setting: str
) -> None:
    limits = {} if of_route is None else {"limits": {"maxRequestBodyBytes": of_route}}
    lower = 1024 if of_route is None else min(of_route, 1024)
    async with stage(
        tmp_path, routes=[one_route(**limits)], further={"limits": {"request_body_bytes": "1KiB"}}
    ) as scene:
        ask = await way_into(scene.gateway, way)
        post = GET.replace(b"GET", b"POST", 1)
        answer = await (await ask(post.replace(b"\r\n\r\n", b"\r\nContent-Length: %d\r\n\r\n" % (lower + 1)))).answer()
        assert told(answer) == (413, "body_too_large", setting)
        assert answer.values("Retry-After") == []
        end = await ask(post.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n"))
        end.send(b"%x\r\n%b\r\n" % (lower, bytes(lower)))
        link = await scene.origin.link()
        await link.until(bytes(lower) + b"\r\n")
        end.send(b"1\r\n1\r\n0\r\n\r\n")
        assert told(await end.answer("POST")) == (413, "body_too_large", setting)
        assert b"0\r\n\r\n" not in await link.gone()


@both_ways
async def test_s10_a_body_of_a_request_that_is_only_forwarded_has_the_operator_s_limit(
    tmp_path: Path, way: str
) -> None:
    async with stage(tmp_path, further={"limits": {"request_body_bytes": "1KiB"}}) as scene:
        ask = await way_into(scene.gateway, way)
        head = OPEN.replace(b"GET", b"POST", 1).replace(b"\r\n\r\n", b"\r\nContent-Length: 1025\r\n\r\n")
        assert told(await (await ask(head)).answer()) == (413, "body_too_large", "limits.request_body_bytes")


async def test_a_sandbox_whose_destinations_take_nothing_holds_up_no_other(tmp_path: Path) -> None:
    """Each stream is within its window; the sum is over the sandbox's share of what the process holds."""
    limits = {"limits": {"tunnel_buffer_bytes": "4MiB", "sandbox_buffer_bytes": "1MiB", "write_buffer_bytes": "16KiB"}}
    async with stage(tmp_path, further=limits) as scene:
        gateway = scene.gateway
        gateway.parts.plans.apply(PLAN_OF_TWO)
        greedy, modest = await way_into(gateway, "tunnel"), await way_into(gateway, "tunnel", "sbx_two")
        post = GET.replace(b"GET", b"POST", 1).replace(b"\r\n\r\n", b"\r\nContent-Length: 50000000\r\n\r\n")
        stuck = []
        for _ in range(24):
            end = await greedy(post)
            link = await scene.origin.link()
            await link.head()
            link.pause()
            end.send(bytes(8 * 1024 * 1024))
            stuck.append(end)
        budget = gateway.parts.tunnel_buffers
        await until(lambda: budget.held > 512 * 1024)
        size = 2 * 1024 * 1024
        end = await modest(post.replace(b"50000000", b"%d" % size))
        link = await scene.origin.link()
        await link.head()
        end.send(bytes(size))
        assert await link.exactly(size) == bytes(size)
        link.send(OK)
        assert (await end.answer()).status == 200
        assert 512 * 1024 < budget.held <= 1.25 * 1024 * 1024
        for end in stuck:
            end.writer.transport.abort()
        await until(lambda: budget.held == 0)


async def test_t6_a_body_in_frames_of_two_bytes_is_held_for_about_what_it_counts(tmp_path: Path) -> None:
    """And reaches its upstream whole once that takes it."""
    async with stage(tmp_path, further={"limits": {"write_buffer_bytes": "16KiB"}}) as scene:
        client = await scene.gateway.tunnel()
        size = 240_000  # fits the window beside the head
        body = b"".join((number & 0xFFFF).to_bytes(2) for number in range(size // 2))
        end = client.ask(GET.replace(b"GET", b"POST", 1).replace(b"\r\n\r\n", b"\r\nContent-Length: %d\r\n\r\n" % size))
        link = await scene.origin.link()
        await link.head()
        link.pause()
        (stream,) = [each for each in scene.gateway.parts.streams.of_sandbox(SANDBOX) if isinstance(each, ServedStream)]
        tunnel_stream = stream.transport
        assert isinstance(tunnel_stream, TunnelStream)
        stream.hold_reading("test")
        header = frame_header(DATA, 0, tunnel_stream.mux.id, 2)
        for at in range(0, size, 8000):
            frames = b"".join(header + body[each : each + 2] for each in range(at, at + 8000, 2))
            client.tunnel.transport.write(websocket.message(websocket.BINARY, frames, b"mask"))
        budget = scene.gateway.parts.tunnel_buffers
        await until(lambda: budget.held == size)
        held = tunnel_stream._held
        assert held is not None
        assert sum(map(sys.getsizeof, held)) < 1.2 * size
        stream.resume_reading("test")
        link.resume()
        assert await link.exactly(size) == body
        link.send(OK)
        assert (await end.answer("POST")).status == 200
        assert budget.held == 0


async def pipelines_into(
    gateway: GatewayInProcess, way: str, sandbox_id: str, count: int
) -> list[Callable[[bytes, int], RawEnd]]:
    """Open so many ways to send one head many times over on a stream; nobody's show a token that nobody signed."""
    if way == "tunnel":
        client = await gateway.tunnel(sandbox_id)
        return [lambda head, times: client.ask(head * times)] * count
    token = proxy_token(sandbox_id)
    if way == "nobody":
        token = f"{token.rpartition('.')[0]}.{'A' * 86}"

    def opened(end: RawEnd) -> Callable[[bytes, int], RawEnd]:
        def send(head: bytes, times: int) -> RawEnd:
            end.send(head.replace(b"\r\n", f"\r\nProxy-Authorization: Bearer {token}\r\n".encode(), 1) * times)
            return end

        return send

    return [opened(await gateway.client()) for _ in range(count)]


@pytest.mark.parametrize("flood", [*WAYS, "nobody"])
@both_ways
async def test_t6_many_pipelines_of_refused_requests_leave_a_neighbour_its_turn(
    tmp_path: Path, way: str, flood: str
) -> None:
    """Streams of one sandbox serve no more in a turn of the loop than one of them, and sandboxes take turns."""
    async with stage(tmp_path) as scene:
        gateway, entries = scene.gateway, scene.gateway.audit.entries
        gateway.parts.plans.apply(PLAN_OF_TWO)
        count, pipelined = 100, 10 * TURN_REQUESTS
        (neighbour,) = await pipelines_into(gateway, way, "sbx_two", 1)
        theirs = [send(REFUSED, pipelined) for send in await pipelines_into(gateway, flood, SANDBOX, count)]
        await until(lambda: gateway.parts.pipelines.waiting >= count)
        began = len(entries)
        end = neighbour(REFUSED, 2 * TURN_REQUESTS)
        for _ in range(2 * TURN_REQUESTS):
            assert (await end.answer()).status == 400
        # A few turns of the loop. Behind all of the flood's streams its last would have come after two turns of each.
        answered = [entry["sandboxId"] for entry in entries[began:]]
        assert len(answered) < 20 * TURN_REQUESTS
        assert answered.count("sbx_two") == 2 * TURN_REQUESTS
        assert gateway.parts.pipelines.waiting >= count - 1
        assert {(await each.answer()).status for each in theirs} == {407 if flood == "nobody" else 400}


async def test_t6_what_costs_nothing_is_counted_over_all_tunnels_of_a_sandbox(tmp_path: Path) -> None:
    """Else tunnel after tunnel would begin anew. Another sandbox has its own."""
    async with stage(tmp_path) as scene:
        gateway = scene.gateway

        async def reset_on(client: TunnelClient, count: int) -> None:
            opened = b"".join(
                frame_header(DATA, SYN, 2 * number + 1, 0) + frame_header(WINDOW_UPDATE, RST, 2 * number + 1, 0)
                for number in range(count)
            )
            client.tunnel.transport.write(websocket.message(websocket.BINARY, opened, b"mask"))
            client.tunnel.send_control({"type": "token.request", "requestId": "behind them"})

        first = await gateway.tunnel()
        await reset_on(first, 2000)
        await first.message("token.error")
        second = await gateway.tunnel()
        assert await first.ended() == websocket.REPLACED
        await reset_on(second, 2000)
        assert await second.ended() == websocket.PROTOCOL
        other = await gateway.tunnel("sbx_two")
        await reset_on(other, 2000)
        await other.message("token.error")
        assert other.lost is None


BACKLOG: Settings = {"limits": {"sandbox_backlog_bytes": "1MiB", "write_buffer_bytes": "16KiB"}}
MIB = 1024 * 1024
# One read before its stream is paused, and what the last one brings.
READ_BYTES = 256 * 1024
# More than the kernel, or a tunnel's window, takes of a stream that nobody reads.
UNREAD_BYTES = MIB // 2
COUNT = 32


def stop_reading(end: RawEnd) -> None:
    """Read nothing for now; the kernel holds little of it, and a tunnel's stream no more than its window."""
    if isinstance(end.writer.transport, TunnelStream):
        end.writer.transport.pause_reading()
    else:
        end.pause()


def give_up(end: RawEnd) -> None:
    """Reset it."""
    if isinstance(end.writer.transport, TunnelStream):
        end.writer.transport.abort()
    else:
        end.abort()


def keep_little_in_the_kernel(scene: Stage) -> None:
    """Let the kernel take little of what the gateway writes, to its sandbox or for it."""
    for stream in scene.gateway.parts.streams.of_sandbox(SANDBOX):
        transports: list[asyncio.Transport | None] = []
        if isinstance(stream, ServedStream) and stream.exchange is not None:
            link = stream.exchange.link
            transports = [stream.transport, None if link is None else link.transport]
        elif isinstance(stream, Passthrough):
            transports = [stream._transport, stream._upstream]
        for transport in transports:
            plain_socket = None if transport is None else transport.get_extra_info("socket")
            if plain_socket is not None:
                plain_socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)


async def stuck_answers(scene: Stage, ask: Ask, count: int, size: int) -> list[tuple[RawEnd, RawEnd]]:
    """Have so many answers sent to a sandbox that reads none of them; each end with its link."""
    opened = []
    for _ in range(count):
        end = await ask(GET)
        stop_reading(end)
        link = await scene.origin.link()
        await link.head()
        keep_little_in_the_kernel(scene)
        link.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + bytes(size))
        opened.append((end, link))
    return opened


@both_ways
async def test_t6_answers_that_nobody_reads_are_bounded_for_a_sandbox_together(tmp_path: Path, way: str) -> None:
    """Above the limit nothing of it is read; the neighbour is; and whoever reads in the end gets all of it."""
    async with stage(tmp_path, further=BACKLOG) as scene:
        gateway = scene.gateway
        gateway.parts.plans.apply(PLAN_OF_TWO)
        ask, neighbour = await way_into(gateway, way), await way_into(gateway, way, "sbx_two")
        size = UNREAD_BYTES
        opened = await stuck_answers(scene, ask, COUNT, size)
        backlog = gateway.parts.backlogs.of(SANDBOX)
        await until(lambda: backlog.is_over)
        assert MIB * 7 // 8 < backlog.held <= MIB + 2 * READ_BYTES
        streams = [stream for stream in gateway.parts.streams.of_sandbox(SANDBOX) if stream.is_of_sandbox]
        assert sum(stream.held_bytes for stream in streams) <= MIB + 2 * READ_BYTES + COUNT * 16 * 1024
        # What comes later waits, its answer unread.
        late = await ask(GET)
        link = await scene.origin.link()
        await link.head()
        link.send(OK)
        assert await late.is_quiet()
        assert await served(scene, await neighbour(GET)) == 200
        for end, _ in opened:
            end.resume()
        for end, _ in opened:
            assert (await end.answer()).body == bytes(size)
        assert (await late.answer()).status == 200
        assert (backlog.held, backlog.is_over) == (0, False)


@both_ways
async def test_t6_what_comes_and_goes_while_a_sandbox_is_over_its_backlog_is_forgotten(
    tmp_path: Path, way: str
) -> None:
    """Requests that are begun and given up, again and again, leave nothing behind that waits for its turn."""
    async with stage(tmp_path, further=BACKLOG) as scene:
        ask = await way_into(scene.gateway, way)
        opened = await stuck_answers(scene, ask, COUNT, UNREAD_BYTES)
        backlog = scene.gateway.parts.backlogs.of(SANDBOX)
        await until(lambda: backlog.is_over)
        begun = scene.gateway.parts.streams.of_sandboxes
        assert scene.gateway.metric("sallyport_backlogged_sandboxes") == 1
        for _ in range(20):
            end = await ask(GET)
            await (await scene.origin.link()).head()
            give_up(end)
        await until(lambda: scene.gateway.parts.streams.of_sandboxes == begun)
        # Of those that read nothing one may still be let on: the kernel has taken some of its bytes.
        assert len(backlog.waiting) <= COUNT
        for end, _ in opened:
            give_up(end)
        await until(lambda: (backlog.held, len(backlog.waiting)) == (0, 0))
        assert scene.gateway.metric("sallyport_backlogged_sandboxes") == 0


async def test_t6_what_a_stream_holds_leaves_a_backlog_with_its_sandbox(tmp_path: Path) -> None:
    """Requests that are kept until an answer has come, and then show no token: nobody's, and nothing of them stays."""
    async with stage(tmp_path, further={"limits": {"pipelined_bytes": "4KiB"}}) as scene:
        ask = await way_into(scene.gateway, "explicit")
        end = await ask(GET)
        link = await scene.origin.link()
        await link.head()
        backlog = scene.gateway.parts.backlogs.of(SANDBOX)
        anonymous = b"GET http://api.test/v1 HTTP/1.1\r\nHost: api.test\r\n\r\n"
        end.send(anonymous * 200)
        await until(lambda: backlog.held > 0)
        link.send(OK)
        assert (await end.answer()).status == 200
        for _ in range(200):
            assert (await end.answer()).status == 407
        assert backlog.held == 0


@both_ways
async def test_t6_bodies_that_nobody_takes_are_bounded_for_a_sandbox_together(tmp_path: Path, way: str) -> None:
    async with stage(tmp_path, further=BACKLOG) as scene:
        gateway = scene.gateway
        ask = await way_into(gateway, way)
        size = UNREAD_BYTES
        post = GET.replace(b"GET", b"POST", 1).replace(b"\r\n\r\n", b"\r\nContent-Length: %d\r\n\r\n" % size)
        opened = []
        for _ in range(COUNT):
            end = await ask(post)
            link = await scene.origin.link()
            await link.head()
            link.pause()
            keep_little_in_the_kernel(scene)
            opened.append((end, link))
        backlog = gateway.parts.backlogs.of(SANDBOX)
        for end, _ in opened:
            end.send(bytes(size))
        # A tunnel's pieces are small: all of them together may be less than one sandbox may have.
        await until(lambda: backlog.is_over or (way == "tunnel" and len(backlog._sizes) == COUNT))
        assert backlog.held <= MIB + 2 * READ_BYTES
        for _, link in opened:
            link.resume()
        for end, link in opened:
            assert await link.exactly(size) == bytes(size)
            link.send(OK)
            assert (await end.answer("POST")).status == 200
        assert (backlog.held, backlog.is_over) == (0, False)


async def test_t6_what_tls_has_read_and_nobody_takes_is_counted_too(tmp_path: Path) -> None:
    """Of an answer by TLS most of a long read waits where it is decrypted, once its stream is paused."""
    async with stage(tmp_path, further=BACKLOG) as scene:
        client = await scene.gateway.tunnel()
        end = await client.inside("api.test:443")
        end.send(b"GET /v1/x HTTP/1.1\r\nHost: api.test\r\n\r\n")
        link = await scene.tls_origin.link()
        await link.head()
        stop_reading(end)
        (stream,) = [each for each in scene.gateway.parts.streams.of_sandbox(SANDBOX) if isinstance(each, ServedStream)]
        assert stream.exchange is not None
        upstream = stream.exchange.link
        assert upstream is not None
        # What the tunnel's window takes does not wait here.
        first = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (UNREAD_BYTES * 4)
        link.send(first + bytes(READ_BYTES))
        await until(lambda: client.tunnel.bytes_in > READ_BYTES)
        backlog = scene.gateway.parts.backlogs.of(SANDBOX)
        upstream.hold_reading("test")  # so that much is there to be read at once
        link.send(bytes(UNREAD_BYTES))
        await asyncio.sleep(0.1)
        upstream.resume_reading("test")
        await until(lambda: backlog.held > 0)
        waits = stream.transport.get_write_buffer_size()
        assert upstream.unread_bytes > 0
        assert backlog.held == stream.held_bytes == waits + upstream.unread_bytes


@both_ways
async def test_t6_opaque_bytes_that_nobody_reads_are_bounded_for_a_sandbox_together(tmp_path: Path, way: str) -> None:
    async with raw_origin() as origin:
        reached: Settings = {"upstream": {"connect_to": {"open.test:443": f"127.0.0.1:{origin.port}"}}}
        async with stage(tmp_path, further={**BACKLOG, **reached}) as scene:
            ask = await way_into(scene.gateway, way)
            connect = b"CONNECT open.test:443 HTTP/1.1\r\nHost: open.test:443\r\n\r\n"
            opened, size = [], UNREAD_BYTES
            for _ in range(COUNT):
                end = await ask(connect, "passthrough; revision=1")
                link = await origin.link()
                assert (await end.head()).startswith(b"HTTP/1.1 200 ")
                end.send(b"begin")
                assert await link.exactly(5) == b"begin"
                stop_reading(end)
                keep_little_in_the_kernel(scene)
                link.send(bytes(size))
                opened.append((end, link))
            backlog = scene.gateway.parts.backlogs.of(SANDBOX)
            await until(lambda: backlog.is_over)
            assert MIB * 7 // 8 < backlog.held <= MIB + 2 * READ_BYTES
            if way == "tunnel":  # a socket that is not read does not tell that it was reset
                streams = scene.gateway.parts.streams
                begun = streams.of_sandboxes
                backlog.hold("others", MIB)  # full: nobody goes on, whoever takes something
                for _ in range(10):
                    end = await ask(connect, "passthrough; revision=1")
                    assert (await end.head()).startswith(b"HTTP/1.1 200 ")
                    end.send(b"begin")
                    assert await (await origin.link()).exactly(5) == b"begin"
                    give_up(end)
                await until(lambda: streams.of_sandboxes == begun)
                assert set(backlog.waiting) <= set(streams.readers(SANDBOX, True))
                backlog.release("others")
            for end, _ in opened:
                end.resume()
            for end, link in opened:
                assert await end.exactly(size) == bytes(size)
                link.abort()
            await until(lambda: (backlog.held, backlog.is_over) == (0, False))


@both_ways
async def test_t5_a_clock_that_jumps_eight_days_hangs_and_unlocks_nothing(tmp_path: Path, way: str) -> None:
    """The wall clock, forward and back, until its next tick; then the monotonic one, under which all deadlines pass."""
    eight_days = 8 * 86400.0
    limits = {"limits": {"sandbox_requests_per_minute": 60, "sandbox_burst": 8}}
    async with stage(tmp_path, further=limits) as scene:
        clock = scene.gateway.parts.clock
        clock._timer.cancel()  # the next tick would put it right
        ask = await way_into(scene.gateway, way)
        assert await served(scene, await ask(GET)) == 200
        end = await ask(GET)
        link = await scene.origin.link()
        await link.head()
        # Eight days ago the explicit listener's token was not valid yet; a tunnel's was looked at when it came.
        for jump, status in ((eight_days, 407), (-eight_days, 407 if way == "explicit" else 200)):
            clock.wall += jump
            probe = await ask(OPEN)
            if status == 407:
                assert (await probe.answer()).status == 407
            else:
                assert await served(scene, probe) == 200
            clock.wall = time.time_ns() / 1e9
        # What was under way when the clock on the wall went wrong is answered.
        link.send(OK)
        assert (await end.answer()).status == 200
        let_time_pass(clock, eight_days)
        again = await way_into(scene.gateway, way)
        assert await served(scene, await again(GET)) == 200


async def intercepted(scene: Stage, way: str, count: int) -> list[RawEnd]:
    """CONNECT so often to the route's host, and return the streams on which its requests are sent."""
    inside = (await scene.gateway.tunnel()).inside if way == "tunnel" else scene.gateway.intercepted
    return [await inside(f"{HOST}:443") for _ in range(count)]


async def served_by_tls(scene: Stage, end: RawEnd) -> int:
    end.send(INSIDE)
    link = await scene.tls_origin.link()
    await link.head()
    link.send(CLOSING_OK)
    return (await end.answer()).status


@both_ways
async def test_t5_a_clock_that_jumps_eight_days_unlocks_nothing_in_an_intercepted_stream(
    tmp_path: Path, way: str
) -> None:
    eight_days = 8 * 86400.0
    async with stage(tmp_path) as scene:
        clock = scene.gateway.parts.clock
        clock._timer.cancel()  # the next tick would put it right
        waiting, before, after = await intercepted(scene, way, 3)
        waiting.send(INSIDE)
        link = await scene.tls_origin.link()
        await link.head()
        clock.wall += eight_days
        before.send(INSIDE)
        assert (await before.answer()).status == 407
        clock.wall -= 2 * eight_days
        assert await served_by_tls(scene, after) == 200
        clock.wall = time.time_ns() / 1e9
        # What was under way when the clock on the wall went wrong is answered.
        link.send(OK)
        assert (await waiting.answer()).status == 200
        let_time_pass(clock, eight_days)
        assert await waiting.gone() == b""
        (again,) = await intercepted(scene, way, 1)
        assert await served_by_tls(scene, again) == 200
