"""Answers on their way down, from an origin whose every byte is chosen: framing, interim answers, scrubbing, limits."""

import asyncio
import gzip
import socket
import zlib
from base64 import b64encode
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.answer import Answer
from gateway.build import codec_kind
from gateway.config import Limits
from gateway.core.content_coding import STEP_BYTES, GzipReader
from gateway.core.scrub import Needles
from gateway.serve import Exchange
from gateway.stream import ServedStream
from gateway.upstream import UpstreamLink
from sallyport.net.turns import LoopTurns
from sallyport.plan.codec import seal
from sallyport.secret import Secret
from sallyport.wire.errors import RemoteProtocolError
from sallyport.wire.http1.head import ResponseHead
from tests.support.gateway_plans import header
from tests.support.in_process import proxy_token
from tests.support.passing_time import let_time_pass
from tests.support.plan_documents import plan_document
from tests.support.raw_end import RawAnswer, RawEnd
from tests.support.stage import HOST, OK, OPEN_URL, SECRET, URL, Stage, one_route, stage
from tests.support.until import until

pytestmark = pytest.mark.uvloop

NEXT = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnext"
CANARY = SECRET.encode()


async def answer_to(scene: Stage, answer: bytes, method: str = "GET", url: str = URL) -> tuple[RawAnswer, RawEnd]:
    """Carry one exchange whose answer is these bytes and the end of the link; return what the sandbox got."""
    client, link, _ = await scene.ask(scene.gateway.request(url, method=method))
    link.send(answer)
    link.close()
    return await client.answer(method), client


async def next_is_served(scene: Stage, client: RawEnd, link: RawEnd, *, pooled: bool) -> None:
    """Send another request on the stream and require an answer of its own, on the same link or on a fresh one."""
    assert scene.gateway.parts.upstreams.state.idle == int(pooled)
    client.send(scene.gateway.request(URL))
    link = link if pooled else await scene.origin.link()
    await link.head()
    link.send(NEXT)
    assert (await client.answer()).body == b"next"


def fields_of(head: bytes) -> list[bytes]:
    return head.split(b"\r\n")[1:]


# Framing


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", b"hello", id="length"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b"", id="empty"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\n\r\n",
            b"hello",
            id="chunked",
        ),
        pytest.param(b"HTTP/1.1 204 No Content\r\n\r\n", b"", id="204"),
        pytest.param(b"HTTP/1.1 304 Not Modified\r\nETag: x\r\nContent-Length: 5\r\n\r\n", b"", id="304"),
        pytest.param(b"HTTP/1.1 500 \r\nContent-Length: 1\r\n\r\nx", b"x", id="no reason"),
    ],
)
@pytest.mark.parametrize("split", [False, True], ids=["at once", "byte by byte"])
async def test_an_answer_arrives_and_its_link_serves_the_next(
    tmp_path: Path, answer: bytes, body: bytes, split: bool
) -> None:
    async with stage(tmp_path) as scene:
        client, link, _ = await scene.ask(scene.gateway.request(URL))
        for piece in [answer[at : at + 1] for at in range(len(answer))] if split else [answer]:
            link.send(piece)
            await asyncio.sleep(0)
        got = await client.answer()
        assert (got.status, got.body) == (int(answer[9:12]), body)
        await next_is_served(scene, client, link, pooled=True)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
    ],
)
async def test_an_answer_to_head_has_no_body(tmp_path: Path, answer: bytes) -> None:
    async with stage(tmp_path) as scene:
        client, link, head = await scene.ask(scene.gateway.request(URL, method="HEAD"))
        assert head.startswith(b"HEAD /v1/x HTTP/1.1\r\n")
        link.send(answer)
        got = await client.answer("HEAD")
        assert fields_of(got.head) == [line for line in fields_of(answer) if line]
        await next_is_served(scene, client, link, pooled=True)


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
async def test_an_answer_until_close_goes_on_chunked(tmp_path: Path, version: bytes) -> None:
    async with stage(tmp_path) as scene:
        got, client = await answer_to(scene, b"HTTP/%b 200 OK\r\nX: y\r\n\r\nall of it" % version)
        assert fields_of(got.head) == [b"X: y", b"Transfer-Encoding: chunked"]
        assert got.body == b"all of it"
        await next_is_served(scene, client, client, pooled=False)


async def test_s4_an_answer_in_http_1_0_is_never_pooled(tmp_path: Path) -> None:
    async with stage(tmp_path) as scene:
        client, link, _ = await scene.ask(scene.gateway.request(URL))
        link.send(b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok")
        got = await client.answer()
        assert got.head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert got.values("Connection") == []
        await next_is_served(scene, client, link, pooled=False)


async def test_an_answer_that_says_close_ends_its_link_and_not_the_stream(tmp_path: Path) -> None:
    async with stage(tmp_path) as scene:
        client, link, _ = await scene.ask(scene.gateway.request(URL))
        link.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")
        assert (await client.answer()).values("Connection") == []
        assert await link.gone() == b""
        await next_is_served(scene, client, link, pooled=False)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", id="length"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\na\r\nhalf", id="in a chunk"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n", id="between chunks"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n0\r\n", id="in trailers"),
    ],
)
async def test_a_truncated_answer_is_visibly_truncated(tmp_path: Path, answer: bytes) -> None:
    async with stage(tmp_path) as scene:
        client, link, _ = await scene.ask(scene.gateway.request(URL))
        link.send(answer)
        link.close()
        with pytest.raises(asyncio.IncompleteReadError):
            await client.answer()
        (record,) = await scene.gateway.audit.until(1)
        assert (record["status"], record["code"], record["bytesDown"]) == (200, "upstream_unreachable", 4)


async def test_an_answer_until_close_that_is_reset_is_visibly_truncated(tmp_path: Path) -> None:
    async with stage(tmp_path) as scene:
        client, link, _ = await scene.ask(scene.gateway.request(URL))
        link.send(b"HTTP/1.1 200 OK\r\n\r\nhalf")
        await client.until(b"4\r\nhalf\r\n")
        link.abort()
        assert await client.rest() == b""


