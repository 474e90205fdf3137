"""Streams of requests: order, keep-alive, half-close, limits in bytes, in time and in number, tokens per request."""

import asyncio
import contextlib
import json
import socket
from pathlib import Path

import pytest

from gateway.stream import TURN, TURN_REQUESTS, ServedStream
from sallyport.net.clock import NEVER
from sallyport.net.parting import LINGER_BYTES
from tests.support.gateway_plans import SANDBOX, denied, plan
from tests.support.in_process import in_process_gateway, proxy_token
from tests.support.passing_time import let_time_pass
from tests.support.raw_end import RawEnd
from tests.support.stage import HOST, OK, OPEN_URL, URL, one_route, stage
from tests.support.until import until

pytestmark = pytest.mark.uvloop

DENIED = "http://denied.test/x"
RULES = [denied("no", "denied.test", "not here")]
CHUNKED = b"Transfer-Encoding: chunked"


async def serve(link: RawEnd, body: bytes = b"ok") -> bytes:
    """Read one head on a link and answer it; return the head."""
    head = await link.head()
    link.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
    return head


def code_of(body: bytes) -> str:
    return str(json.loads(body)["code"])


# Keep-alive and order


async def test_requests_of_one_stream_share_a_link(tmp_path: Path) -> None:
    async with stage(tmp_path) as scene:
        client = await scene.gateway.client()
        for number in range(3):
            client.send(scene.gateway.request(f"{URL}?{number}"))
            link = scene.origin.ends[0] if scene.origin.ends else await scene.origin.link()
            assert (await serve(link)).startswith(b"GET /v1/x?%d HTTP/1.1\r\n" % number)
            assert (await client.answer()).values("Connection") == []
        records = await scene.gateway.audit.until(3)
        assert [record["linkReused"] for record in records] == [False, True, True]
        assert len({record["requestId"] for record in records}) == 3
        assert scene.gateway.metric("sallyport_upstream_link_reuse_total") == 2


async def test_a_stream_that_says_close_is_closed_after_its_answer(tmp_path: Path) -> None:
    async with stage(tmp_path) as scene:
        client, link, head = await scene.ask(scene.gateway.request(URL, b"Connection: close"))
        assert b"Connection" not in head
        link.send(OK)
        assert (await client.answer()).value("Connection") == "close"
        assert await client.rest() == b""


async def test_pipelined_requests_are_answered_in_order(tmp_path: Path) -> None:
    ask = ["http://api.test/slow", "http://api.test/body", "http://denied.test/x", "http://open.test/last"]
    async with stage(tmp_path, rules=RULES) as scene:
        request = scene.gateway.request
        body = request(ask[1], b"Content-Length: 5", method="POST", body=b"hello")
        client, link, _ = await scene.ask(request(ask[0]) + body + request(ask[2]) + request(ask[3]))
        # The first is slow: nothing behind it is begun.
        assert await link.is_quiet()
        link.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nslow")
        assert (await link.head()).startswith(b"POST /body ")
        assert await link.exactly(5) == b"hello"
        link.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody")
        last = await scene.origin.link()
        await serve(last, b"last")
        answers = [await client.answer() for _ in ask]
        assert [answer.status for answer in answers] == [200, 200, 403, 200]
        assert [answers[index].body for index in (0, 1, 3)] == [b"slow", b"body", b"last"]
        records = await scene.gateway.audit.until(4)
        assert [record["path"] for record in records] == ["/slow", "/body", "/x", "/last"]


async def test_a_refused_request_with_a_body_ends_the_stream(tmp_path: Path) -> None:
    async with stage(tmp_path, rules=RULES) as scene:
        client = await scene.gateway.client()
        refused = scene.gateway.request(DENIED, b"Content-Length: 5", method="POST", body=b"GET /")
        client.send(refused + scene.gateway.request(URL))
        answer = await client.answer("POST")
        assert (answer.status, answer.value("Connection")) == (403, "close")
        assert await client.rest() == b""
        assert scene.origin.ends == []
        await scene.gateway.audit.until(1)


