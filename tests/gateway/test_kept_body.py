"""A body that is kept until it can be signed: its limits, what it counts for, and every way in which it ends."""

import contextlib
import json
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from gateway.kept_body import KeptBodies, KeptBody
from gateway.serve import Exchange
from sallyport.net.buffer_budget import BufferBudget
from tests.support.aws_signature import Account, Arrived, fault_of
from tests.support.in_process import Settings
from tests.support.passing_time import let_time_pass
from tests.support.raw_end import RawEnd
from tests.support.rings import no_rings_of
from tests.support.stage import CONNECTION, OK, SECRET, URL, Stage, one_route, stage
from tests.support.until import until

pytestmark = pytest.mark.uvloop

TOKEN = "canary-session-0d51"
ACCOUNT = Account(access_key_id="ASIASTAGE", secret_access_key=SECRET, session_token=TOKEN)
KEYS = {
    "kind": "aws_session",
    "accessKeyId": ACCOUNT.access_key_id,
    "secretAccessKey": SECRET,
    "sessionToken": TOKEN,
}
SIGV4 = {"type": "aws_sigv4", "region": "eu-west-1", "service": "dynamodb"}
CHUNKED = b"Transfer-Encoding: chunked"
KIB = 1024


def signing(
    folder: Path, settings: Mapping[str, object] | None = None, /, **members: object
) -> contextlib.AbstractAsyncContextManager[Stage]:
    """Set the scene with a route that signs."""
    further: Settings = {"limits": dict(settings or {})}
    return stage(
        folder, routes=[one_route(SIGV4, **members)], credentials={CONNECTION: json.dumps(KEYS)}, further=further
    )


def is_signed(head: bytes, body: bytes) -> bool:
    first, *lines = head.decode("latin-1").rstrip().split("\r\n")
    method, target, _ = first.split(" ")
    fields = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    arrived = Arrived(method=method, target=target, fields=fields, body=body)
    return fault_of(arrived, ACCOUNT, "dynamodb", "eu-west-1", time.time_ns() / 1e9) == ""


async def test_a_body_that_was_kept_leaves_nothing_to_the_collector(tmp_path: Path) -> None:
    async with signing(tmp_path) as scene:
        client, link, _ = await scene.ask(scene.gateway.request(URL))
        link.send(OK)
        assert (await client.answer()).status == 200
        with no_rings_of(Exchange, KeptBody):
            for _ in range(3):
                client.send(scene.gateway.request(URL, b"Content-Length: 5", method="POST", body=b"hello"))
                await link.head()
                assert await link.exactly(5) == b"hello"
                link.send(OK)
                assert (await client.answer("POST")).status == 200


async def is_nothing_held(scene: Stage) -> None:
    parts = scene.gateway.parts
    await until(lambda: parts.tunnel_buffers.held == 0)
    assert repr(parts.kept_bodies) == "<KeptBodies of 0 sandboxes>"


@pytest.mark.parametrize(
    ("lines", "body"),
    [
        pytest.param([b"Content-Length: 5"], b"hello", id="length"),
        pytest.param([CHUNKED], b"2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\nX-Sum: 1\r\n\r\n", id="chunked"),
        pytest.param([b"Content-Length: 5", b"Expect: 100-continue"], b"hello", id="expected"),
    ],
)
async def test_s8_a_body_goes_on_in_one_piece_behind_a_signed_head(
    tmp_path: Path, lines: list[bytes], body: bytes
) -> None:
    async with signing(tmp_path) as scene:
        client = await scene.gateway.client()
        client.send(scene.gateway.request(URL, *lines, method="POST"))
        if len(lines) > 1:
            assert await client.head() == b"HTTP/1.1 100 Continue\r\n\r\n"
        for byte in body:
            client.send(bytes([byte]))
            await client.flush()
        client.send(scene.gateway.request(URL))  # pipelined behind it
        link = await scene.origin.link()
        head = await link.head()
        assert head.split(b"\r\n").count(b"Content-Length: 5") == 1
        assert b"Expect" not in head
        assert await link.exactly(5) == b"hello"
        assert is_signed(head, b"hello")
        assert scene.gateway.parts.tunnel_buffers.held == 5, "it counts until its exchange is over"
        link.send(OK)
        assert (await client.answer("POST")).status == 200
        assert is_signed(await link.head(), b"")
        link.send(OK)
        assert (await client.answer()).status == 200
        await is_nothing_held(scene)
        first, _ = await scene.gateway.audit.until(2)
        assert (first["outcome"], first["bytesUp"]) == ("injected", 5)


async def test_an_empty_body_in_chunks_has_a_length_too(tmp_path: Path) -> None:
    async with signing(tmp_path) as scene:
        client, link, head = await scene.ask(scene.gateway.request(URL, CHUNKED, method="POST", body=b"0\r\n\r\n"))
        assert b"\r\nContent-Length: 0\r\n" in head + b"\r\n"
        assert is_signed(head, b"")
        link.send(OK)
        assert (await client.answer("POST")).status == 200
        await is_nothing_held(scene)


