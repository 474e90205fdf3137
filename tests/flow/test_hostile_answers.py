"""Answers that no upstream should send (S11, C3), by each road through a running gateway: the explicit listener, a
tunnel and a real sandboxd, each in the clear and where TLS has ended, with a TLS origin behind it.

Promise: each malformed one is a 502 or visibly cut, never whole; its link carries no other exchange, and no byte of
it is in the next answer from the same host. What is well formed but followed by more arrives, and what follows it
does not. One that echoes the credential arrives without it, wherever and however it was written.
"""

import asyncio
import contextlib
import re
import zlib
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from gzip import compress
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

import pytest

from demo.certificates import write_origin_files
from sallyport.wire import websocket
from tests.support.afterwards import (
    AFTERWARDS,
    MOST_SECONDS,
    Afterwards,
    ask_afterwards,
    check_time,
)
from tests.support.egress_ways import SANDBOXD, WAYS, Way, both_ways, through_sandboxd
from tests.support.figures import InTime, RecordProperty
from tests.support.gateway_plans import plan, route
from tests.support.gateway_process import GatewayProcess, Setting, gateway_process
from tests.support.origin import Answer, Link, RecordingOrigin, Then, recording_origin
from tests.support.raw_end import RawAnswer, RawEnd, RawOrigin, raw_origin

SECRET = "answers/credential+91bd2e"
AT_ONCE = 8
WHOLE_SECONDS = 30.0

# In every byte that must reach nobody.
SMUGGLED = b"smuggled"
EXTRA = b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n" + SMUGGLED
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
GZIP = OK + b"Content-Encoding: gzip\r\nContent-Length: 8\r\n\r\n"
OF_CODED_BYTES = b'ETag: "x"\r\nDigest: d\r\nContent-Digest: d\r\nRepr-Digest: d\r\n'
WITH_ALT_SVC = (
    b"HTTP/1.1 103 Hints\r\nAlt-Svc: clear\r\n\r\n" + OK + b'Alt-Svc: h3=":443"\r\nContent-Length: 2\r\n\r\nok'
)
# What a head hides, in trailers; the answer is searched for the credential, and may be gzip.
GZIPPED_OK = compress(b"ok")
HIDDEN_TRAILERS = b'Alt-Svc: h3=":443"\r\nALT_SVC: clear\r\nX-Sallyport-Error: denied_by_plan\r\nX-End: 1\r\n\r\n'