async def test_what_is_still_sent_after_the_last_answer_does_not_destroy_it(tmp_path: Path) -> None:
    """RFC 9112 section 9.6: the stream is closed in two steps."""
    async with stage(tmp_path, rules=RULES) as scene:
        client = await scene.gateway.client()
        size = 512 * 1024
        client.send(scene.gateway.request(DENIED, b"Content-Length: %d" % size, method="POST") + bytes(size))
        assert (await client.answer("POST")).status == 403
        assert await client.rest() == b""
        client.close()


async def test_a_sandbox_that_never_stops_sending_is_cut_off(tmp_path: Path) -> None:
    async with stage(tmp_path, rules=RULES) as scene:
        client = await scene.gateway.client()
        size = LINGER_BYTES + 8 * 1024 * 1024
        client.send(scene.gateway.request(DENIED, b"Content-Length: %d" % size, method="POST"))
        assert (await client.answer("POST")).status == 403
        scene.gateway.parts.clock.close()  # it is the bytes that end it, not the time
        client.send(bytes(size))
        with contextlib.suppress(ConnectionError):
            await client.flush()
        await until(lambda: scene.gateway.parts.streams.open == 0)


async def test_what_was_sent_behind_the_last_request_is_read_and_dropped(tmp_path: Path) -> None:
    async with stage(tmp_path) as scene:
        last = scene.gateway.request(URL, b"Connection: close")
        client, link, _ = await scene.ask(last + scene.gateway.request(URL))
        link.send(OK)
        assert (await client.answer()).value("Connection") == "close"
        assert await client.rest() == b""
        client.send(scene.gateway.request(URL))
        assert scene.gateway.parts.streams.open == 1
        client.close()
        await scene.gateway.audit.until(1)


@pytest.mark.parametrize("method", ["POST", "PUT"])
async def test_a_body_of_no_bytes_is_no_body(tmp_path: Path, method: str) -> None:
    async with stage(tmp_path) as scene:
        client, link, head = await scene.ask(scene.gateway.request(URL, b"Content-Length: 0", method=method))
        assert b"\r\nContent-Length: 0\r\n" in head
        link.send(OK)
        assert (await client.answer(method)).values("Connection") == []
        client.send(scene.gateway.request(URL, b"Content-Length: 0", method=method) + scene.gateway.request(URL))
        await serve(link, b"one")
        await serve(link, b"two")
        assert [(await client.answer()).body for _ in range(2)] == [b"one", b"two"]


async def test_empty_lines_before_a_request_are_skipped(tmp_path: Path) -> None:
    async with stage(tmp_path) as scene:
        client, link, _ = await scene.ask(b"\r\n\r\n" + scene.gateway.request(URL))
        link.send(OK)
        await client.answer()
        client.send(b"\r\n")
        client.send(scene.gateway.request(URL))
        await serve(link)
        await client.answer()
        client.send(b"\r\n\r\n\r\n" + scene.gateway.request(URL))
        assert (await client.answer()).status == 400


async def test_a_request_byte_by_byte(tmp_path: Path) -> None:
    async with stage(tmp_path) as scene:
        client = await scene.gateway.client()
        request = scene.gateway.request(URL, CHUNKED, method="POST", body=b"3;x\r\nabc\r\n0\r\nX-T: 1\r\n\r\n")
        for at in range(len(request)):
            client.send(request[at : at + 1])
            await asyncio.sleep(0)
        link = await scene.origin.link()
        await link.head()
        body = await link.until(b"0\r\nX-T: 1\r\n\r\n")
        assert body.translate(None, b"\r\n123") == b"abc0X-T: "
        link.send(OK)
        assert (await client.answer()).status == 200


# Half-close, and sandboxes that go away


async def test_a_half_close_after_the_request_is_answered(tmp_path: Path) -> None:
    async with stage(tmp_path) as scene:
        client, link, _ = await scene.ask(scene.gateway.request(URL))
        (stream,) = [stream for stream in scene.gateway.parts.streams.all() if isinstance(stream, ServedStream)]
        client.end()
        await until(lambda: stream.has_ended)
        link.send(OK)
        answer = await client.answer()
        assert (answer.body, answer.value("Connection")) == (b"ok", "close")
        assert await client.rest() == b""