async def test_c7_a_body_whose_hash_is_told_is_not_kept(tmp_path: Path) -> None:
    async with signing(tmp_path, {"signed_body_bytes": "1KiB"}) as scene:
        told = b"x-amz-content-sha256: UNSIGNED-PAYLOAD"
        client, link, head = await scene.ask(
            scene.gateway.request(URL, told, b"Content-Length: 4096", method="PUT", body=b"x" * 2048)
        )
        assert is_signed(head, b"")
        assert await link.exactly(2048) == b"x" * 2048
        client.send(b"x" * 2048)
        assert await link.exactly(2048) == b"x" * 2048
        link.send(OK)
        assert (await client.answer("PUT")).status == 200
        await is_nothing_held(scene)


@pytest.mark.parametrize(
    ("lines", "body", "members", "expected"),
    [
        ([b"Content-Length: 1025"], b"", {}, (413, "body_too_large", "limits.signed_body_bytes")),
        ([CHUNKED], b"401\r\n" + b"x" * 1025, {}, (413, "body_too_large", "limits.signed_body_bytes")),
        ([CHUNKED], b"9\r\n123456789", {"limits": {"maxRequestBodyBytes": 8}}, (413, "body_too_large", "maxRequest")),
        ([CHUNKED], b"5\nhello", {}, (400, "invalid_request", "")),
        ([b"x-amz-content-sha256: STREAMING-AWS4-HMAC-SHA256-PAYLOAD", CHUNKED], b"", {}, (400, "invalid_request", "")),
    ],
)
async def test_s10_what_is_not_kept_is_refused_and_nothing_leaves(
    tmp_path: Path, lines: list[bytes], body: bytes, members: dict[str, object], expected: tuple[int, str, str]
) -> None:
    async with signing(tmp_path, {"signed_body_bytes": "1KiB"}, **members) as scene:
        client = await scene.gateway.client()
        client.send(scene.gateway.request(URL, *lines, method="POST", body=body))
        answer = await client.answer("POST")
        problem = json.loads(answer.body)
        assert (answer.status, problem["code"], answer.value("Connection")) == (*expected[:2], "close")
        assert expected[2] in problem.get("hint", "")
        assert scene.origin.ends == []
        await is_nothing_held(scene)


async def test_s10_a_body_that_does_not_arrive_is_408(tmp_path: Path) -> None:
    async with signing(tmp_path) as scene:
        client = await half_a_body(scene, 100, of=200)
        let_time_pass(scene.gateway.parts.clock, 61)
        assert (await client.answer("POST")).status == 408
        await is_nothing_held(scene)


async def half_a_body(scene: Stage, size: int, *, of: int) -> RawEnd:
    before = scene.gateway.parts.tunnel_buffers.held
    client = await scene.gateway.client()
    client.send(scene.gateway.request(URL, b"Content-Length: %d" % of, method="POST", body=b"x" * size))
    await until(lambda: scene.gateway.parts.tunnel_buffers.held == before + size)
    return client


async def test_t6_a_sandbox_that_keeps_too_much_is_refused_what_is_over(tmp_path: Path) -> None:
    async with signing(tmp_path, {"sandbox_buffer_bytes": "256KiB"}) as scene:
        first = await half_a_body(scene, 200 * KIB, of=200 * KIB + 1)
        other = await scene.gateway.client()
        other.send(
            scene.gateway.request(URL, b"Content-Length: %d" % (100 * KIB), method="POST", body=b"x" * 100 * KIB)
        )
        answer = await other.answer("POST")
        assert (answer.status, answer.value("X-Sallyport-Error")) == (503, "overloaded")
        first.send(b"x")
        link = await scene.origin.link()
        head = await link.head()
        assert is_signed(head, await link.exactly(200 * KIB + 1))
        link.send(OK)
        assert (await first.answer("POST")).status == 200
        await is_nothing_held(scene)


async def test_t6_who_holds_most_is_reset_where_the_process_holds_too_much(tmp_path: Path) -> None:
    async with signing(tmp_path) as scene:
        client = await half_a_body(scene, 1000, of=2000)
        scene.gateway.parts.tunnel_buffers.evict()
        assert scene.gateway.parts.tunnel_buffers.held == 0
        assert await client.gone() == b""
        await is_nothing_held(scene)
        assert scene.origin.ends == []
        (record,) = await scene.gateway.audit.until(1)
        assert record["outcome"] == "cancelled"


@pytest.mark.parametrize("is_orderly", [True, False])
async def test_a_sandbox_that_goes_leaves_nothing(tmp_path: Path, is_orderly: bool) -> None:
    async with signing(tmp_path) as scene:
        client = await half_a_body(scene, 1000, of=2000)
        if is_orderly:
            client.end()
        else:
            client.abort()
        await scene.gateway.audit.until(1)
        await is_nothing_held(scene)
        assert scene.origin.ends == []


async def test_memory_is_counted_where_it_is_kept(tmp_path: Path) -> None:
    async with signing(tmp_path) as scene:
        await half_a_body(scene, 1000, of=2000)
        (stream,) = scene.gateway.parts.streams.all()
        assert stream.held_bytes == 1000


def test_a_share_lasts_as_long_as_somebody_counts_in_it() -> None:
    whole = BufferBudget(1000)
    bodies = KeptBodies(whole, 100)
    first, second = bodies.enter("sbx_one"), bodies.enter("sbx_one")
    assert first is second
    assert (bodies.enter("sbx_two") is first, first.limit) == (False, 100)
    bodies.leave("sbx_one")
    assert bodies.enter("sbx_one") is first
    bodies.leave("sbx_one")
    bodies.leave("sbx_one")
    assert repr(bodies) == "<KeptBodies of 1 sandboxes>"
