"""A request's body, byte for byte: the sandbox's framing read strictly, ours written, its limit kept."""

import asyncio
from pathlib import Path
from typing import cast

import pytest

from gateway.build import codec_kind
from gateway.request_body import RequestBody
from gateway.serve import Exchange
from gateway.stream import ServedStream
from tests.support.gateway_plans import header
from tests.support.rings import no_rings_of
from tests.support.stage import OK, URL, one_route, stage
from tests.support.until import until

pytestmark = pytest.mark.uvloop

CHUNKED = b"Transfer-Encoding: chunked"
LIMITED = {"limits": {"maxRequestBodyBytes": 8}}


@pytest.mark.parametrize(
    ("lines", "body", "sent"),
    [
        pytest.param([b"Content-Length: 5"], b"hello", b"hello", id="length"),
        pytest.param([CHUNKED], b"2;a=b\r\nhe\r\n03\r\nllo\r\n0\r\n\r\n", b"5\r\nhello\r\n0\r\n\r\n", id="chunked"),
        pytest.param(
            [CHUNKED],
            b"5\r\nhello\r\n0\r\nX-Sum: 1\r\nX-Key: theirs\r\nx_key: theirs\r\nY: 2\r\n\r\n",
            b"5\r\nhello\r\n0\r\nX-Sum: 1\r\nY: 2\r\n\r\n",
            id="trailers, ours removed",
        ),
    ],
)
@pytest.mark.parametrize("method", ["POST", "GET", "DELETE"])
async def test_s3_a_body_keeps_its_framing(
    tmp_path: Path, method: str, lines: list[bytes], body: bytes, sent: bytes
) -> None:
    async with stage(tmp_path, routes=[one_route(header("X-Key"))]) as scene:
        client, link, head = await scene.ask(scene.gateway.request(URL, *lines, method=method, body=body))
        assert head.split(b"\r\n").count(lines[0]) == 1
        assert await link.exactly(len(sent)) == sent
        link.send(OK)
        assert (await client.answer()).values("Connection") == []
        client.send(scene.gateway.request(URL))
        await link.head()
        (record,) = await scene.gateway.audit.until(1)
        assert (record["bytesUp"], record["bytesDown"]) == (5, 2)


@pytest.mark.parametrize("pieces", [[b"", b"hello"], [b"hello"], [b"he", b"llo"]])
async def test_a_body_that_was_sent_leaves_nothing_to_the_collector(tmp_path: Path, pieces: list[bytes]) -> None:
    async with stage(tmp_path) as scene:
        client, link = await scene.warm_up()
        with no_rings_of(Exchange, RequestBody):
            for _ in range(3):
                request = scene.gateway.request(URL, b"Content-Length: 5", method="POST", body=pieces[0])
                client.send(request)
                await link.head()
                for piece in pieces[1:]:
                    client.send(piece)
                assert await link.exactly(5) == b"hello"
                link.send(OK)
                assert (await client.answer("POST")).status == 200


@pytest.mark.parametrize("name", [b"Authorization", b"X-Api-Key", b"cookie", b"Host", b"Content-Length", b"Connection"])
async def test_s2_a_forbidden_trailer_ends_the_request(tmp_path: Path, name: bytes) -> None:
    async with stage(tmp_path) as scene:
        client, link, _ = await scene.ask(scene.gateway.request(URL, CHUNKED, method="POST", body=b"5\r\nhello\r\n"))
        await link.until(b"hello\r\n")
        client.send(b"0\r\n%b: theirs\r\n\r\n" % name)
        answer = await client.answer("POST")
        assert (answer.status, answer.value("Connection")) == (400, "close")
        assert b"theirs" not in await link.gone()


@pytest.mark.parametrize("body", [b"5\nhello", b"-5\r\n", b"2\r\nhello\r\n", b"fffffffffffffffff\r\n", b"x" * 300])
async def test_s2_malformed_chunks_end_the_request(tmp_path: Path, body: bytes) -> None:
    async with stage(tmp_path) as scene:
        client, link, _ = await scene.ask(scene.gateway.request(URL, CHUNKED, method="POST", body=b"3\r\nabc\r\n"))
        await link.until(b"abc\r\n")
        client.send(body)
        answer = await client.answer("POST")
        assert (answer.status, answer.value("X-Sallyport-Error")) == (400, "invalid_request")
        assert b"0\r\n\r\n" not in await link.gone()
        assert await client.rest() == b""