async def test_a_half_close_behind_pipelined_requests_loses_none(tmp_path: Path) -> None:
    async with stage(tmp_path, rules=RULES) as scene:
        request = scene.gateway.request
        client, link, _ = await scene.ask(request(URL) + request(DENIED) + request(URL))
        (stream,) = [stream for stream in scene.gateway.parts.streams.all() if isinstance(stream, ServedStream)]
        client.end()
        await until(lambda: stream.has_ended)
        link.send(OK)
        await serve(link, b"last")
        answers = [await client.answer() for _ in range(3)]
        assert [answer.status for answer in answers] == [200, 403, 200]
        assert [answer.values("Connection") for answer in answers] == [[], [], ["close"]]
        assert await client.rest() == b""


async def test_a_half_close_while_the_link_is_dialled(tmp_path: Path) -> None:
    async with stage(tmp_path) as scene:
        client = await scene.gateway.client()
        client.send(scene.gateway.request(URL))
        client.end()
        await serve(await scene.origin.link())
        assert (await client.answer()).body == b"ok"
        assert await client.rest() == b""


@pytest.mark.parametrize("early", [True, False], ids=["before the dial", "during the upload"])
async def test_a_half_close_in_the_middle_of_a_body_cancels_the_request(tmp_path: Path, early: bool) -> None:
    async with stage(tmp_path) as scene:
        client = await scene.gateway.client()
        client.send(scene.gateway.request(URL, b"Content-Length: 10", method="POST", body=b"half"))
        if early:
            client.end()
        link = await scene.origin.link()
        if not early:
            await link.until(b"half")
            client.end()
        await link.gone()
        assert await client.rest() == b""
        (record,) = await scene.gateway.audit.until(1)
        assert (record["status"], record["code"]) == (None, None)
        assert scene.gateway.metric('sallyport_requests_total{outcome="cancelled",source="explicit"}') == 1
        assert scene.gateway.parts.upstreams.state.open == 0


@pytest.mark.parametrize(
    "answered", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"], ids=["waiting", "reading"]
)
async def test_a_sandbox_that_goes_away_takes_its_link_with_it(tmp_path: Path, answered: bytes) -> None:
    async with stage(tmp_path) as scene:
        client, link, _ = await scene.ask(scene.gateway.request(URL))
        if answered:
            link.send(answered)
            await client.until(b"half")
        client.abort()
        assert await link.gone() == b""
        (record,) = await scene.gateway.audit.until(1)
        assert (record["status"], record["bytesDown"]) == ((200, 4) if answered else (None, 0))
        assert scene.gateway.metric('sallyport_requests_total{outcome="cancelled",source="explicit"}') == 1
        assert scene.gateway.parts.streams.open == 0
        assert scene.gateway.parts.upstreams.state.open == 0


async def test_a_connection_without_a_request_leaves_nothing(tmp_path: Path) -> None:
    async with stage(tmp_path) as scene:
        for partial in (b"", b"GET http://api.test/ HT"):
            client = await scene.gateway.client()
            client.send(partial)
            client.end()
            assert await client.rest() == b""
        assert scene.gateway.parts.streams.open == 0
        assert scene.gateway.audit.entries == []


# Tokens, per request


@pytest.mark.parametrize(
    "line",
    [
        None,
        b"Proxy-Authorization: Bearer nonsense",
        b"Proxy-Authorization: Basic !!!",
        b"Proxy-Authorization: Digest x",
        b"Proxy-Authorization:",
    ],
)
async def test_t1_a_request_without_a_good_token_is_407_and_the_stream_goes_on(
    tmp_path: Path, line: bytes | None
) -> None:
    async with stage(tmp_path) as scene:
        client = await scene.gateway.client()
        client.send(
            b"GET http://api.test/ HTTP/1.1\r\nHost: api.test\r\n" + (line + b"\r\n" if line else b"") + b"\r\n"
        )
        answer = await client.answer()
        assert (answer.status, code_of(answer.body)) == (407, "authentication_required")
        challenges = answer.values("Proxy-Authenticate")
        assert [challenge.partition(" ")[0] for challenge in challenges] == ["Basic", "Bearer"]
        assert answer.value("X-Sallyport-Error") == "authentication_required"
        client.send(scene.gateway.request(URL))
        await serve(await scene.origin.link())
        assert (await client.answer()).status == 200
        refused, served = await scene.gateway.audit.until(2)
        assert (refused["status"], refused["sandboxId"], served["sandboxId"]) == (407, None, SANDBOX)