@pytest.mark.parametrize("ends_in_order", [True, False], ids=["close_notify", "end of file alone"])
async def test_an_answer_until_close_by_tls(tmp_path: Path, ends_in_order: bool) -> None:
    async with stage(tmp_path) as scene:
        client = await scene.gateway.intercepted(f"{HOST}:443")
        client.send(b"GET / HTTP/1.1\r\nHost: api.test\r\n\r\n")
        link = await scene.tls_origin.link()
        await link.head()
        link.send(b"HTTP/1.1 200 OK\r\n\r\nhalf")
        await client.until(b"\r\n4\r\nhalf\r\n")
        if ends_in_order:
            link.close()
        else:
            link.writer.transport.abort()
        assert await client.until(b"\r\n\r\n") == b"0\r\n\r\n" if ends_in_order else await client.rest() == b""


async def test_trailers_are_passed_on(tmp_path: Path) -> None:
    async with stage(tmp_path) as scene:
        client, link, _ = await scene.ask(scene.gateway.request(URL))
        link.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nDigest: d\r\nX-End: 1\r\n\r\n")
        assert (await client.answer()).trailers == (b"Digest: d", b"X-End: 1")
        await next_is_served(scene, client, link, pooled=True)


@pytest.mark.parametrize("url", [URL, OPEN_URL], ids=["searched", "forwarded"])
async def test_a5_what_a_head_hides_does_not_come_behind_the_body(tmp_path: Path, url: str) -> None:
    async with stage(tmp_path) as scene:
        client, link, _ = await scene.ask(scene.gateway.request(url))
        link.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nAlt-Svc: clear\r\nX-End: 1\r\n")
        link.send(b"X-Sallyport-Error: denied_by_plan\r\n\r\n")
        assert (await client.answer()).trailers == (b"X-End: 1",)


@pytest.mark.parametrize(
    "trailer", [b"Set-Cookie: a=b", b"Content-Length: 4", b"Transfer-Encoding: chunked", b"Host: x"]
)
async def test_s2_a_forbidden_trailer_cuts_the_answer(tmp_path: Path, trailer: bytes) -> None:
    async with stage(tmp_path) as scene:
        client, link, _ = await scene.ask(scene.gateway.request(URL))
        link.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n")
        await client.until(b"1\r\nx\r\n")
        link.send(b"0\r\n%b\r\n\r\n" % trailer)
        assert await client.rest() == b""
        assert scene.gateway.parts.upstreams.state.open == 0


async def test_s11_an_answer_that_turns_out_malformed_is_502_while_nothing_of_it_was_written(tmp_path: Path) -> None:
    async with stage(tmp_path) as scene:
        client, link, _ = await scene.ask(scene.gateway.request(URL))
        link.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nHost: x\r\n\r\n")
        got = await client.answer()
        assert (got.status, got.value("X-Sallyport-Error")) == (502, "upstream_protocol_error")
        assert await link.gone() == b""
        await next_is_served(scene, client, link, pooled=False)
        first, _ = await scene.gateway.audit.until(2)
        assert (first["status"], first["code"], first["bytesDown"]) == (502, "upstream_protocol_error", 0)


async def test_a5_alt_svc_is_removed(tmp_path: Path) -> None:
    async with stage(tmp_path) as scene:
        client, link, _ = await scene.ask(scene.gateway.request(URL))
        link.send(b"HTTP/1.1 103 Early Hints\r\nAlt-Svc: h3\r\nLink: </a>\r\n\r\n")
        link.send(b'HTTP/1.1 200 OK\r\nALT-SVC: h3=":443"\r\nContent-Length: 2\r\nVia: x\r\n\r\nok')
        assert fields_of((await client.answer()).head) == [b"Link: </a>"]
        assert fields_of((await client.answer()).head) == [b"Via: x", b"Content-Length: 2"]


async def test_an_upstream_cannot_speak_for_the_gateway(tmp_path: Path) -> None:
    async with stage(tmp_path) as scene:
        client, link, _ = await scene.ask(scene.gateway.request(URL))
        ours = b"x_sallyport_Error: denied_by_plan\r\nProxy-Status: sallyport; error=x\r\n"
        link.send(b"HTTP/1.1 103 Early Hints\r\n%b\r\nHTTP/1.1 403 No\r\n%bContent-Length: 0\r\n\r\n" % (ours, ours))
        assert fields_of((await client.answer()).head) == []
        assert fields_of((await client.answer()).head) == [b"Content-Length: 0"]


async def test_c2_a_redirect_is_passed_on_and_not_followed(tmp_path: Path) -> None:
    async with stage(tmp_path) as scene:
        client, link, _ = await scene.ask(scene.gateway.request(URL))
        link.send(b"HTTP/1.1 307 Temporary Redirect\r\nLocation: http://evil.test/\r\nContent-Length: 0\r\n\r\n")
        got = await client.answer()
        assert (got.status, got.value("Location")) == (307, "http://evil.test/")
        assert len(scene.origin.ends) == 1


# Interim answers


async def test_s4_eight_interim_answers_are_relayed(tmp_path: Path) -> None:
    async with stage(tmp_path) as scene:
        client, link, _ = await scene.ask(scene.gateway.request(URL))
        link.send(b"".join(b"HTTP/1.1 103 Early Hints\r\nX-Number: %d\r\n\r\n" % number for number in range(8)) + OK)
        for number in range(8):
            interim = await client.answer()
            assert (interim.status, interim.value("X-Number")) == (103, str(number))
        assert (await client.answer()).body == b"ok"
        await next_is_served(scene, client, link, pooled=True)


async def test_s4_a_ninth_interim_answer_is_refused(tmp_path: Path) -> None:
    async with stage(tmp_path) as scene:
        client, link, _ = await scene.ask(scene.gateway.request(URL))
        link.send(b"HTTP/1.1 102 Processing\r\n\r\n" * 9 + OK)
        for _ in range(8):
            assert (await client.answer()).status == 102
        assert (await client.answer()).status == 502
        assert scene.gateway.parts.upstreams.state.open == 0


# Malformed answers (S11)