# Sends a request, given its method, host, path and further lines, on a stream of its own.
type Ask = Callable[[str, str, str, str], Awaitable[RawEnd]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Road:
    """From a sandbox to an origin: by which way, and whether both speak TLS, which ends in between."""

    way: str
    is_intercepted: bool

    def __str__(self) -> str:
        return f"{self.way}-{'intercepted' if self.is_intercepted else 'plain'}"

    def ask(self, ways: Mapping[str, Way]) -> Ask:
        """Return how a request takes this road."""
        way = ways[self.way]

        async def plainly(method: str, host: str, path: str, lines: str) -> RawEnd:
            return await way.plain(f"{method} http://{host}{path} HTTP/1.1\r\nHost: {host}\r\n{lines}\r\n".encode())

        async def inside(method: str, host: str, path: str, lines: str) -> RawEnd:
            stream = await way.inside(f"{host}:443", host)
            stream.send(f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n{lines}\r\n".encode())
            return stream

        return inside if self.is_intercepted else plainly


ROADS = [Road(way=way, is_intercepted=tls) for tls in (False, True) for way in (*WAYS, SANDBOXD)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hostile:
    """One answer; with a body, it is well formed and arrives as that."""

    name: str
    answer: bytes
    method: str = "GET"
    lines: str = ""  # of its request
    then: Then = Then.KEEP
    body: bytes | None = None
    is_pooled: bool = False

    @property
    def host(self) -> str:
        return f"{self.name}.answers.test"

    @property
    def status(self) -> int:
        """What its final head says."""
        codes = map(int, re.findall(rb"HTTP/1\.. (\d+)", self.answer))
        return next(code for code in codes if code >= 200 or code == 101)

    def __str__(self) -> str:
        return self.name


REFUSED = {
    "two-lengths": OK + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nok",
    "differing-lengths": OK + b"Content-Length: 2\r\nContent-Length: 10\r\n\r\nok" + SMUGGLED,
    "list-of-lengths": OK + b"Content-Length: 2, 2\r\n\r\nok",
    "signed-length": OK + b"Content-Length: +2\r\n\r\nok",
    "negative-length": OK + b"Content-Length: -2\r\n\r\nok",
    "hexadecimal-length": OK + b"Content-Length: 0x2\r\n\r\nok",
    "length-with-a-space": OK + b"Content-Length: 1 0\r\n\r\nok" + SMUGGLED,
    "length-beyond-64-bits": OK + b"Content-Length: 18446744073709551618\r\n\r\nok",
    "length-and-chunked": OK + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked-and-length": OK + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n0\r\n\r\n",
    "chunked-twice": OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked-list": OK + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "xchunked": OK + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "identity-coding": OK + b"Transfer-Encoding: identity\r\n\r\nok",
    "gzip-as-transfer-coding": OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "underscore-length": OK + b"Content_Length: 2\r\n\r\nok",
    "chunked-in-1-0": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "bare-lf-in-the-status-line": b"HTTP/1.1 200 OK\nX: y\r\nContent-Length: 2\r\n\r\nok",
    "bare-lf-in-a-field": OK + b"X: y\nContent-Length: 10\r\nContent-Length: 2\r\n\r\nok" + SMUGGLED,
    "bare-cr": OK + b"X: y\rContent-Length: 2\r\n\r\nok",
    "nul-in-the-reason": b"HTTP/1.1 200 O\0K\r\nContent-Length: 2\r\n\r\nok",
    "escape-in-the-reason": b"HTTP/1.1 200 \x1b[2J\r\nContent-Length: 2\r\n\r\nok",
    "nul-in-a-value": OK + b"X: a\0b\r\nContent-Length: 2\r\n\r\nok",
    "folded-line": OK + b"X: y\r\n z\r\nContent-Length: 2\r\n\r\nok",
    "space-before-the-colon": OK + b"Content-Length : 2\r\n\r\nok",
    "space-before-a-name": OK + b" X: y\r\nContent-Length: 2\r\n\r\nok",
    "no-colon": OK + b"X\r\nContent-Length: 2\r\n\r\nok",
    "no-name": OK + b": y\r\nContent-Length: 2\r\n\r\nok",
    "status-99": b"HTTP/1.1 99 Low\r\nContent-Length: 2\r\n\r\nok",
    "status-099": b"HTTP/1.1 099 Low\r\nContent-Length: 2\r\n\r\nok",
    "status-600": b"HTTP/1.1 600 High\r\nContent-Length: 2\r\n\r\nok",
    "status-1000": b"HTTP/1.1 1000 High\r\nContent-Length: 2\r\n\r\nok",
    "status-of-letters": b"HTTP/1.1 2OO OK\r\nContent-Length: 2\r\n\r\nok",
    "no-status": b"HTTP/1.1\r\nContent-Length: 2\r\n\r\nok",
    "version-0-9": b"HTTP/0.9 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "version-1-2": b"HTTP/1.2 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "version-2": b"HTTP/2 200\r\n\r\n",
    "small-letters": b"http/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "space-before-the-version": b" HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "empty-line-first": b"\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "another-protocol": b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
    "three-hundred-fields": OK + b"".join(b"X-%d: y\r\n" % number for number in range(300)) + b"\r\n",
    "long-field": OK + b"X: " + b"y" * 70_000 + b"\r\n\r\n",
    "long-reason": b"HTTP/1.1 200 " + b"y" * 70_000 + b"\r\n\r\n",
    "endless-head": OK + b"X: " + b"y" * 70_000,
    "chunk-size-overflow": CHUNKED + b"10000000000000002\r\nok\r\n0\r\n\r\n",
    "chunk-size-signed": CHUNKED + b"+2\r\nok\r\n0\r\n\r\n",
    "chunk-size-0x": CHUNKED + b"0x2\r\nok\r\n0\r\n\r\n",
    "chunk-size-empty": CHUNKED + b"\r\nok\r\n0\r\n\r\n",
    "chunk-size-with-a-space": CHUNKED + b"2 \r\nok\r\n0\r\n\r\n",
    "chunk-size-in-bare-lf": CHUNKED + b"2\nok\r\n0\r\n\r\n",
    "chunk-in-bare-lf": CHUNKED + b"2\r\nok\n0\r\n\r\n",
    "chunk-over-its-size": CHUNKED + b"2\r\nok" + SMUGGLED + b"\r\n0\r\n\r\n",
    "chunk-extension-with-a-control": CHUNKED + b"2;x=\x01\r\nok\r\n0\r\n\r\n",
    "chunk-extension-with-a-cr": CHUNKED + b"2;x=\ry\r\nok\r\n0\r\n\r\n",
    "huge-chunk-extension": CHUNKED + b"2;x=" + b"y" * 70_000 + b"\r\nok\r\n0\r\n\r\n",
    "trailer-that-frames": CHUNKED + b"2\r\nok\r\n0\r\nContent-Length: 10\r\n\r\n",
    "trailer-that-sets-a-cookie": CHUNKED + b"2\r\nok\r\n0\r\nSet-Cookie: a=b\r\n\r\n",
    "trailer-without-a-colon": CHUNKED + b"2\r\nok\r\n0\r\nX\r\n\r\n",
    "endless-trailers": CHUNKED + b"2\r\nok\r\n0\r\n" + b"X: y\r\n" * 5000,
    "nine-interim-answers": b"HTTP/1.1 103 Early Hints\r\n\r\n" * 9 + OK + b"Content-Length: 2\r\n\r\nok",
    "flood-of-interim-answers": b"HTTP/1.1 100 Continue\r\n\r\n" * 2000,
    "interim-with-a-length": b"HTTP/1.1 103 Early Hints\r\nContent-Length: 8\r\n\r\n" + SMUGGLED,
    "interim-in-chunks": b"HTTP/1.1 102 Processing\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "unsolicited-101": b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n" + SMUGGLED,
    "bare-101": b"HTTP/1.1 101 Switching\r\n\r\n" + SMUGGLED,
    "gzip-that-is-none": GZIP + SMUGGLED,
    "gzip-with-a-broken-start": GZIP + b"\x1f\x8b\x08\x00\x00\x00\x00\x00",
}
WHOLE = (
    Hostile(name="another-answer-behind-a-length", answer=OK + b"Content-Length: 2\r\n\r\nok" + EXTRA, body=b"ok"),
    Hostile(name="more-than-its-length", answer=OK + b"Content-Length: 2\r\n\r\nok" + SMUGGLED, body=b"ok"),
    Hostile(name="another-answer-behind-chunks", answer=CHUNKED + b"2\r\nok\r\n0\r\n\r\n" + EXTRA, body=b"ok"),
    Hostile(name="line-end-behind-chunks", answer=CHUNKED + b"2\r\nok\r\n0\r\n\r\n\r\n", body=b"ok"),
    Hostile(
        name="interim-behind-an-answer", answer=OK + b"Content-Length: 2\r\n\r\nokHTTP/1.1 100 C\r\n\r\n", body=b"ok"
    ),
    Hostile(name="204-with-a-body", answer=b"HTTP/1.1 204 None\r\nContent-Length: 8\r\n\r\n" + SMUGGLED, body=b""),
    Hostile(name="204-in-chunks", answer=b"HTTP/1.1 204 None\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", body=b""),
    Hostile(name="304-with-a-body", answer=b"HTTP/1.1 304 Same\r\nContent-Length: 8\r\n\r\n" + SMUGGLED, body=b""),
    Hostile(name="head-with-a-body", answer=OK + b"Content-Length: 8\r\n\r\n" + SMUGGLED, method="HEAD", body=b""),
    Hostile(name="head-in-chunks", answer=CHUNKED + b"8\r\n" + SMUGGLED + b"\r\n0\r\n\r\n", method="HEAD", body=b""),
    Hostile(name="until-close", answer=OK + b"\r\nok", then=Then.CLOSE, body=b"ok"),
    Hostile(name="in-1-0", answer=b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", body=b"ok"),
    Hostile(name="that-says-close", answer=OK + b"Connection: close\r\nContent-Length: 2\r\n\r\nok", body=b"ok"),
    Hostile(name="without-fault", answer=OK + b"Content-Length: 2\r\n\r\nok", body=b"ok", is_pooled=True),
    Hostile(name="with-trailers", answer=CHUNKED + b"2\r\nok\r\n0\r\nX-End: 1\r\n\r\n", body=b"ok", is_pooled=True),
    Hostile(
        name="behind-eight-interim-answers",
        answer=b"HTTP/1.1 103 Hints\r\nX-Hint: 1\r\n\r\n" * 8 + OK + b"Content-Length: 2\r\n\r\nok",
        body=b"ok",
        is_pooled=True,
    ),
    Hostile(name="with-an-alternative-service", answer=WITH_ALT_SVC, body=b"ok", is_pooled=True),
    Hostile(
        name="with-what-is-hidden-in-trailers",
        answer=CHUNKED + b"2\r\nok\r\n0\r\n" + HIDDEN_TRAILERS,
        body=b"ok",
        is_pooled=True,
    ),
    Hostile(
        name="with-what-is-hidden-in-trailers-of-gzip",
        answer=OK
        + b"Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"
        + b"%x\r\n%b\r\n0\r\n" % (len(GZIPPED_OK), GZIPPED_OK)
        + HIDDEN_TRAILERS,
        body=b"ok",
        is_pooled=True,
    ),
    Hostile(
        name="with-nothing-but-hidden-trailers",
        answer=CHUNKED + b"2\r\nok\r\n0\r\nAlt-Svc: clear\r\n\r\n",
        body=b"ok",
        is_pooled=True,
    ),
    Hostile(name="without-fault-in-chunks", answer=CHUNKED + b"2;x\r\nok\r\n0\r\n\r\n", body=b"ok", is_pooled=True),
)
ENDING = {
    "chunked": CHUNKED + b"2\r\nok\r\n0\r\nX: y\r\n\r\n",
    "interim": b"HTTP/1.1 103 Hints\r\n\r\n" + OK + b"Content-Length: 2\r\n\r\nok",
}
HOSTILE = (
    *(
        Hostile(name=name, answer=answer, then=Then.CLOSE if name.endswith("lf") else Then.KEEP)
        for name, answer in REFUSED.items()
    ),
    *WHOLE,
    # Behind its head it ends by nothing but an end in order.
    Hostile(name="until-a-reset", answer=OK + b"\r\nok", then=Then.ABORT),
    *(
        Hostile(name=f"{name}-that-ends-at-{at}", answer=answer[:at], then=Then.CLOSE)
        for name, answer in ENDING.items()
        for at in range(len(answer))
    ),
)

FORMS = {
    "raw": SECRET.encode(),
    **{f"base64-at-{before}": b64encode(b"u" * before + SECRET.encode() + b"v") for before in range(3)},
    "hex": SECRET.encode().hex().encode(),
    "percent": quote(SECRET, safe="").encode(),
    "json": SECRET.replace("/", "\\/").encode(),
}
# Of base64, what does not depend on the bytes beside it.
NOT_TO_COME = [form[4:-4] if name.startswith("base64") else form for name, form in FORMS.items()]


def _gzip(plain: bytes) -> bytes:
    body = compress(plain)
    return OK + OF_CODED_BYTES + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body) + body


def _in_chunks(plain: bytes) -> bytes:
    return b"".join(b"1\r\n%b\r\n" % plain[at : at + 1] for at in range(len(plain)))


ECHOES = {
    **{f"echo-{name}": OK + b"Content-Length: %d\r\n\r\n<%b>" % (len(form) + 2, form) for name, form in FORMS.items()},
    "echo-in-a-field": OK + b"X-Key: %b\r\nContent-Length: 0\r\n\r\n" % FORMS["raw"],
    "echo-in-a-name": OK + b"%b: x\r\nContent-Length: 0\r\n\r\n" % FORMS["hex"],
    "echo-in-the-reason": b"HTTP/1.1 403 no %b\r\nContent-Length: 0\r\n\r\n" % FORMS["raw"],
    "echo-in-an-interim-answer": b"HTTP/1.1 103 Hints\r\nX: %b\r\n\r\n" % FORMS["raw"]
    + OK
    + b"Content-Length: 0\r\n\r\n",
    "echo-in-a-redirect": b"HTTP/1.1 307 There\r\nLocation: http://x.answers.test/?key=%b\r\nContent-Length: 0\r\n\r\n"
    % FORMS["percent"],
    "echo-in-a-401": b"HTTP/1.1 401 No\r\nWWW-Authenticate: %b\r\nContent-Length: 0\r\n\r\n" % FORMS["raw"],
    "echo-across-chunks": CHUNKED + _in_chunks(FORMS["raw"]) + b"0\r\n\r\n",
    "echo-in-a-trailer": CHUNKED + b"0\r\nX: %b\r\n\r\n" % FORMS["raw"],
    "echo-in-an-event": OK + b"Content-Type: text/event-stream\r\n\r\ndata: %b\n\n" % FORMS["json"],
    "echo-in-gzip": _gzip(b"<" + FORMS["raw"] + b">"),
    "echo-to-head": OK + b"X: %b\r\nContent-Length: 8\r\n\r\n" % FORMS["raw"],
    "echo-in-a-frame": b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX: %b\r\n\r\n"
    % FORMS["raw"]
    + websocket.message(websocket.TEXT, FORMS["raw"], None),
}
UPGRADE = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Extensions: permessage-deflate\r\n"
ECHOING = tuple(
    Hostile(
        name=name,
        answer=answer,
        method="HEAD" if name == "echo-to-head" else "GET",
        lines=UPGRADE if name == "echo-in-a-frame" else "",
        then=Then.CLOSE if name in ("echo-in-an-event", "echo-in-a-frame") else Then.KEEP,
    )
    for name, answer in ECHOES.items()
)
PLAYED = (*HOSTILE, *ECHOING)
BY_HAND = "by-hand.answers.test"
HOSTS = ("bomb.answers.test", BY_HAND, *(hostile.host for hostile in PLAYED))


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What came of one answer; status is None where the stream ended before it was whole."""

    status: int | None = None
    body: bytes = b""
    received: bytes = b""
    afterwards: Afterwards[RawAnswer] = field(init=False)
    links: list[Link] = field(default_factory=list)
    audited: list[dict[str, Any]] = field(default_factory=list)


@pytest.fixture(scope="module", params=ROADS, ids=str)
def outcomes(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    """Have every answer sent once, a few at a time, to one gateway, and a plain request behind each."""
    return asyncio.run(_play_all(tmp_path_factory.mktemp("answers"), request.param))


@pytest.mark.counted("hostile answers", "harmed others")
@pytest.mark.parametrize("hostile", HOSTILE, ids=str)
def test_s11_a_hostile_answer_harms_its_own_exchange_alone(hostile: Hostile, outcomes: dict[str, Outcome]) -> None:
    outcome = outcomes[hostile.name]
    record, _ = outcome.audited
    assert SMUGGLED not in outcome.received
    if hostile.body is None:
        assert outcome.status in (502, None)
        assert record["code"] in ("upstream_protocol_error", "upstream_unreachable")
    else:
        assert (outcome.status, outcome.body) == (hostile.status, hostile.body)
        assert "code" not in record
    asked = [[request.head.target for request in link.requests] for link in outcome.links]
    assert asked == ([[f"/{hostile.name}", "/plain"]] if hostile.is_pooled else [[f"/{hostile.name}"], ["/plain"]])


@AFTERWARDS
@pytest.mark.parametrize("played", PLAYED, ids=str)
def test_t6_a_plain_request_succeeds_afterwards(
    played: Hostile, outcomes: dict[str, Outcome], record_property: RecordProperty, in_time: InTime
) -> None:
    afterwards = outcomes[played.name].afterwards
    assert afterwards.fault is None
    assert afterwards.answer is not None
    assert (afterwards.answer.status, afterwards.answer.body) == (200, b"ok")
    check_time([afterwards], record_property, in_time)


@pytest.mark.counted("echoes of a credential", "leaks")
@pytest.mark.parametrize("echo", ECHOING, ids=str)
def test_c3_the_credential_does_not_come_back(echo: Hostile, outcomes: dict[str, Outcome]) -> None:
    outcome = outcomes[echo.name]
    asked = outcome.links[0].requests[0].head
    assert asked.values("authorization") == [f"Bearer {SECRET}".encode()]
    assert asked.values("accept-encoding") == [b"identity"]
    assert asked.values("sec-websocket-extensions") == []
    record, _ = outcome.audited
    assert record["scrubbed"] == (2 if echo.lines else 1)
    assert record["status"] == echo.status
    for form in NOT_TO_COME:
        assert form not in outcome.received


def test_c3_what_is_said_of_coded_bytes_goes_with_the_coding(outcomes: dict[str, Outcome]) -> None:
    outcome = outcomes["echo-in-gzip"]
    assert (outcome.status, len(outcome.body)) == (200, len(SECRET) + 2)
    assert (outcome.body[:1], outcome.body[-1:]) == (b"<", b">")
    names = [line.partition(b":")[0].lower() for line in outcome.received.split(b"\r\n")[1:]]
    assert b"transfer-encoding" in names
    assert not {b"content-encoding", b"etag", b"digest", b"content-digest", b"repr-digest"} & {*names}


def test_c2_a_redirect_is_passed_on_and_nobody_follows_it(outcomes: dict[str, Outcome]) -> None:
    outcome = outcomes["echo-in-a-redirect"]
    assert outcome.status == 307
    # A request to the host that it names would have no outcome here to be sorted under.
    (link,) = outcome.links
    assert [request.head.target for request in link.requests] == ["/echo-in-a-redirect", "/plain"]


def test_s4_interim_answers_and_trailers_are_passed_on(outcomes: dict[str, Outcome]) -> None:
    assert outcomes["behind-eight-interim-answers"].received.count(b"X-Hint: 1") == 8
    assert outcomes["nine-interim-answers"].received.count(b"HTTP/1.1 103 ") == 8
    assert outcomes["with-trailers"].received.endswith(b"X-End: 1")


def test_a5_an_alternative_service_is_not_told(outcomes: dict[str, Outcome]) -> None:
    assert b"Alt-Svc" in WITH_ALT_SVC
    assert b"alt-svc" not in outcomes["with-an-alternative-service"].received.lower()


@pytest.mark.parametrize(
    ("name", "is_left"),
    [
        ("with-what-is-hidden-in-trailers", True),
        ("with-what-is-hidden-in-trailers-of-gzip", True),
        ("with-nothing-but-hidden-trailers", False),
    ],
)
def test_a5_what_a_head_hides_is_not_told_in_a_trailer(name: str, is_left: bool, outcomes: dict[str, Outcome]) -> None:
    received = outcomes[name].received.lower()
    for field_of_ours in (b"alt-svc", b"alt_svc", b"x-sallyport-error"):
        assert field_of_ours not in received
    assert received.endswith(b"x-end: 1" if is_left else b"ok")


# Answers that are played by hand, on every road of one gateway; a sandbox has one tunnel, so sandboxd's has its own.

OPAQUE = {
    "br": OK + b"Content-Encoding: br\r\n",
    "two codings": OK + b"Content-Encoding: gzip, zstd\r\n",
    "part of a gzip": b"HTTP/1.1 206 Part\r\nContent-Range: bytes 5-8/99\r\nContent-Encoding: gzip\r\n",
}
UNDECODABLE = b"\x1f\x8bzz"

each_road = pytest.mark.parametrize(
    "roads",
    [[road for road in ROADS if road.way != SANDBOXD], [road for road in ROADS if road.way == SANDBOXD]],
    ids=["-".join(WAYS), SANDBOXD],
)

# Sends a request by a road; returns the sandbox's end and the origin's, which has read its head.
type Begin = Callable[[Road], Awaitable[tuple[RawEnd, RawEnd]]]


@each_road
@pytest.mark.parametrize("unscannable", ["pass", "refuse"])
async def test_c3_what_cannot_be_undone_is_what_the_operator_says(
    tmp_path: Path, unscannable: str, roads: list[Road]
) -> None:
    async with _by_hand(tmp_path, roads, unscannable) as (gateway, begin):
        for road in roads:
            for name, head in OPAQUE.items():
                client, link = await begin(road)
                link.send(head + b"Connection: close\r\nContent-Length: 4\r\n\r\n" + UNDECODABLE)
                answer = await client.answer()
                told = (answer.status, answer.values("X-Sallyport-Error"), answer.body == UNDECODABLE)
                if unscannable == "refuse":
                    assert told == (502, ["upstream_protocol_error"], False), (str(road), name)
                    assert UNDECODABLE not in answer.body
                else:
                    assert told == (206 if name == "part of a gzip" else 200, [], True), (str(road), name)
                assert await link.gone() == b""
        counted = await asyncio.to_thread(gateway.metric, "sallyport_scrub_unscanned_total")
        assert counted == (len(roads) * len(OPAQUE) if unscannable == "pass" else 0)


@each_road
async def test_c3_what_may_begin_a_secret_delays_no_event(tmp_path: Path, roads: list[Road]) -> None:
    """Each event is here before the next one is sent, in gzip too; held is but what the secret may begin with."""
    begins = SECRET[:9].encode()
    async with _by_hand(tmp_path, roads) as (_, begin):
        for road in roads:
            for is_coded in (False, True):
                coder = zlib.compressobj(wbits=31)
                client, link = await begin(road)

                def send(data: bytes, link: RawEnd = link, coder: Any = coder if is_coded else None) -> None:  # noqa: ANN401
                    link.send(data if coder is None else coder.compress(data) + coder.flush(zlib.Z_SYNC_FLUSH))

                coding = b"Content-Encoding: gzip\r\n" if is_coded else b""
                link.send(OK + b"Content-Type: text/event-stream\r\n" + coding + b"\r\n")
                await client.head()
                for number in range(3):
                    event = b"data: %d %b-\n\n" % (number, begins)
                    send(event)
                    assert await client.until(b"\n\n\r\n") == b"%x\r\n%b\r\n" % (len(event), event), str(road)
                send(b"data: " + begins)
                assert await client.until(b"data: \r\n") == b"6\r\ndata: \r\n", str(road)
                send(b"!\n\n")
                rest = begins + b"!\n\n"
                assert await client.until(b"\n\n\r\n") == b"%x\r\n%b\r\n" % (len(rest), rest), str(road)
                if is_coded:
                    link.send(coder.flush())
                link.close()
                assert await client.until(b"0\r\n\r\n") == b"0\r\n\r\n"


@contextlib.asynccontextmanager
async def _by_hand(
    folder: Path, roads: Sequence[Road], unscannable: str = "pass"
) -> AsyncIterator[tuple[GatewayProcess, Begin]]:
    files = write_origin_files(folder, ["*.answers.test"])
    async with raw_origin() as plain, raw_origin(files.server_context()) as tls:
        ports = {80: plain.port, 443: tls.port}
        setting = _setting(files.ca_file, ports, scrub={"unscannable": unscannable})
        with gateway_process(folder / "gateway", setting) as gateway:
            async with _opened(gateway, *roads) as ways:

                async def begin(road: Road) -> tuple[RawEnd, RawEnd]:
                    client = await road.ask(ways)("GET", BY_HAND, "/", "")
                    origin: RawOrigin = tls if road.is_intercepted else plain
                    link = await origin.link()
                    assert SECRET.encode() in await link.head()
                    return client, link

                yield gateway, begin
            assert await asyncio.to_thread(gateway.terminate) == 0


BOMBS = 8
MIB = 1024 * 1024
# A gibibyte in a mebibyte.
BOMB = compress(bytes(64 * MIB), 9) * 16


@pytest.mark.full
@pytest.mark.parametrize("road", ROADS, ids=str)
async def test_c3_gzip_bombs_cost_little_memory_and_nobody_elses_time(tmp_path: Path, road: Road) -> None:
    async with _recording(tmp_path, road) as (origin, setting):
        head = OK + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(BOMB)
        origin.answers["/bomb"] = Answer(parts=(head + BOMB,))
        with gateway_process(tmp_path / "gateway", setting) as gateway:
            async with _opened(gateway, road) as ways:
                ask = road.ask(ways)
                await _plain(ask)
                before = gateway.resident_bytes()
                streams = [await ask("GET", "bomb.answers.test", "/bomb", "") for _ in range(BOMBS)]
                transports = [cast(asyncio.ReadTransport, stream.writer.transport) for stream in streams]
                for transport in transports:
                    transport.pause_reading()
                for stream, transport in zip(streams, transports, strict=True):
                    await _plain(ask)
                    transport.resume_reading()
                    await stream.exactly(2 * MIB)
                    transport.pause_reading()
                    assert gateway.resident_bytes() - before <= 32 * MIB
                for stream in streams:
                    stream.writer.transport.abort()
                await _plain(ask)
            assert await asyncio.to_thread(gateway.terminate) == 0


async def _plain(ask: Ask) -> None:
    async with asyncio.timeout(MOST_SECONDS):
        stream = await ask("GET", "bomb.answers.test", "/plain", "")
        assert (await stream.answer()).body == b"ok"
    stream.writer.transport.abort()


@contextlib.asynccontextmanager
async def _recording(folder: Path, road: Road) -> AsyncIterator[tuple[RecordingOrigin, Setting]]:
    """Open the origin at the end of this road; yields it and what a gateway needs to reach it."""
    files = write_origin_files(folder, ["*.answers.test"])
    async with recording_origin(files.server_context() if road.is_intercepted else None) as origin:
        yield origin, _setting(files.ca_file, {443 if road.is_intercepted else 80: origin.port})


def _setting(ca_file: Path, ports: Mapping[int, int], **further: Mapping[str, object]) -> Setting:
    return Setting(
        plan=plan([route("answers", ["*.answers.test"], "con_answers", allowCleartext=True)]),
        credentials={"con_answers": SECRET},
        connect_to={f"{host}:{here}": f"127.0.0.1:{port}" for host in HOSTS for here, port in ports.items()},
        ca_file=ca_file,
        further=further,
    )


@contextlib.asynccontextmanager
async def _opened(gateway: GatewayProcess, *roads: Road) -> AsyncIterator[Mapping[str, Way]]:
    """Open the ways that these roads begin with."""
    names = {road.way for road in roads}
    async with contextlib.AsyncExitStack() as opened:
        ways: dict[str, Way] = {}
        if names - {SANDBOXD}:
            ways.update(await opened.enter_async_context(both_ways(gateway)))
        if SANDBOXD in names:
            ways.update(await opened.enter_async_context(through_sandboxd(gateway)))
        yield ways


async def _play_all(folder: Path, road: Road) -> dict[str, Outcome]:
    async with _recording(folder, road) as (origin, setting):
        for hostile in PLAYED:
            origin.answers[f"/{hostile.name}"] = Answer(parts=(hostile.answer,), then=hostile.then)
        with gateway_process(folder / "gateway", setting) as gateway:
            async with _opened(gateway, road) as ways:
                outcomes = await _play_some(road.ask(ways), gateway.process.pid)
            # The end of the gateway is the moment after which the audit file holds everything.
            assert await asyncio.to_thread(gateway.terminate) == 0
            records = gateway.audit(lambda _: True)
    _sort_out(outcomes, origin, records)
    return outcomes


def _sort_out(outcomes: dict[str, Outcome], origin: RecordingOrigin, records: list[dict[str, Any]]) -> None:
    for link in origin.links:
        outcomes[link.requests[0].head.host.partition(".")[0]].links.append(link)
    for record in records:
        outcomes[str(record["host"]).partition(".")[0]].audited.append(record)


async def _play_some(ask: Ask, gateway_pid: int) -> dict[str, Outcome]:
    outcomes = {hostile.name: Outcome() for hostile in PLAYED}
    waiting = list(reversed(PLAYED))

    async def play(hostile: Hostile) -> None:
        outcome = outcomes[hostile.name]
        async with asyncio.timeout(WHOLE_SECONDS):
            stream = await ask(hostile.method, hostile.host, f"/{hostile.name}", hostile.lines)
            await _note(stream, hostile.method, outcome)
        outcome.afterwards = await ask_afterwards(lambda: _ask_plainly(ask, hostile.host), gateway_pid)

    async def play_some() -> None:
        while waiting:
            await play(waiting.pop())

    async with asyncio.TaskGroup() as tasks:
        for number in range(AT_ONCE):
            tasks.create_task(play_some(), name=f"answers {number}")
    return outcomes


async def _ask_plainly(ask: Ask, host: str) -> RawAnswer:
    stream = await ask("GET", host, "/plain", "")
    try:
        return await stream.answer()
    finally:
        stream.writer.transport.abort()


async def _note(stream: RawEnd, method: str, outcome: Outcome) -> None:
    """Note what arrives; by the strictest reading, for it is the gateway's writing."""
    try:
        answer = await stream.answer(method)
        while answer.status < 200:
            outcome.received += answer.head
            answer = await stream.answer(method)
        outcome.status, outcome.body = answer.status, answer.body
        outcome.received += answer.head + answer.body + b"".join(answer.trailers)
        if not await stream.is_quiet():
            outcome.received += await stream.gone()
    except asyncio.IncompleteReadError as error:
        outcome.received += error.partial
    except ConnectionError:
        pass
    stream.writer.transport.abort()