async def test_t1_a_stream_that_was_proven_needs_its_token_on_every_request(tmp_path: Path) -> None:
    async with stage(tmp_path) as scene:
        client, link = await scene.warm_up()
        client.send(b"GET http://api.test/ HTTP/1.1\r\nHost: api.test\r\n\r\n")
        assert (await client.answer()).status == 407
        other = proxy_token("sbx_two")
        client.send(scene.gateway.request(URL).replace(scene.gateway.token.encode(), other.encode()))
        answer = await client.answer()
        assert (answer.status, code_of(answer.body)) == (503, "plan_unavailable")
        client.send(scene.gateway.request(URL))
        await serve(link)
        assert (await client.answer()).status == 200


@pytest.mark.parametrize("intercepted", [False, True], ids=["plain", "intercepted"])
async def test_c10_a_token_that_expires_while_a_stream_is_open(tmp_path: Path, intercepted: bool) -> None:
    async with stage(tmp_path) as scene:
        clock = scene.gateway.parts.clock
        client = await (scene.gateway.intercepted(f"{HOST}:443") if intercepted else scene.gateway.client())
        request = b"GET / HTTP/1.1\r\nHost: api.test\r\n\r\n" if intercepted else scene.gateway.request(URL)
        client.send(request)
        await serve(await (scene.tls_origin if intercepted else scene.origin).link())
        assert (await client.answer()).status == 200
        clock.close()  # it stands still, and is set by hand
        clock.wall += 3601
        client.send(request)
        assert (await client.answer()).status == 407
        records = await scene.gateway.audit.until(2)
        assert [record["sandboxId"] for record in records] == [SANDBOX, SANDBOX]


async def test_t1_a_revoked_sandbox_is_refused_on_its_next_request(tmp_path: Path) -> None:
    async with stage(tmp_path) as scene:
        client, _ = await scene.warm_up()
        scene.gateway.parts.revocations.revoke("sandbox", SANDBOX, scene.gateway.parts.clock.wall + 60)
        client.send(scene.gateway.request(URL))
        assert (await client.answer()).status == 407


# Plans between requests


async def test_t2_a_plan_is_replaced_between_two_requests_of_one_stream(tmp_path: Path) -> None:
    async with stage(tmp_path) as scene:
        client, link, _ = await scene.ask(scene.gateway.request(URL))
        scene.gateway.parts.plans.apply(plan([one_route()], [denied("no", HOST, "closed")], revision=2))
        # What runs finishes on the table it read; the next one sees the new.
        link.send(OK)
        assert (await client.answer()).status == 200
        client.send(scene.gateway.request(URL))
        answer = await client.answer()
        assert (answer.status, code_of(answer.body)) == (403, "denied_by_plan")
        assert json.loads(answer.body)["egressRuleId"] == "no"
        scene.gateway.parts.plans.remove(SANDBOX)
        client.send(scene.gateway.request(URL))
        answer = await client.answer()
        assert (answer.status, code_of(answer.body), answer.value("Retry-After")) == (503, "plan_unavailable", "5")
        records = await scene.gateway.audit.until(3)
        assert [record["planRevision"] for record in records] == [1, 2, None]


# Limits in bytes and number

NARROW = {"limits": {"head_bytes": "4KiB", "header_count": 16, "pipelined_bytes": "4KiB"}}


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "endless"])
async def test_s10_a_head_that_is_too_large_is_431(tmp_path: Path, whole: bool) -> None:
    async with stage(tmp_path, further=NARROW) as scene:
        client = await scene.gateway.client()
        request = scene.gateway.request(URL, b"X: " + b"x" * 4096)
        client.send(request if whole else request[:-4])
        answer = await client.answer()
        assert (answer.status, code_of(answer.body)) == (431, "head_too_large")
        assert (answer.value("Connection"), await client.rest()) == ("close", b"")
        (record,) = await scene.gateway.audit.until(1)
        assert (record["status"], record["code"], record["decision"]) == (431, "head_too_large", "deny")