MALFORMED = {
    "no http": b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
    "http 2": b"HTTP/2 200 OK\r\n\r\n",
    "lower case": b"http/1.1 200 OK\r\n\r\n",
    "status of four digits": b"HTTP/1.1 2000 OK\r\n\r\n",
    "status 099": b"HTTP/1.1 099 OK\r\n\r\n",
    "status 600": b"HTTP/1.1 600 OK\r\n\r\n",
    "two spaces": b"HTTP/1.1  200 OK\r\n\r\n",
    "empty line first": b"\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "length and coding": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    "list of lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\nhello",
    "signed length": b"HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello",
    "hexadecimal length": b"HTTP/1.1 200 OK\r\nContent-Length: 0x5\r\n\r\nhello",
    "empty length": b"HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\n",
    "xchunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n",
    "gzip, chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
    "chunked in 1.0": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "folded line": b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 0\r\n\r\n",
    "bare line feed": b"HTTP/1.1 200 OK\nX: a\r\nContent-Length: 0\r\n\r\n",
    "bare carriage return": b"HTTP/1.1 200 OK\r\nX: a\rb\r\nContent-Length: 0\r\n\r\n",
    "nul": b"HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 0\r\n\r\n",
    "space before the colon": b"HTTP/1.1 200 OK\r\nContent-Length : 0\r\n\r\n",
    "no colon": b"HTTP/1.1 200 OK\r\nX\r\nContent-Length: 0\r\n\r\n",
    "no name": b"HTTP/1.1 200 OK\r\n: x\r\nContent-Length: 0\r\n\r\n",
    "underscore twin": b"HTTP/1.1 200 OK\r\nContent_Length: 0\r\n\r\n",
    "interim with a body": b"HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\nhello",
    "unsolicited 101": b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    "long head": b"HTTP/1.1 200 OK\r\nX: " + b"x" * 4096 + b"\r\n\r\n",
    "endless head": b"HTTP/1.1 200 OK\r\nX: " + b"x" * 4096,
    "empty": b"",
}


@pytest.mark.parametrize("url", [URL, OPEN_URL], ids=["injected", "forwarded"])
@pytest.mark.parametrize("answer", MALFORMED.values(), ids=MALFORMED)
async def test_s11_a_malformed_answer_is_502_and_its_link_is_not_pooled(
    tmp_path: Path, answer: bytes, url: str
) -> None:
    async with stage(tmp_path, further={"limits": {"head_bytes": "4KiB"}}) as scene:
        client, link, _ = await scene.ask(scene.gateway.request(url))
        link.send(answer)
        if not answer:
            link.close()
        got = await client.answer()
        code = "upstream_protocol_error" if answer else "upstream_unreachable"
        assert (got.status, got.value("X-Sallyport-Error")) == (502, code)
        assert got.value("Content-Type") == "application/problem+json"
        assert got.value("Proxy-Status").startswith("sallyport; error=")
        assert await link.gone() == b""
        await next_is_served(scene, client, link, pooled=False)
        first, second = await scene.gateway.audit.until(2)
        assert (first["status"], first["code"], second["status"]) == (502, code, 200)


@pytest.mark.parametrize(
    "body",
    [b"5\nhello", b"g\r\n", b"-1\r\n", b"0x5\r\n", b"fffffffffffffffff\r\n", b"2\r\nhello\r\n", b" 5\r\n", b"5" * 300],
)
async def test_s11_malformed_chunks_cut_the_answer(tmp_path: Path, body: bytes) -> None:
    async with stage(tmp_path) as scene:
        client, link, _ = await scene.ask(scene.gateway.request(URL))
        link.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ngood\r\n")
        await client.until(b"4\r\ngood\r\n")
        link.send(body)
        assert await client.rest() == b""
        assert await link.gone() == b""
        (record,) = await scene.gateway.audit.until(1)
        assert (record["status"], record["code"]) == (200, "upstream_protocol_error")
        assert scene.gateway.parts.upstreams.state.open == 0


EXTRA = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nsmugg"