async def test_a_body_over_the_routes_limit_is_413_by_its_chunks(tmp_path: Path) -> None:
    async with stage(tmp_path, routes=[one_route(**LIMITED)]) as scene:
        client, link, _ = await scene.ask(scene.gateway.request(URL, CHUNKED, method="POST", body=b"8\r\n12345678\r\n"))
        await link.until(b"12345678\r\n")
        client.send(b"1\r\n9\r\n0\r\n\r\n")
        answer = await client.answer("POST")
        assert (answer.status, answer.value("Connection")) == (413, "close")
        # What was sent is visibly not whole.
        assert await link.gone() == b""
        await scene.gateway.audit.until(1)


async def test_a_body_as_large_as_the_routes_limit_passes(tmp_path: Path) -> None:
    async with stage(tmp_path, routes=[one_route(**LIMITED)]) as scene:
        request = scene.gateway.request(URL, b"Content-Length: 8", method="POST", body=b"12345678")
        client, link, _ = await scene.ask(request)
        assert await link.exactly(8) == b"12345678"
        link.send(OK)
        assert (await client.answer()).status == 200


@pytest.mark.parametrize(
    ("line", "body"),
    [
        pytest.param(CHUNKED, b"5\nhello", id="malformed"),
        pytest.param(CHUNKED, b"9\r\n123456789\r\n", id="too long"),
        pytest.param(CHUNKED, b"0\r\nCookie: theirs\r\n\r\n", id="a forbidden trailer"),
    ],
)
async def test_a_body_that_is_faulty_at_once_leaves_its_head_unsent(tmp_path: Path, line: bytes, body: bytes) -> None:
    async with stage(tmp_path, routes=[one_route(**LIMITED)]) as scene:
        client, link = await scene.warm_up()
        client.send(scene.gateway.request(URL, line, method="POST", body=body))
        assert (await client.answer("POST")).status in (400, 413)
        # The link was of no use to it, and serves the next one.
        client = await scene.gateway.client()
        client.send(scene.gateway.request(URL))
        assert (await link.head()).startswith(b"GET ")
        (record,) = await scene.gateway.audit.until(1)
        assert {record[name] for name in ("upstreamAddress", "credentialVersion", "linkReused")} == {None}
        assert record["bytesUp"] == 0


async def test_a_link_that_is_lost_by_then_is_not_given_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its upstream closed it after the handshake: whoever took it from the pool would find the books wrong."""
    if codec_kind() != "pure":
        pytest.skip("a compiled call is not replaced")
    async with stage(tmp_path) as scene:
        feed = ServedStream.feed_exchange

        def lose_first(stream: ServedStream) -> None:
            assert stream.exchange is not None
            link = stream.exchange.link
            assert link is not None
            link.leave_pool()
            feed(stream)

        await scene.warm_up()
        client = await scene.gateway.client()
        with monkeypatch.context() as patched:
            patched.setattr(ServedStream, "feed_exchange", lose_first)
            client.send(scene.gateway.request(URL, CHUNKED, method="POST", body=b"5\nhello"))
            assert (await client.answer("POST")).status == 400
        assert (scene.gateway.parts.upstreams.state.open, scene.gateway.parts.upstreams.state.idle) == (0, 0)
        await scene.warm_up()


class _Writes:
    """A transport whose writes are kept."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self.written: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.written.append(data)
        self._transport.write(data)

    def __getattr__(self, name: str) -> object:
        return getattr(self._transport, name)


@pytest.mark.parametrize(
    ("line", "body", "sent"),
    [
        pytest.param(b"Content-Length: 5", b"hello", b"hello", id="length"),
        pytest.param(CHUNKED, b"5\r\nhello\r\n0\r\n\r\n", b"5\r\nhello\r\n0\r\n\r\n", id="chunked"),
    ],
)
async def test_a_body_that_came_with_its_head_goes_with_it(
    tmp_path: Path, line: bytes, body: bytes, sent: bytes
) -> None:
    async with stage(tmp_path) as scene:
        client, _ = await scene.warm_up()
        (link,) = scene.gateway.parts.upstreams.state.idle_links(lambda key: True)
        writes = _Writes(link.transport)
        link.transport = cast(asyncio.Transport, writes)
        client.send(scene.gateway.request(URL, line, method="POST", body=body))
        await until(lambda: bool(writes.written))
        (whole,) = writes.written
        assert whole.startswith(b"POST ")
        assert whole.endswith(b"\r\n\r\n" + sent)