@pytest.mark.parametrize(("fields", "status"), [(14, 200), (15, 431)])  # Host and the token are fields too
async def test_s10_a_head_has_so_many_fields_and_no_more(tmp_path: Path, fields: int, status: int) -> None:
    async with stage(tmp_path, further=NARROW) as scene:
        client = await scene.gateway.client()
        client.send(scene.gateway.request(URL, *[b"X-%d: y" % number for number in range(fields)]))
        if status == 200:
            await serve(await scene.origin.link())
        assert (await client.answer()).status == status
        await scene.gateway.audit.until(1)


async def test_pipelined_bytes_are_held_up_to_their_limit(tmp_path: Path) -> None:
    async with stage(tmp_path, further=NARROW) as scene:
        client, link, _ = await scene.ask(scene.gateway.request(URL))
        (stream,) = [stream for stream in scene.gateway.parts.streams.all() if isinstance(stream, ServedStream)]
        client.send(scene.gateway.request(URL, b"X: " + b"x" * 1024) * 8192)
        await until(lambda: stream.is_reading_held)
        assert not stream.transport.is_reading()
        for _ in range(50):
            link.send(OK)
            assert (await client.answer()).status == 200
            await link.head()


async def test_refusals_nobody_reads_do_not_gather_in_memory(tmp_path: Path) -> None:
    limits = {"limits": {"write_buffer_bytes": "16KiB"}}
    async with stage(tmp_path, rules=RULES, further=limits) as scene:
        client = await scene.gateway.client()
        client.send(scene.gateway.request(DENIED))
        await client.answer()
        (stream,) = [stream for stream in scene.gateway.parts.streams.all() if isinstance(stream, ServedStream)]
        stream.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        client.pause()
        count = 600
        client.send(scene.gateway.request(DENIED) * count)
        await until(lambda: stream.is_writing_held)
        await asyncio.sleep(0.1)  # what else would gather, gathers now
        assert stream.is_writing_held
        assert stream.transport.get_write_buffer_size() < 32 * 1024
        client.resume()
        for _ in range(count):
            assert (await client.answer()).status == 403
        await scene.gateway.audit.until(count + 1)


READ_BYTES = 256 * 1024  # what one read brings at most


async def test_s10_later_requests_do_not_gather_while_earlier_ones_are_answered(tmp_path: Path) -> None:
    """Each answer makes room for one request, and not for one read more."""
    async with stage(tmp_path, further={"limits": {"pipelined_bytes": "4KiB"}}) as scene:
        client, link = await scene.warm_up()
        (stream,) = [stream for stream in scene.gateway.parts.streams.all() if isinstance(stream, ServedStream)]
        request = scene.gateway.request(URL)
        count = 8 * 1024 * 1024 // len(request)
        client.send(request * count)
        await link.head()
        await until(lambda: stream.is_reading_held)
        for _ in range(20):
            link.send(OK)
            await link.head()
            assert (await client.answer()).status == 200
            await asyncio.sleep(0)
            assert len(stream._buffer) < 4 * 1024 + READ_BYTES
        assert stream.is_reading_held


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"streams_per_sandbox": 2}, "the sandbox has"),
        ({"open_streams": 2, "streams_per_sandbox": 2}, "the gateway has"),
    ],
)
async def test_s10_a_stream_too_many_is_503(tmp_path: Path, limits: dict[str, object], words: str) -> None:
    async with stage(tmp_path, further={"limits": limits}) as scene:
        first, link = await scene.warm_up()
        second, other, _ = await scene.ask(scene.gateway.request(OPEN_URL))
        third = await scene.gateway.client()
        mine = scene.gateway.token
        if words.startswith("the gateway"):
            scene.gateway.token = proxy_token("sbx_two")
        third.send(scene.gateway.request(URL))
        scene.gateway.token = mine
        answer = await third.answer()
        assert (answer.status, code_of(answer.body), answer.value("Connection")) == (503, "overloaded", "close")
        assert json.loads(answer.body)["detail"].startswith(words)
        assert await third.rest() == b""
        third.close()
        other.send(OK)
        assert (await second.answer()).status == 200
        second.close()
        await scene.gateway.audit.until(2)
        # Two have gone: there is room again.
        await until(lambda: scene.gateway.parts.streams.open == 1)
        fourth = await scene.gateway.client()
        fourth.send(scene.gateway.request(URL))
        await serve(link)
        assert (await fourth.answer()).status == 200
        assert first is not fourth