@pytest.mark.parametrize("url", [URL, OPEN_URL], ids=["injected", "forwarded"])
@pytest.mark.parametrize(
    ("method", "answer"),
    [
        pytest.param("GET", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", id="length"),
        pytest.param("GET", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", id="chunked"),
        pytest.param("GET", b"HTTP/1.1 204 No Content\r\n\r\n", id="204"),
        pytest.param("GET", b"HTTP/1.1 204 No Content\r\nContent-Length: 43\r\n\r\n", id="204 with a length"),
        pytest.param("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 43\r\n\r\n", id="304"),
        pytest.param("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 43\r\n\r\n", id="HEAD"),
        pytest.param("HEAD", b"HTTP/1.1 200 OK\r\n\r\n", id="HEAD without a length"),
        pytest.param("HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", id="HEAD chunked"),
    ],
)
async def test_s11_bytes_behind_an_answer_reach_nobody(tmp_path: Path, method: str, answer: bytes, url: str) -> None:
    assert len(EXTRA) == 43
    async with stage(tmp_path) as scene:
        client, link, _ = await scene.ask(scene.gateway.request(url, method=method))
        link.send(answer + EXTRA)
        await client.answer(method)
        assert await link.gone() == b""
        await next_is_served(scene, client, link, pooled=False)


async def test_s11_bytes_on_an_idle_link_end_it(tmp_path: Path) -> None:
    async with stage(tmp_path) as scene:
        client, link = await scene.warm_up()
        link.send(EXTRA)
        assert await link.gone() == b""
        await next_is_served(scene, client, link, pooled=False)


# Any cut (S11)


class Played:
    """The exchange, stream and link of one Answer, played without sockets: what becomes of it, and its payload."""

    def __init__(self, method: str, *, scrub: bool = True) -> None:
        self.verdict = ""
        self.head_block = self.payload = b""
        self.parts = SimpleNamespace(
            limits=Limits(),
            metrics=SimpleNamespace(scrub_unscanned=0),
            scrub=SimpleNamespace(lets_unscannable_pass=True),
            codings=LoopTurns[str](lambda callback: self.due.append(callback)),
        )
        self.table = SimpleNamespace(sandbox_id="sbx_one")
        self.due: list[Callable[[], None]] = []
        self.head = SimpleNamespace(method=method)
        self.injection = SimpleNamespace(needles=Needles.of(Secret(CANARY))) if scrub else None
        self.capture = self
        self.stream = SimpleNamespace(write=lambda data: None, transport=self, is_writing_held=False)
        link = SimpleNamespace(transport=self, user=None, hold_reading=str, resume_reading=str)
        self.answer = link.user = Answer(cast(Exchange, self), cast(UpstreamLink, link))

    def feed(self, piece: bytes) -> None:
        """Bytes of the link. Behind an answer's end they spoil it, as UpstreamLink has it."""
        if self.verdict:
            self.verdict = self.verdict.replace("whole", "spoilt")
            return
        self.answer.answer_received(piece)
        while self.due and not self.verdict:
            self.due.pop()()

    def end(self) -> None:
        if not self.verdict:
            self.answer.link_ended(None)

    # What an Answer asks of them

    def answer_head(self, block: bytes) -> None:
        self.head_block = block

    def answer_body(self, data: bytes) -> None:
        self.payload += data

    def write(self, data: bytes) -> None: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def is_last(self) -> bool:
        return False

    def answer_began(self, answer: Answer, head: ResponseHead, rest: bytes) -> None:
        if head.status == 101:
            raise RemoteProtocolError("not asked for")
        answer.relay(head, rest)

    def answer_progressed(self) -> None: ...

    def answer_ended(self, *, is_clean: bool) -> None:
        self.verdict = "whole" if is_clean else "spoilt"

    def answer_malformed(self, reason: str) -> None:
        self.verdict = "malformed"

    def answer_cut(self, detail: str) -> None:
        self.verdict = "cut"


def played(method: str, answer: bytes, cuts: list[int], *, scrub: bool) -> tuple[str, bytes, bytes]:
    scene = Played(method, scrub=scrub)
    edges = [0, *sorted(at % (len(answer) + 1) for at in cuts), len(answer)]
    for start, end in pairwise(edges):
        if start < end:  # a link never brings nothing
            scene.feed(answer[start:end])
    scene.end()
    return scene.verdict, scene.head_block, scene.payload


def coded(plain: bytes) -> bytes:
    body = gzip.compress(plain)
    return b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body) + body


SPLIT = [
    *MALFORMED.values(),
    OK + b"x",
    b"HTTP/1.1 103 Early Hints\r\nX: y\r\n\r\n" + OK,
    b"HTTP/1.1 200 OK\r\nContent-Length: 26\r\n\r\n<%b>!!" % CANARY,
    b"HTTP/1.1 200 OK\r\n\r\nuntil close " + CANARY,
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4;x\r\n<%b\r\n12\r\n%b\r\n0\r\nX: %b\r\n\r\n"
    % (CANARY[:3], CANARY[3:21], CANARY),
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nHost: x\r\n\r\n",
    b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 304 Not Modified\r\nContent-Encoding: gzip\r\n\r\n",
    b"HTTP/1.1 206 Partial Content\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\nok",
    coded(b"<" + CANARY + b">" + bytes(300)),
    coded(b"<" + CANARY)[:-1],
    coded(bytes(300)) + b"!",
]


@pytest.mark.skipif(codec_kind() != "pure", reason="a compiled Answer takes no stand-in for its exchange")
@given(
    st.sampled_from(SPLIT),
    st.lists(st.integers(0, 5000), max_size=8),
    st.sampled_from(["GET", "HEAD"]),
    st.booleans(),
    st.one_of(st.none(), st.tuples(st.integers(0, 400), st.integers(0, 255))),
)
def test_property_s11_cuts_do_not_change_what_becomes_of_an_answer(
    answer: bytes, cuts: list[int], method: str, scrub: bool, damage: tuple[int, int] | None
) -> None:
    if damage is not None:
        at = damage[0] % (len(answer) + 1)
        answer = answer[:at] + bytes([damage[1]]) + answer[at + 1 :]
    whole, split = (played(method, answer, where, scrub=scrub) for where in ([], cuts))
    assert split[0] == whole[0], "the verdict"
    if whole[0] in ("whole", "spoilt"):
        assert split == whole
    elif whole[0] == "malformed":
        assert CANARY not in split[2] or not scrub
    else:
        assert split[1:] == whole[1:]


# Scrubbing (C3)

BLANK = b"b" * len(CANARY)


@pytest.mark.parametrize(
    ("answer", "blanked"),
    [
        pytest.param(b"HTTP/1.1 200 OK\r\nX-Echo: %b\r\nContent-Length: 0\r\n\r\n", b"X-Echo: ", id="head"),
        pytest.param(b"HTTP/1.1 200 %b\r\nContent-Length: 0\r\n\r\n", b"HTTP/1.1 200 ", id="reason"),
        pytest.param(b"HTTP/1.1 103 Early Hints\r\nX-Echo: %b\r\n\r\n" + OK, b"X-Echo: ", id="interim head"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 24\r\n\r\n<%b>", b"\r\n\r\n<", id="body of known length"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n18\r\n<%b>\r\n0\r\n\r\n", b"\r\n<", id="chunk"
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX-Echo: %b\r\n\r\n",
            b"X-Echo: ",
            id="trailer",
        ),
        pytest.param(
            b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: %b\r\nContent-Length: 0\r\n\r\n", b": ", id="401"
        ),
    ],
)
async def test_c3_an_echoed_secret_is_blanked(tmp_path: Path, answer: bytes, blanked: bytes) -> None:
    async with stage(tmp_path) as scene:
        client, link, _ = await scene.ask(scene.gateway.request(URL, b"Connection: close"))
        link.send(answer % CANARY)
        got = await client.rest()
        assert CANARY not in got
        position = got.find(blanked)
        assert position >= 0
        assert len(set(got[position + len(blanked) :][: len(CANARY)])) == 1, got
        (record,) = await scene.gateway.audit.until(1)
        assert record["scrubbed"] == 1
        assert scene.gateway.metric("sallyport_scrub_matches_total") == 1


async def test_c3_matches_in_interim_and_final_answer_are_counted_together(tmp_path: Path) -> None:
    async with stage(tmp_path) as scene:
        client, link, _ = await scene.ask(scene.gateway.request(URL))
        link.send(b"HTTP/1.1 103 Early Hints\r\nX: %b\r\n\r\n" % CANARY)
        link.send(b"HTTP/1.1 200 OK\r\nX: %b\r\nContent-Length: 22\r\n\r\n%b" % (CANARY, CANARY))
        assert CANARY not in (await client.answer()).head
        assert CANARY not in (await client.answer()).head
        (record,) = await scene.gateway.audit.until(1)
        assert record["scrubbed"] == 3


async def test_c3_a_secret_across_every_border(tmp_path: Path) -> None:
    encoded = b64encode(b"x" + CANARY + b"y")
    payload = b"<" + CANARY + b"|" + encoded + b">"
    async with stage(tmp_path) as scene:
        client, link, _ = await scene.ask(scene.gateway.request(URL))
        link.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for at in range(len(payload)):
            link.send(b"1\r\n%b\r\n" % payload[at : at + 1])
            await asyncio.sleep(0)
        link.send(b"0\r\n\r\n")
        got = (await client.answer()).body
        assert len(got) == len(payload)
        assert CANARY not in got
        assert encoded[4:-4] not in got
        (record,) = await scene.gateway.audit.until(1)
        assert record["scrubbed"] == 2


async def test_c3_a_secret_in_a_trailer_is_blanked(tmp_path: Path) -> None:
    async with stage(tmp_path) as scene:
        client, link, _ = await scene.ask(scene.gateway.request(URL))
        link.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-Echo: %b\r\n\r\n" % CANARY)
        (trailer,) = (await client.answer()).trailers
        assert trailer.startswith(b"X-Echo: ")
        assert len(trailer) == len(b"X-Echo: ") + len(CANARY)
        assert CANARY not in trailer


async def test_c3_an_answer_to_a_forwarded_request_is_left_alone(tmp_path: Path) -> None:
    async with stage(tmp_path) as scene:
        client, link, head = await scene.ask(scene.gateway.request(OPEN_URL, b"Accept-Encoding: br"))
        assert b"Accept-Encoding: br\r\n" in head
        link.send(b"HTTP/1.1 200 OK\r\nContent-Length: 22\r\n\r\n" + CANARY)
        assert (await client.answer()).body == CANARY


# C3: answers coded in spite of `Accept-Encoding: identity`

CODED_LINES = b'Content-Encoding: gzip\r\nETag: "x"\r\nDigest: d\r\nContent-Digest: d\r\nRepr-Digest: d\r\nVary: a\r\n'
ECHO = b"<" + CANARY + b"> and much else. " * 40


@pytest.mark.parametrize("framing", ["length", "chunked", "until close", "until close in 1.0"])
@pytest.mark.parametrize("split", [False, True], ids=["at once", "byte by byte"])
async def test_c3_gzip_is_undone_and_searched(tmp_path: Path, framing: str, split: bool) -> None:
    coded = gzip.compress(ECHO[:100]) + gzip.compress(ECHO[100:])
    async with stage(tmp_path) as scene:
        client, link, head = await scene.ask(scene.gateway.request(URL, b"Accept-Encoding: gzip"))
        assert b"\r\nAccept-Encoding: identity\r\n" in head + b"\r\n"
        answer = b"HTTP/1.%d 200 OK\r\n" % (not framing.endswith("1.0")) + CODED_LINES
        if framing == "length":
            answer += b"Content-Length: %d\r\n\r\n%b" % (len(coded), coded)
        elif framing == "chunked":
            answer += b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n" % (len(coded), coded)
            answer += b"0\r\nDigest: d\r\nX-End: 1\r\n\r\n"
        else:
            answer += b"\r\n" + coded
        for piece in [answer[at : at + 1] for at in range(len(answer))] if split else [answer]:
            link.send(piece)
            await asyncio.sleep(0)
        if framing.startswith("until"):
            link.close()
        got = await client.answer()
        assert fields_of(got.head) == [b"Vary: a", b"Transfer-Encoding: chunked"]
        assert got.trailers == ((b"X-End: 1",) if framing == "chunked" else ())
        assert got.body == ECHO.replace(CANARY, BLANK)
        (record,) = await scene.gateway.audit.until(1)
        assert (record["scrubbed"], record["bytesDown"]) == (1, len(ECHO))
        assert scene.gateway.metric("sallyport_scrub_unscanned_total") == 0
        await next_is_served(scene, client, link, pooled=not framing.startswith("until"))


@pytest.mark.parametrize("at", [STEP_BYTES - 9, 4 * STEP_BYTES - 9], ids=["of a step", "of a turn"])
async def test_c3_a_secret_across_the_border_of_what_is_undone_at_once(tmp_path: Path, at: int) -> None:
    plain = bytes(at) + CANARY + b"end"
    coded = gzip.compress(plain)
    async with stage(tmp_path) as scene:
        client, link, _ = await scene.ask(scene.gateway.request(URL))
        link.send(b"HTTP/1.1 200 OK\r\nContent-Encoding: x-gzip\r\nContent-Length: %d\r\n\r\n" % len(coded) + coded)
        assert (await client.answer()).body == plain.replace(CANARY, BLANK)
        await next_is_served(scene, client, link, pooled=True)


@pytest.mark.parametrize(
    ("method", "status", "kept"),
    [
        ("HEAD", b"200 OK", [b"Vary: a"]),
        ("GET", b"304 Not Modified", [b"Vary: a"]),
        ("GET", b"204 No Content", [b"Vary: a"]),
    ],
)
async def test_c3_a_head_without_a_body_says_what_the_answer_to_a_get_says(
    tmp_path: Path, method: str, status: bytes, kept: list[bytes]
) -> None:
    async with stage(tmp_path, further={"scrub": {"unscannable": "refuse"}}) as scene:
        client, link, _ = await scene.ask(scene.gateway.request(URL, method=method))
        link.send(b"HTTP/1.1 %b\r\n%bContent-Length: %d\r\n\r\n" % (status, CODED_LINES, 0 if method == "GET" else 20))
        got = await client.answer(method)
        assert fields_of(got.head) == kept
        await next_is_served(scene, client, link, pooled=True)


UNSCANNABLE = {
    "br": b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\n",
    "deflate": b"HTTP/1.1 200 OK\r\nContent-Encoding: deflate\r\n",
    "two codings": b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip, zstd\r\n",
    "part of a gzip": b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 5-8/99\r\nContent-Encoding: gzip\r\n",
}


@pytest.mark.parametrize("head", UNSCANNABLE.values(), ids=UNSCANNABLE)
async def test_c3_what_cannot_be_undone_passes_and_is_counted(tmp_path: Path, head: bytes) -> None:
    async with stage(tmp_path) as scene:
        client, link, _ = await scene.ask(scene.gateway.request(URL))
        link.send(head + b'ETag: "x"\r\nContent-Length: 4\r\n\r\n\x1f\x8bzz')
        got = await client.answer()
        assert got.body == b"\x1f\x8bzz"
        assert got.head + b"\r\n" == head + b'ETag: "x"\r\nContent-Length: 4\r\n'
        await next_is_served(scene, client, link, pooled=True)
        assert scene.gateway.metric("sallyport_scrub_unscanned_total") == 1


@pytest.mark.parametrize("head", UNSCANNABLE.values(), ids=UNSCANNABLE)
async def test_c3_what_cannot_be_undone_is_502_where_the_operator_says_so(tmp_path: Path, head: bytes) -> None:
    async with stage(tmp_path, further={"scrub": {"unscannable": "refuse"}}) as scene:
        client, link, _ = await scene.ask(scene.gateway.request(URL))
        link.send(head + b"Content-Length: 4\r\n\r\n\x1f\x8bzz")
        got = await client.answer()
        assert (got.status, got.value("X-Sallyport-Error")) == (502, "upstream_protocol_error")
        assert b"content coding" in got.body
        assert await link.gone() == b""
        await next_is_served(scene, client, link, pooled=False)
        assert scene.gateway.metric("sallyport_scrub_unscanned_total") == 0


async def test_c3_a_forwarded_answer_keeps_its_coding_whatever_the_operator_says(tmp_path: Path) -> None:
    async with stage(tmp_path, further={"scrub": {"unscannable": "refuse"}}) as scene:
        for coding in (b"br", b"gzip"):
            client, link, _ = await scene.ask(scene.gateway.request(OPEN_URL))
            link.send(b"HTTP/1.1 200 OK\r\nContent-Encoding: %b\r\nContent-Length: 4\r\n\r\nzzzz" % coding)
            got = await client.answer()
            assert (got.value("Content-Encoding"), got.body) == (coding.decode(), b"zzzz")
            link.close()
            await link.gone()


@pytest.mark.parametrize("coding", [b"", b"identity", b"identity, identity"])
async def test_c3_identity_by_name_is_no_coding(tmp_path: Path, coding: bytes) -> None:
    async with stage(tmp_path, further={"scrub": {"unscannable": "refuse"}}) as scene:
        client, link, _ = await scene.ask(scene.gateway.request(URL))
        link.send(b"HTTP/1.1 200 OK\r\nContent-Encoding: %b\r\nContent-Length: 22\r\n\r\n%b" % (coding, CANARY))
        got = await client.answer()
        assert (got.value("Content-Encoding"), got.body) == (coding.decode(), BLANK)


@pytest.mark.parametrize("damage", ["no gzip", "cut short"])
async def test_c3_broken_gzip_that_is_here_at_once_is_502(tmp_path: Path, damage: str) -> None:
    coded = gzip.compress(ECHO)
    coded = {"no gzip": b"not at all", "cut short": coded[:-1]}[damage]
    async with stage(tmp_path) as scene:
        client, link, _ = await scene.ask(scene.gateway.request(URL))
        link.send(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(coded) + coded)
        got = await client.answer()
        assert (got.status, got.value("X-Sallyport-Error")) == (502, "upstream_protocol_error")
        assert await link.gone() == b""
        await next_is_served(scene, client, link, pooled=False)


@pytest.mark.parametrize("framing", [b"Transfer-Encoding: chunked", b"Content-Length: 2000", b"X-Until: close"])
async def test_c3_gzip_that_breaks_later_cuts_the_answer(tmp_path: Path, framing: bytes) -> None:
    async with stage(tmp_path) as scene:
        client, link, _ = await scene.ask(scene.gateway.request(URL))
        is_chunked = framing.startswith(b"Transfer")
        # Flushed, so that what was written can be read.
        writer = zlib.compressobj(wbits=31)
        begin = writer.compress(b"good") + writer.flush(zlib.Z_SYNC_FLUSH)
        link.send(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n%b\r\n\r\n" % framing)
        link.send(b"%x\r\n%b\r\n" % (len(begin), begin) if is_chunked else begin)
        await client.until(b"4\r\ngood\r\n")
        if framing.startswith(b"X-"):
            link.close()
        else:
            link.send(b"4\r\n\xff\xff\xff\xff\r\n" if is_chunked else b"\xff" * 8)
        assert await client.rest() == b""
        (record,) = await scene.gateway.audit.until(1)
        assert (record["status"], record["code"]) == (200, "upstream_protocol_error")
        assert scene.gateway.parts.upstreams.state.open == 0


async def test_c3_trailers_of_which_none_is_left(tmp_path: Path) -> None:
    body = gzip.compress(ECHO)
    async with stage(tmp_path) as scene:
        client, link, _ = await scene.ask(scene.gateway.request(URL, b"Connection: close"))
        link.send(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n")
        link.send(b"%x\r\n%b\r\n0\r\nDigest: d\r\n\r\n" % (len(body), body))
        assert (await client.rest()).endswith(b". \r\n0\r\n\r\n")


async def test_c3_an_event_in_gzip_is_not_delayed(tmp_path: Path) -> None:
    async with stage(tmp_path) as scene:
        client, link, _ = await scene.ask(scene.gateway.request(URL))
        link.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Encoding: gzip\r\n\r\n")
        await client.head()
        writer = zlib.compressobj(wbits=31)
        for number in range(3):
            event = b"data: %d\n\n" % number
            link.send(writer.compress(event) + writer.flush(zlib.Z_SYNC_FLUSH))
            assert await client.until(b"\n\n\r\n") == b"%x\r\n%b\r\n" % (len(event), event)


async def test_scrubbing_can_be_switched_off(tmp_path: Path) -> None:
    async with stage(tmp_path, further={"scrub": {"enabled": False}}) as scene:
        client, link, head = await scene.ask(scene.gateway.request(URL, b"Accept-Encoding: br"))
        assert b"Accept-Encoding: br\r\n" in head
        link.send(b"HTTP/1.1 200 OK\r\nContent-Length: 22\r\n\r\n" + CANARY)
        assert (await client.answer()).body == CANARY


@pytest.mark.parametrize("framing", [b"Transfer-Encoding: chunked", b"X-Until: close"])
async def test_events_are_written_as_they_arrive(tmp_path: Path, framing: bytes) -> None:
    async with stage(tmp_path) as scene:
        client, link, _ = await scene.ask(scene.gateway.request(URL))
        link.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n%b\r\n\r\n" % framing)
        await client.head()
        is_chunked = framing.startswith(b"Transfer")
        for number in range(3):
            # The last byte of an event is never the beginning of a secret, so nothing is held back.
            event = b"data: %d canary-\n\n" % number
            link.send(b"%x\r\n%b\r\n" % (len(event), event) if is_chunked else event)
            assert await client.until(b"\n\n\r\n") == b"%x\r\n%b\r\n" % (len(event), event)
        # An event that ends as the secret begins waits for one more byte, and only from where it begins.
        link.send(b"%x\r\ndata: canary\r\n" % 12 if is_chunked else b"data: canary")
        assert await client.until(b"data: ") == b"6\r\ndata: "
        link.send(b"1\r\n!\r\n0\r\n\r\n" if is_chunked else b"!")
        if not is_chunked:
            link.close()
        assert await client.until(b"0\r\n\r\n") == b"\r\n7\r\ncanary!\r\n0\r\n\r\n"


# Backpressure


def streams(scene: Stage) -> list[ServedStream]:
    return [stream for stream in scene.gateway.parts.streams.all() if isinstance(stream, ServedStream)]


def narrow(scene: Stage) -> None:
    """Let the kernel take little of what the gateway writes to its sandboxes."""
    for stream in streams(scene):
        stream.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)


def waiting_bytes(scene: Stage) -> int:
    """Return how much waits to be written to sandboxes."""
    return sum(stream.transport.get_write_buffer_size() for stream in streams(scene))


LIMIT = 16 * 1024
NARROW = {"limits": {"write_buffer_bytes": "16KiB"}}
# What one turn of the loop may bring on top: a read of the transport.
ONE_READ = 256 * 1024


async def test_a_slow_sandbox_pauses_the_upstream(tmp_path: Path) -> None:
    size = 16 * 1024 * 1024
    async with stage(tmp_path, further=NARROW) as scene:
        client, link, _ = await scene.ask(scene.gateway.request(URL))
        narrow(scene)
        client.pause()
        link.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        link.send(bytes(size))
        await until(lambda: waiting_bytes(scene) > LIMIT)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await link.writer.drain()
        assert waiting_bytes(scene) <= LIMIT + ONE_READ
        client.resume()
        assert (await client.answer()).body == bytes(size)


BOMB_BYTES = 8 * 1024 * 1024
BOMB = gzip.compress(bytes(BOMB_BYTES), 9)


async def bombed(scene: Stage, url: str = URL) -> tuple[RawEnd, RawEnd]:
    """Answer a sandbox that reads nothing with little gzip that is very much; return both ends."""
    client, link, _ = await scene.ask(scene.gateway.request(url))
    narrow(scene)
    client.pause()
    link.send(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(BOMB) + BOMB)
    await until(lambda: waiting_bytes(scene) > LIMIT)
    return client, link


async def test_c3_a_gzip_bomb_waits_coded_for_a_slow_sandbox(tmp_path: Path) -> None:
    async with stage(tmp_path, further=NARROW) as scene:
        client, link = await bombed(scene)
        # Others are served, and nothing more is undone meanwhile.
        other, another, _ = await scene.ask(scene.gateway.request(URL))
        another.send(OK)
        assert (await other.answer()).body == b"ok"
        assert waiting_bytes(scene) <= LIMIT + STEP_BYTES + 1024
        client.resume()
        assert (await client.answer()).body == bytes(BOMB_BYTES)
        assert scene.gateway.parts.upstreams.state.idle == 2
        client.send(scene.gateway.request(URL))
        await link.head()
        link.send(NEXT)
        assert (await client.answer()).body == b"next"


async def test_c3_what_waits_coded_is_not_read_from_the_upstream(tmp_path: Path) -> None:
    # Members of nothing cost a step each: the sandbox reads all it gets, and still there is always more to undo.
    members = gzip.compress(b"") * 4000
    async with stage(tmp_path) as scene:
        client, link, _ = await scene.ask(scene.gateway.request(URL))
        (stream,) = streams(scene)
        assert stream.exchange is not None
        upstream = stream.exchange._answer.link  # type: ignore[union-attr]  # nobody else knows a link that is in use
        link.send(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n")
        await client.head()
        link.send(b"%x\r\n%b\r\n" % (len(members), members))
        await until(lambda: not upstream.transport.is_reading())
        last = gzip.compress(b"the end.")
        link.send(b"%x\r\n%b\r\n0\r\n\r\n" % (len(last), last))
        await until(upstream.transport.is_reading)
        assert await client.until(b"0\r\n\r\n") == b"8\r\nthe end.\r\n0\r\n\r\n"
        await next_is_served(scene, client, link, pooled=True)


async def test_c3_a_link_that_goes_before_its_answer_is_undone_costs_nothing(tmp_path: Path) -> None:
    async with stage(tmp_path, further=NARROW) as scene:
        client, link = await bombed(scene)
        (stream,) = streams(scene)
        assert stream.exchange is not None
        upstream = stream.exchange._answer.link  # type: ignore[union-attr]  # nobody else knows a link that is in use
        before = waiting_bytes(scene)
        upstream.transport.abort()
        await until(lambda: upstream.is_lost)
        assert waiting_bytes(scene) == before, "nothing is undone for a sandbox that does not read"
        client.resume()
        assert (await client.answer()).body == bytes(BOMB_BYTES)
        await next_is_served(scene, client, link, pooled=False)


async def test_c3_what_waits_coded_ends_with_its_time_although_its_link_is_gone(tmp_path: Path) -> None:
    async with stage(tmp_path, further=NARROW) as scene:
        client, _ = await bombed(scene)
        (stream,) = streams(scene)
        upstream = stream.exchange._answer.link  # type: ignore[union-attr]  # nobody else knows a link that is in use
        upstream.transport.abort()
        await until(lambda: upstream.is_lost)
        let_time_pass(scene.gateway.parts.clock, scene.gateway.parts.timeouts.answer_body + 1)
        (record,) = await scene.gateway.audit.until(1)
        assert (record["status"], record["code"]) == (200, "upstream_timeout")
        client.resume()
        assert not (await client.gone()).endswith(b"0\r\n\r\n")


class Steps:
    """Counts the steps by which gzip is undone, of all answers, in each turn of the loop."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.in_turns = [0]
        self._loop = asyncio.get_running_loop()
        self._is_over = False
        step = GzipReader.step

        def counted(gzip: GzipReader) -> bytes:
            self.in_turns[-1] += 1
            return step(gzip)

        monkeypatch.setattr(GzipReader, "step", counted)
        self._turn()

    def _turn(self) -> None:
        if not self._is_over:
            self.in_turns.append(0)
            self._loop.call_soon(self._turn)

    def stop(self) -> None:
        self._is_over = True

    @property
    def taken(self) -> int:
        return sum(self.in_turns)


# Of a clock that moves by a second whenever it is read: so a turn of the loop has time for three steps.
TURN_STEPS = 3


def take_steps(scene: Stage) -> None:
    """Let the line of what is to be undone count steps in the place of time."""
    seconds = 0.0

    def tick() -> float:
        nonlocal seconds
        seconds += 1.0
        return seconds

    scene.gateway.parts.codings = LoopTurns(asyncio.get_running_loop().call_soon, float(TURN_STEPS), tick)


def in_gzip(size: int) -> bytes:
    """Return a whole answer whose body is so many bytes of zero in gzip."""
    coded = gzip.compress(bytes(size), 9)
    return b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(coded) + coded


FLOOD, FLOOD_STEPS = 40, 6


@pytest.mark.parametrize("size", [FLOOD_STEPS * STEP_BYTES, STEP_BYTES // 2], ids=["much", "little"])
async def test_t6_however_many_answers_are_gzip_a_turn_of_the_loop_undoes_as_little_as_of_one(
    tmp_path: Path, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with stage(tmp_path) as scene:
        take_steps(scene)
        asked = [await scene.ask(scene.gateway.request(URL)) for _ in range(FLOOD)]
        steps = Steps(monkeypatch)
        answer = in_gzip(size)
        for _, link, _ in asked:
            link.send(answer)
        for client, _, _ in asked:
            assert (await client.answer()).body == bytes(size)
        steps.stop()
        assert steps.taken >= FLOOD * size // STEP_BYTES
        # One answer may have taken a step as it was read, in a turn in which nobody was in line.
        assert max(steps.in_turns) <= TURN_STEPS + 1
        assert scene.gateway.parts.codings.waiting == 0
        assert scene.gateway.parts.upstreams.state.idle == FLOOD


async def test_t6_forty_answers_of_one_sandbox_that_are_gzip_leave_another_its_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with stage(tmp_path) as scene:
        take_steps(scene)
        theirs = [await scene.ask(scene.gateway.request(URL)) for _ in range(FLOOD)]
        document = plan_document([one_route()], [], default="passthrough")
        scene.gateway.parts.plans.apply(seal({**document, "sandboxId": "sbx_two"}))
        scene.gateway.token = proxy_token("sbx_two")
        neighbour, its_link, _ = await scene.ask(scene.gateway.request(URL))
        steps = Steps(monkeypatch)
        for _, link, _ in theirs:
            link.send(in_gzip(FLOOD_STEPS * STEP_BYTES))
        await until(lambda: scene.gateway.parts.codings.waiting == FLOOD)
        before = steps.taken
        its_link.send(in_gzip(FLOOD_STEPS * STEP_BYTES))
        assert (await neighbour.answer()).body == bytes(FLOOD_STEPS * STEP_BYTES)
        # One of theirs for each of its own, and a few in each turn of the loop that its bytes are on their way, which a
        # busy machine delays. One of each of theirs for each of its own would be all of them.
        assert steps.taken - before < FLOOD * FLOOD_STEPS // 2
        for client, _, _ in theirs:
            assert (await client.answer()).body == bytes(FLOOD_STEPS * STEP_BYTES)
        steps.stop()


@pytest.mark.parametrize("end", ["sandbox gone", "stream revoked", "link cut", "too late"])
async def test_c3_an_answer_that_is_over_stands_in_line_no_more(
    tmp_path: Path, end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with stage(tmp_path) as scene:
        parts = scene.gateway.parts
        called: list[Callable[[], None]] = []
        parts.codings = LoopTurns(called.append)
        client, link, _ = await scene.ask(scene.gateway.request(URL))
        answer = in_gzip(FLOOD_STEPS * STEP_BYTES)
        link.send(answer if end in ("sandbox gone", "stream revoked") else answer[:-1])
        steps = Steps(monkeypatch)
        await until(lambda: parts.codings.waiting == 1)
        assert steps.taken == 1
        (stream,) = streams(scene)
        if end == "sandbox gone":
            client.abort()
        elif end == "stream revoked":
            stream.revoke()
        elif end == "link cut":
            stream.exchange._answer.link.transport.abort()  # type: ignore[union-attr]  # nobody else knows it
        else:
            let_time_pass(parts.clock, parts.timeouts.answer_body + 1)
        await scene.gateway.audit.until(1)
        assert parts.codings.waiting == 0
        for call in called:
            call()
        assert steps.taken == 1
        steps.stop()


@pytest.mark.parametrize("size", [1, FLOOD_STEPS * STEP_BYTES])
async def test_c3_garbage_behind_the_end_of_gzip_cuts_the_answer(tmp_path: Path, size: int) -> None:
    async with stage(tmp_path) as scene:
        client, link, _ = await scene.ask(scene.gateway.request(URL))
        broken = gzip.compress(bytes(size), 9) + b"!"
        link.send(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(broken) + broken)
        assert not (await client.gone()).endswith(b"0\r\n\r\n")
        (record,) = await scene.gateway.audit.until(1)
        assert (record["status"], record["code"]) == (200, "upstream_protocol_error")
        assert scene.gateway.parts.upstreams.state.open == 0


async def test_an_answer_that_ends_while_the_sandbox_is_slow_leaves_its_link_readable(tmp_path: Path) -> None:
    size = 240_000
    async with stage(tmp_path, further=NARROW) as scene:
        client, link, _ = await scene.ask(scene.gateway.request(URL))
        narrow(scene)
        client.pause()
        link.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + bytes(size))
        await scene.gateway.audit.until(1)
        assert waiting_bytes(scene) > LIMIT
        other = await scene.gateway.client()
        await next_is_served(scene, other, link, pooled=True)
        client.resume()
        assert (await client.answer()).body == bytes(size)


async def test_the_next_answer_waits_for_a_slow_sandbox(tmp_path: Path) -> None:
    size = 240_000
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + bytes(size)
    async with stage(tmp_path, further=NARROW) as scene:
        client, link, _ = await scene.ask(scene.gateway.request(URL) * 20)
        narrow(scene)
        client.pause()
        link.send(answer)
        await scene.gateway.audit.until(1)
        # The second request is on its way only when the sandbox has taken the first answer.
        assert await link.is_quiet()
        assert waiting_bytes(scene) <= LIMIT + ONE_READ
        client.resume()
        assert (await client.answer()).body == bytes(size)
        for _ in range(19):
            await link.head()
            link.send(OK)
            assert (await client.answer()).body == b"ok"


async def test_header_injection_streams_a_body_of_any_size_down(tmp_path: Path) -> None:
    """C7: nothing is gathered, with a secret that is looked for all the way."""
    async with stage(tmp_path, routes=[one_route(header("X-Key"))]) as scene:
        client, link, head = await scene.ask(scene.gateway.request(URL))
        assert b"X-Key: " + CANARY in head
        link.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        await client.head()
        for number in range(8):
            piece = bytes([number]) * 65536
            link.send(b"10000\r\n%b\r\n" % piece)
            got = b""
            while len(got) < len(piece):
                length = int(await client.until(b"\r\n"), 16)
                got += (await client.exactly(length + 2))[:-2]
            assert got == piece