# Limits in time


async def test_s10_a_slow_head_is_408(tmp_path: Path) -> None:
    async with stage(tmp_path) as scene:
        parts = scene.gateway.parts
        silent = await scene.gateway.client()
        client = await scene.gateway.client()
        begun = b"GET http://api.test/ HTTP/1.1\r\n"
        client.send(begun)
        await until(lambda: sorted(each.held_bytes for each in parts.streams.all()) == [0, len(begun)])
        let_time_pass(parts.clock, parts.timeouts.head + 1)
        answer = await client.answer()
        assert (answer.status, code_of(answer.body)) == (408, "request_timeout")
        assert (answer.value("Connection"), await client.rest()) == ("close", b"")
        # One that never began a head is closed without a word.
        assert await silent.rest() == b""
        (record,) = await scene.gateway.audit.until(1)
        assert (record["status"], record["code"]) == (408, "request_timeout")


async def test_s10_streams_that_wait_too_long(tmp_path: Path) -> None:
    """Idle between requests: closed. A body that stops: 408, or a cut answer. Their times run side by side here."""
    slow = {"timeouts": {"keep_alive": "10s", "request_body": "10s"}}
    async with stage(tmp_path, further=slow) as scene:
        idle, link = await scene.warm_up()
        post = scene.gateway.request(URL, b"Content-Length: 10", method="POST", body=b"half")
        stuck = await scene.gateway.client()
        stuck.send(post)
        await link.until(b"half")
        answered = await scene.gateway.client()
        answered.send(post)
        other = await scene.origin.link()
        await other.until(b"half")
        other.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nearly")
        await answered.until(b"early")
        let_time_pass(scene.gateway.parts.clock, 11)
        assert await idle.rest() == b""
        answer = await stuck.answer("POST")
        assert (answer.status, code_of(answer.body)) == (408, "request_timeout")
        assert await answered.rest() == b""
        assert await link.gone() == b""
        assert await other.gone() == b""
        records = await scene.gateway.audit.until(2)
        assert sorted((record["status"], record["code"]) for record in records) == [
            (200, "request_timeout"),
            (408, "request_timeout"),
        ]


async def test_an_answer_nobody_takes_does_not_keep_a_stream_open_for_ever(tmp_path: Path) -> None:
    limits = {"limits": {"write_buffer_bytes": "512KiB"}}
    async with stage(tmp_path, rules=RULES, further=limits) as scene:
        # The kernel holds less than 300 kB. The one stream is closing, with less than the buffer's limit ...
        closing, link, _ = await scene.ask(scene.gateway.request(URL, b"Connection: close"))
        idle = await scene.gateway.client()
        idle.send(scene.gateway.request(DENIED))
        await idle.answer()
        parts = scene.gateway.parts
        streams = [stream for stream in parts.streams.all() if isinstance(stream, ServedStream)]
        for stream in streams:
            stream.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        closing.pause()
        link.send(b"HTTP/1.1 200 OK\r\nContent-Length: 400000\r\n\r\n" + bytes(400_000))
        # ... the other between two of its requests, with more.
        idle.pause()
        idle.send(scene.gateway.request(DENIED) * 3000)

        def state(stream: ServedStream) -> tuple[bool, bool, bool]:
            """Whether it is closing, has more to be taken than the limit, and has its time for that."""
            return stream.transport.is_closing(), stream.is_writing_held, stream.deadline_at < NEVER

        await until(lambda: sorted(map(state, streams)) == [(False, True, True), (True, False, True)])
        assert parts.streams.open == 2
        let_time_pass(parts.clock, parts.timeouts.answer_body + 1)
        await until(lambda: parts.streams.open == 0)


async def test_t5_a_stream_is_not_drained_before_its_answer_has_gone_out(tmp_path: Path) -> None:
    async with stage(tmp_path, further={"limits": {"write_buffer_bytes": "1MiB"}}) as scene:
        client, link, _ = await scene.ask(scene.gateway.request(URL))
        (stream,) = [stream for stream in scene.gateway.parts.streams.all() if isinstance(stream, ServedStream)]
        stream.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        client.pause()
        link.send(b"HTTP/1.1 200 OK\r\nContent-Length: 500000\r\n\r\n" + bytes(500_000))
        await scene.gateway.audit.until(1)
        assert stream.exchange is None
        assert not stream.drain()
        client.resume()
        assert (await client.answer()).body == bytes(500_000)
        assert stream.drain()


# Requests that cannot be read

MALFORMED = {
    "two lengths": b"POST http://api.test/ HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    "length and coding": b"POST http://api.test/ HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n" + CHUNKED + b"\r\n\r\n",
    "two hosts": b"GET http://api.test/ HTTP/1.1\r\nHost: api.test\r\nHost: api.test\r\n\r\n",
    "bare line feed": b"GET http://api.test/ HTTP/1.1\nHost: api.test\r\n\r\n",
    "folded": b"GET http://api.test/ HTTP/1.1\r\nHost: api.test\r\nX: a\r\n b\r\n\r\n",
    "space in the target": b"GET http://api.test/a b HTTP/1.1\r\nHost: api.test\r\n\r\n",
    "nul in the target": b"GET http://api.test/\0 HTTP/1.1\r\nHost: api.test\r\n\r\n",
    "sallyport field": b"GET http://api.test/ HTTP/1.1\r\nHost: api.test\r\nSallyport-Stream: plain\r\n\r\n",
    "not http": b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
}


@pytest.mark.parametrize("request_bytes", MALFORMED.values(), ids=MALFORMED)
async def test_s1_what_cannot_be_read_is_400_and_ends_the_stream(tmp_path: Path, request_bytes: bytes) -> None:
    async with stage(tmp_path) as scene:
        client = await scene.gateway.client()
        client.send(request_bytes + scene.gateway.request(URL))
        answer = await client.answer()
        assert (answer.status, code_of(answer.body), answer.value("Connection")) == (400, "invalid_request", "close")
        assert await client.rest() == b""
        assert scene.origin.ends == []
        (record,) = await scene.gateway.audit.until(1)
        assert (record["status"], record["code"], record["decision"]) == (400, "invalid_request", "deny")
        assert record["requestId"] == json.loads(answer.body)["requestId"]
        assert scene.gateway.metric('sallyport_denied_total{code="invalid_request"}') == 1


@pytest.mark.parametrize(
    "line", [b"GET http://api.test/ HTTP/1.0", b"GET http://api.test/ HTTP/2.0", b"PRI * HTTP/2.0"]
)
async def test_s4_other_versions_are_505(tmp_path: Path, line: bytes) -> None:
    async with stage(tmp_path) as scene:
        client = await scene.gateway.client()
        client.send(line + b"\r\nHost: api.test\r\n\r\n")
        answer = await client.answer()
        assert (answer.status, code_of(answer.body)) == (505, "http_version")


async def test_connect_inside_a_stream_is_refused(tmp_path: Path) -> None:
    async with stage(tmp_path) as scene:
        client = await scene.gateway.intercepted(f"{HOST}:443")
        client.send(b"CONNECT api.test:443 HTTP/1.1\r\nHost: api.test\r\n\r\n")
        assert (await client.answer()).status == 400
        (record,) = await scene.gateway.audit.until(1)
        assert (record["mode"], record["host"], record["sandboxId"]) == ("intercepted", HOST, SANDBOX)


async def test_t6_a_plain_request_succeeds_after_each(tmp_path: Path) -> None:
    async with stage(tmp_path) as scene:
        for request_bytes in MALFORMED.values():
            client = await scene.gateway.client()
            client.send(request_bytes)
            client.close()
        client, link, _ = await scene.ask(scene.gateway.request(URL))
        link.send(OK)
        assert (await client.answer()).status == 200


async def test_a_stream_says_in_its_repr_whose_it_is_and_no_secret(tmp_path: Path) -> None:
    async with in_process_gateway(tmp_path) as gateway:
        await (await gateway.client()).is_quiet(0.01)
        (stream,) = gateway.parts.streams.all()
        assert repr(stream) == "<ServedStream of nobody, plain, idle>"


async def test_t6_requests_that_are_refused_here_leave_others_their_turn(tmp_path: Path) -> None:
    """What one read holds is answered in many turns of the loop, in order, and all of it before the end of file."""
    async with stage(tmp_path, rules=RULES) as scene:
        turns = 0
        is_over = False

        def turn() -> None:
            nonlocal turns
            turns += 1
            if not is_over:
                scene.gateway.parts.loop.call_soon(turn)

        client = await scene.gateway.client()
        count = 10 * TURN_REQUESTS + 3
        requests = [scene.gateway.request(f"{DENIED}{number}") for number in range(count)]
        turn()
        began = turns
        client.send(b"".join(requests))
        client.end()
        for _ in range(count):
            assert (await client.answer()).status == 403
        assert await client.rest() == b""
        assert turns - began >= 10
        records = await scene.gateway.audit.until(count)
        assert [record["path"] for record in records] == [f"/x{number}" for number in range(count)]
        is_over = True


async def test_t6_a_stream_that_ends_in_line_leaves_it_and_what_it_had_left_is_never_served(tmp_path: Path) -> None:
    async with stage(tmp_path, rules=RULES) as scene:
        parts = scene.gateway.parts
        ends = [await scene.gateway.client() for _ in range(4)]
        for end in ends:
            end.send(scene.gateway.request(DENIED) * 10 * TURN_REQUESTS)
        await until(lambda: parts.pipelines.waiting == len(ends))
        served = len(scene.gateway.audit.entries)
        for stream in parts.streams.of_sandbox(SANDBOX):
            stream.revoke()
        assert parts.pipelines.waiting == 0
        await until(lambda: parts.streams.open == 0)
        assert len(scene.gateway.audit.entries) == served


async def test_t6_a_stream_that_is_closing_serves_nothing_more_when_its_turn_comes(tmp_path: Path) -> None:
    """As a drain closes it: it is lost once what was written is taken."""
    async with stage(tmp_path, rules=RULES) as scene:
        parts = scene.gateway.parts
        client = await scene.gateway.client()
        client.send(scene.gateway.request(DENIED) * 10 * TURN_REQUESTS)
        await until(lambda: parts.pipelines.waiting == 1)
        (stream,) = parts.streams.of_sandbox(SANDBOX)
        assert isinstance(stream, ServedStream)
        served = len(scene.gateway.audit.entries)
        stream.close()
        stream.take_turn()
        assert len(scene.gateway.audit.entries) == served
        client.close()


async def test_t6_a_stream_whose_answers_are_taken_again_keeps_its_place_in_line(tmp_path: Path) -> None:
    async with stage(tmp_path, rules=RULES) as scene:
        client = await scene.gateway.client()
        count = 4 * TURN_REQUESTS
        client.send(scene.gateway.request(DENIED) * count)
        await until(lambda: scene.gateway.parts.pipelines.waiting == 1)
        (stream,) = scene.gateway.parts.streams.of_sandbox(SANDBOX)
        assert isinstance(stream, ServedStream)
        served = len(scene.gateway.audit.entries)
        stream.pause_writing()
        stream.resume_writing()
        assert len(scene.gateway.audit.entries) == served
        assert TURN in stream._holds
        for _ in range(count):
            assert (await client.answer()).status == 403


async def test_t6_of_what_comes_to_many_streams_each_serves_the_first_at_once(tmp_path: Path) -> None:
    """However little it is: a turn for each of a thousand would be a second."""
    async with stage(tmp_path, rules=RULES) as scene:
        parts, entries = scene.gateway.parts, scene.gateway.audit.entries
        ends = [await scene.gateway.client() for _ in range(5)]
        await until(lambda: parts.streams.open == len(ends))
        for stream in parts.streams.all():
            assert isinstance(stream, ServedStream)
            stream.data_received(scene.gateway.request(DENIED) * TURN_REQUESTS)
        assert (len(entries), parts.pipelines.waiting) == (len(ends), len(ends))
        for end in ends:
            for _ in range(TURN_REQUESTS):
                assert (await end.answer()).status == 403
        assert (len(entries), parts.pipelines.waiting) == (len(ends) * TURN_REQUESTS, 0)
