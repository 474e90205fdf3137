"""Framing, hops and limits (S1 to S10) against a running gateway, by both ways.

Where a case has a meaning there: where TLS has ended, in the clear, and in the head of a CONNECT.
"""

import contextlib
from collections.abc import Awaitable, Sequence
from pathlib import Path

import pytest

from tests.support.afterwards import AFTERWARDS
from tests.support.egress_stage import (
    ADDED_LINES,
    ALLOWED,
    CLOSED_PORT,
    OTHER_PORT,
    ROUTE,
    Case,
    Played,
    Scene,
    asks_inside,
    asks_plainly,
    asks_to_connect,
    of,
    play_all,
)
from tests.support.egress_ways import WAYS, established
from tests.support.figures import InTime, RecordProperty
from tests.support.origin import OK, Answer, On, Then
from tests.support.plan_documents import Document
from tests.support.raw_end import RawEnd

BEGIN = b" HTTP/1.1\r\nHost: {host}\r\n"
SMUGGLED = b"0\r\n\r\nGET /v1/smuggled HTTP/1.1\r\nHost: {host}\r\n\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"


def unreadable(lines: bytes, status: int = 400, code: str = "invalid_request") -> list[Case]:
    """Put lines that make a head unreadable: where TLS has ended, in the clear, and in a CONNECT."""
    inside = b"POST /v1/x" + BEGIN + lines + b"\r\n" + SMUGGLED
    plain = b"POST http://{host}/v1/x" + BEGIN + lines + b"\r\n" + SMUGGLED
    connect = b"CONNECT {host}:443" + BEGIN + lines + b"\r\n" + SMUGGLED
    return [
        Case(name=f"{lines[:60]!r} {len(lines)} {where}", play=play, status=status, code=code, closes=True)
        for where, play in (
            ("inside", asks_inside(inside, closes=True)),
            ("plain", asks_plainly(plain, closes=True)),
            ("connect", asks_to_connect(connect)),
        )
    ]


def sends(
    name: str, request: bytes, arriving: bytes, *, method: str = "GET", routes: Sequence[Document] = (ROUTE,)
) -> list[Case]:
    """Put a request, written from behind its target, both ways; arriving is what the origin gets behind the Host."""
    verb = method.encode()
    sent = (verb + b" /v1/x" + BEGIN + arriving,)
    plays = (
        ("inside", asks_inside(verb + b" /v1/x" + BEGIN + request, method=method)),
        ("plain", asks_plainly(verb + b" http://{host}/v1/x" + BEGIN + request, method=method)),
    )
    return [Case(name=f"{name} {where}", play=play, status=200, sent=sent, routes=routes) for where, play in plays]


S1 = [
    case
    for lines in (
        b"Content-Length: 6\r\n" + CHUNKED,
        CHUNKED + b"Content-Length: 6\r\n",
        b"Content-Length: 6\r\nContent-Length: 6\r\n",
        b"Content-Length: 6\r\nContent-Length: 7\r\n",
        *(
            b"Content-Length: %b\r\n" % value
            for value in (b"+5", b"-5", b"0x5", b"5, 5", b"5 5", b"", b"5;", b"1e1", b"1_0")
        ),
        b"Content-Length: " + b"9" * 19 + b"\r\n",
        b"Content-Length: \xb2\r\n",
        *(
            b"Transfer-Encoding: %b\r\n" % value
            for value in (
                b"xchunked",
                b"chunked, identity",
                b"identity",
                b"gzip, chunked",
                b"chunked;q=1",
                b"chunked,",
                b'"chunked"',
                b"",
                b"chunked\x0b",
                b"\x00chunked",
            )
        ),
        CHUNKED + CHUNKED,
        b"Transfer-Encoding : chunked\r\n",
        b"Transfer-Encoding\t: chunked\r\n",
        b"Transfer-Encoding:\r\n chunked\r\n",
        b"Transfer_Encoding: chunked\r\n",
        b"Content_Length: 6\r\n",
        b"transfer-\xc3\xa9ncoding: chunked\r\n",
        b" Transfer-Encoding: chunked\r\n",
        b"X: y\r\n Transfer-Encoding: chunked\r\n",
        b"X: y\nTransfer-Encoding: chunked\r\n",
        b"X: y\rTransfer-Encoding: chunked\r\n",
        b"X: y\r\r\n",
        b"X: \x00\r\n",
        b"X: \x1b[31m\r\n",
        b"X: \x7f\r\n",
        b"X\xf6: y\r\n",
        b": y\r\n",
        b"no colon\r\n",
        b"X@: y\r\n",
        b"Up_grade: a\r\nConnec_tion: b\r\nEx_pect: c\r\nHo_st: d\r\nno colon\r\n",
        b"Expect_: x\r\nExpect: sandwich\r\n",
        b"Connection: close, b@d\r\n",
    )
    for case in unreadable(lines)
]


def after_a_refusal(request: bytes) -> Case:
    return Case(
        name=f"S1 behind a refusal {request!r}",
        play=asks_inside(request + SMUGGLED, closes=True),
        status=403,
        code="denied_by_plan",
        closes=True,
    )


# What follows a request that is refused before its body was read is its body, whatever it looks like.
S1 += [
    after_a_refusal(b"POST /v2/x" + BEGIN + b"Content-Length: 60\r\n\r\n"),
    after_a_refusal(b"POST /v2/x" + BEGIN + CHUNKED + b"\r\n"),
]


def in_a_row(*requests: tuple[bytes, int]) -> Case:
    """Send requests in one piece; each is a request and what it is answered, and those that succeed arrive alone."""

    async def play(scene: Scene) -> None:
        end = await scene.inside(b"".join(request for request, _ in requests))
        for request, status in requests:
            answer = await scene.read(end, request.partition(b" ")[0].decode())
            assert answer.status == status

    status = requests[-1][1]
    codes = {200: None, 400: "invalid_request", 403: "denied_by_plan", 405: "trace_refused", 421: "authority_mismatch"}
    return Case(
        name=f"in a row {[status for _, status in requests]} {requests[-2][0][:12]!r}",
        play=play,
        status=status,
        code=codes[status] or "",
        sent=(b"".join(each[:-2] + ADDED_LINES for each, status in requests if status == 200),),
        audited=[(status, codes[status]) for _, status in requests],
    )


GOOD = b"GET /v1/x" + BEGIN + b"\r\n"
S1 += [
    in_a_row((GOOD, 200), (b"GET /v1/../x" + BEGIN + b"\r\n", 400), (GOOD, 200)),
    in_a_row((GOOD, 200), (b"HEAD /v2/x" + BEGIN + b"\r\n", 403), (GOOD, 200), (GOOD, 200)),
    in_a_row((GOOD, 200), (b"TRACE /v1/x" + BEGIN + b"\r\n", 405), (GOOD, 200)),
    in_a_row((GOOD, 200), (b"GET /v1/x HTTP/1.1\r\nHost: evil.test\r\n\r\n", 421), (GOOD, 200)),
    in_a_row((GOOD, 200), (b"GET /v1/y HTTP/1.1\r\nHost: {host}\r\nX : y\r\n\r\n", 400)),
]


def broken_body(body: bytes) -> list[Case]:
    """A good head, and chunks with which its body cannot go on."""
    rest = BEGIN + CHUNKED + b"\r\n" + body + SMUGGLED
    return [
        Case(
            name=f"S2 {body[:60]!r} {len(body)} {where}",
            play=play,
            status=400,
            code="invalid_request",
            sent=None,
            closes=True,
        )
        for where, play in (
            ("inside", asks_inside(b"POST /v1/x" + rest, closes=True)),
            ("plain", asks_plainly(b"POST http://{host}/v1/x" + rest, closes=True)),
        )
    ]


S2 = [
    case
    for body in (
        b"ffffffffffffffff1\r\nx\r\n",
        b"0" * 16 + b"5\r\nhello\r\n",
        b"-5\r\nhello\r\n",
        b"0x5\r\nhello\r\n",
        b"+5\r\nhello\r\n",
        b" 5\r\nhello\r\n",
        b"5\nhello\r\n",
        b"5\r\nhelloX\r\n",
        b"5\r\nhello\n",
        b"5\r\nhello0\r\n\r\n",
        b"\r\n5\r\nhello\r\n",
        b"g\r\n",
        b";a=b\r\n",
        b"5;" + b"e" * 1_000_000 + b"\r\nhello\r\n",
        b"5;a=\x00\r\nhello\r\n",
        *(
            b"0\r\n%b: x\r\n\r\n" % name
            for name in (
                b"Content-Length",
                b"Transfer-Encoding",
                b"Host",
                b"Authorization",
                b"X-Api-Key",
                b"x_api_key",
                b"Cookie",
                b"Proxy-Authorization",
                b"Connection",
                b"Sallyport-Stream",
                b"Content-Type",
                b"Bad Name",
            )
        ),
        b"0\r\nX: a\n\r\n\r\n",
        b"0\r\n" + b"X: " + b"x" * 17_000 + b"\r\n\r\n",
    )
    for case in broken_body(body)
]
WITH_BODY = b"Content-Length: 5\r\n" + ADDED_LINES + b"hello"
IN_CHUNKS = CHUNKED + ADDED_LINES + b"5\r\nhello\r\n"
INJECTS_A_HEADER: Sequence[Document] = (
    {
        "match": {"hosts": ["{host}"]},
        "authInjection": {"type": "header", "header": "X-Injected"},
        "allowCleartext": True,
    },
)
INJECTED_HEADER = b"X-Injected: egress-credential-5d20b1\r\nAccept-Encoding: identity\r\n\r\n"
S3 = [
    case
    for method in ("GET", "DELETE", "POST", "HEAD", "OPTIONS", "QUERY")
    for case in (
        *sends(f"S3 {method} a length", b"Content-Length: 5\r\n\r\nhello", WITH_BODY, method=method),
        *sends(
            f"S3 {method} chunks",
            CHUNKED + b"\r\n5;ext=1\r\nhello\r\n0\r\nX-Sum: 1\r\nExpires_: 2\r\n\r\n",
            IN_CHUNKS + b"0\r\nX-Sum: 1\r\nExpires_: 2\r\n\r\n",
            method=method,
        ),
    )
] + [
    *sends("S3 a length of nothing", b"Content-Length: 0\r\n\r\n", b"Content-Length: 0\r\n" + ADDED_LINES),
    *sends(
        "S2 the injected header as a trailer",
        CHUNKED + b"\r\n5\r\nhello\r\n0\r\nX_Injected: mine\r\nX-Sum: 1\r\n\r\n",
        CHUNKED + INJECTED_HEADER + b"5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n",
        method="POST",
        routes=INJECTS_A_HEADER,
    ),
]


def version(line: bytes, status: int, code: str) -> list[Case]:
    """Put a request line that is written whole."""
    request = line + b"\r\nHost: {host}\r\n\r\n"
    return [
        Case(name=f"S4 {line!r} {where}", play=play, status=status, code=code, closes=True)
        for where, play in (
            ("inside", asks_inside(request, closes=True)),
            ("first", asks_plainly(request, closes=True)),
        )
    ]


async def connects_in_1_0(scene: Scene) -> None:
    end = await scene.connect(b"CONNECT {host}:%d HTTP/1.0\r\n\r\n" % OTHER_PORT, "passthrough; revision=1")
    await established(end)
    end.send(scene.fill(b"GET /" + BEGIN + b"\r\n"))
    assert await end.exactly(len(OK)) == OK
    end.close()


S4 = [
    *(
        case
        for line in (
            b"GET /v1/x HTTP/1.0",
            b"GET http://{host}/v1/x HTTP/1.0",
            b"GET /v1/x HTTP/1.2",
            b"GET /v1/x HTTP/2.0",
            b"GET /v1/x HTTP/0.9",
            b"PRI * HTTP/2.0",
            b"PRI * HTTP/1.1",
        )
        for case in version(line, 505, "http_version")
    ),
    *(
        case
        for line in (
            b"GET /v1/x",
            b"GET",
            b"GET /v1/x http/1.1",
            b"GET /v1/x HTTP/1.1 ",
            b"GET /v1/x HTTPS/1.1",
            b"GET /v1/x HTTP/1.10",
            b"GET /v1/x\tHTTP/1.1",
            b" GET /v1/x HTTP/1.1",
            b"G@T /v1/x HTTP/1.1",
            b"GET  /v1/x HTTP/1.1",
        )
        for case in version(line, 400, "invalid_request")
    ),
    Case(
        name="S4 CONNECT in 1.0",
        play=connects_in_1_0,
        sent=(b"GET /" + BEGIN + b"\r\n",),
        audited=[(200, None)],
        rules=ALLOWED,
    ),
]
S5 = [
    *sends(
        "S5 what frames and routes",
        b"Connection: authorization, host, content-length, X-Mine\r\nX-Mine: 1\r\nX_Mine: 2\r\nX-Other: 3\r\n"
        b"Authorization: Bearer mine\r\nContent-Length: 5\r\n\r\nhello",
        b"X-Other: 3\r\n" + WITH_BODY,
        method="POST",
    ),
    *sends(
        "S5 the injected header",
        b"Connection: x-injected\r\nConnection: keep-alive\r\n"
        b"X-Injected: mine\r\nKeep-Alive: timeout=5\r\nTE: trailers\r\n\r\n",
        INJECTED_HEADER,
        routes=INJECTS_A_HEADER,
    ),
]
S6 = [
    *sends(
        "S6",
        b"Proxy-Connection: keep-alive\r\nProxy_Connection: x\r\nProxy-Status: y\r\nPROXY-Anything: z\r\n\r\n",
        ADDED_LINES,
    ),
    Case(
        name="S6 a token inside",
        play=asks_inside(b"GET /v1/x" + BEGIN + b"Proxy-Authorization: Basic eDp5\r\n\r\n"),
        status=200,
        sent=(b"GET /v1/x" + BEGIN + ADDED_LINES,),
    ),
    *unreadable(b"Proxy-Authorization: a\r\nProxy-Authorization: b\r\n"),
    *unreadable(b"Proxy_Authorization: Bearer x\r\n"),
]
S7 = [
    *sends(
        "S7 h2c",
        b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n",
        ADDED_LINES,
    ),
    *sends("S7 no option", b"Upgrade: websocket\r\n\r\n", ADDED_LINES),
    *sends("S7 two", b"Connection: upgrade\r\nUpgrade: websocket\r\nUpgrade: websocket\r\n\r\n", ADDED_LINES),
    *sends("S7 a list", b"Connection: upgrade\r\nUpgrade: h2c, websocket\r\n\r\n", ADDED_LINES),
    *sends(
        "S7 a body",
        b"Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 5\r\n\r\nhello",
        WITH_BODY,
        method="POST",
    ),
]
SOCKET = b"GET /v1/socket" + BEGIN


def switches(through: str) -> Case:
    """Bytes flow raw only after the upstream's own 101."""

    async def play(scene: Scene) -> None:
        lines = BEGIN + b"Connection: Upgrade\r\nUpgrade: WebSocket\r\n\r\nearly"
        end = await (
            scene.inside(b"GET /v1/socket" + lines)
            if through == "inside"
            else scene.plain(b"GET http://{host}/v1/socket" + lines)
        )
        answer = await scene.read(end)
        assert answer.value("Upgrade") == "websocket"
        assert await end.exactly(5) == b"early"
        end.send(b"\x81\x05later")
        assert await end.exactly(7) == b"\x81\x05later"
        end.close()

    return Case(
        name=f"S7 a socket {through}",
        play=play,
        status=101,
        sent=(SOCKET + b"Connection: Upgrade\r\nUpgrade: websocket\r\n" + ADDED_LINES + b"early\x81\x05later",),
    )


S7 += [switches("inside"), switches("plain")]
EXPECTING = b"Content-Length: 5\r\nExpect: 100-continue\r\n"


def through(where: str, scene: Scene, request: bytes, *, method: bytes = b"POST") -> Awaitable[RawEnd]:
    """Send a request, written from behind its host, where TLS has ended or in the clear."""
    if where == "inside":
        return scene.inside(method + b" " + request)
    return scene.plain(method + b" http://{host}" + request)


def answered_early(where: str) -> list[Case]:
    """The upstream answers at once, and no 100: the upload ends without having begun, or in its midst."""

    async def waits_in_vain(scene: Scene) -> None:
        end = await through(where, scene, b"/v1/early" + BEGIN + EXPECTING + b"\r\n")
        answer = await scene.read_last(end)
        assert answer.value("Connection") == "close"

    async def uploads_in_vain(scene: Scene) -> None:
        end = await through(where, scene, b"/v1/early" + BEGIN + b"Content-Length: 1000000\r\n\r\nbegun")
        answer = await scene.read(end)
        assert answer.value("Connection") == "close"
        with contextlib.suppress(ConnectionError):  # it may have gone by now
            end.send(bytes(100_000))
            await end.flush()
        assert await scene.cut(end) == b""

    return [
        Case(
            name=f"S8 an early answer {where}",
            play=waits_in_vain,
            status=413,
            sent=(b"POST /v1/early" + BEGIN + EXPECTING + ADDED_LINES,),
            closes=True,
        ),
        Case(
            name=f"S8 an early answer during the upload {where}",
            play=uploads_in_vain,
            status=413,
            sent=None,
            closes=True,
        ),
    ]


S8 = [
    *sends(
        "S8 a client that does not wait",
        EXPECTING + b"\r\nhello",
        EXPECTING + ADDED_LINES + b"hello",
        method="POST",
    ),
    *answered_early("inside"),
    *answered_early("plain"),
    *unreadable(b"Expect: 200-ok\r\n"),
    *unreadable(b"Expect: 100-continue, x\r\n"),
]
S9 = [
    *(
        Case(
            name=f"S9 behind a CONNECT that is refused {authority!r}",
            play=asks_to_connect(b"CONNECT " + authority + BEGIN + b"\r\n" + SMUGGLED + b"x" * 100_000, declared),
            status=status,
            code=code,
            closes=True,
            rules=rules,
        )
        for authority, declared, status, code, rules in (
            (b"{host}:%d" % OTHER_PORT, "passthrough; revision=1", 403, "denied_by_plan", ()),
            (b"{host}:%d" % CLOSED_PORT, "passthrough; revision=1", 502, "upstream_unreachable", ALLOWED),
        )
    ),
    *(
        Case(
            name=f"S9 a CONNECT with {lines!r}",
            play=asks_to_connect(b"CONNECT {host}:443" + BEGIN + lines + b"\r\n" + SMUGGLED),
            status=400,
            code="invalid_request",
            closes=True,
        )
        for lines in (b"Content-Length: 0\r\n", b"Content-Length: 5\r\n", CHUNKED)
    ),
]


def slow_behind_an_answer(where: str) -> Case:
    """The upstream has begun to answer, and the body stops: nothing is left to say, and the answer is cut."""

    async def play(scene: Scene) -> None:
        end = await through(where, scene, b"/v1/half" + BEGIN + b"Content-Length: 5\r\n\r\nhel")
        await end.until(b"\r\n\r\nhalf")
        assert await scene.cut(end) == b""

    return Case(
        name=f"S10 a slow body behind an answer {where}",
        play=play,
        sent=None,
        audited=[(200, "request_timeout")],
        closes=True,
    )


def idle_behind(where: str) -> Case:
    """A stream that has been served, and on which nothing comes any more."""

    async def play(scene: Scene) -> None:
        end = await through(where, scene, b"/v1/x" + BEGIN + b"\r\n", method=b"GET")
        await scene.read_last(end)

    return Case(
        name=f"S10 idle behind an answer {where}",
        play=play,
        status=200,
        sent=(b"GET /v1/x" + BEGIN + ADDED_LINES,),
        closes=True,
    )


def idle_socket(where: str) -> Case:
    """A stream that was switched to another protocol, and on which nothing is said."""

    async def play(scene: Scene) -> None:
        lines = BEGIN + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
        end = await through(where, scene, b"/v1/socket" + lines, method=b"GET")
        await scene.read_last(end)

    return Case(
        name=f"S10 an idle socket {where}",
        play=play,
        status=101,
        sent=(SOCKET + b"Connection: Upgrade\r\nUpgrade: websocket\r\n" + ADDED_LINES,),
        closes=True,
    )


async def idles_opaquely(scene: Scene) -> None:
    """Bytes that pass through, and then none."""
    end = await scene.opaque(b"{host}:%d" % OTHER_PORT)
    end.send(scene.fill(b"{host}"))
    assert await scene.cut(end) == b""


IDLE = [
    *(idle_behind(where) for where in ("inside", "plain")),
    *(idle_socket(where) for where in ("inside", "plain")),
    Case(
        name="S10 idle behind a CONNECT",
        play=idles_opaquely,
        sent=(b"{host}",),
        audited=[(200, None)],
        closes=True,
        rules=ALLOWED,
    ),
]
TOO_LONG = b"X-Long: " + b"x" * 70_000 + b"\r\n"
TOO_MANY = b"X-Many: 1\r\n" * 130
S10 = [
    *unreadable(TOO_LONG, 431, "head_too_large"),
    *unreadable(TOO_MANY, 431, "head_too_large"),
    Case(
        name="S10 a slow head inside",
        play=asks_inside(b"GET /v1/x HTTP/1.1\r\nHo", closes=True),
        status=408,
        code="request_timeout",
        closes=True,
    ),
    Case(
        name="S10 a slow head",
        play=asks_plainly(b"GET http://{host}/v1/x HTTP/1.1\r\nHo", closes=True),
        status=408,
        code="request_timeout",
        closes=True,
    ),
    *(
        Case(
            name=f"S10 a slow body {lines!r} {where}",
            play=asks(b"POST " + target + BEGIN + lines, closes=True),
            status=408,
            code="request_timeout",
            sent=None,
            closes=True,
        )
        for lines in (b"Content-Length: 5\r\n\r\nhel", CHUNKED + b"\r\n5\r\nhel")
        for where, asks, target in (
            ("inside", asks_inside, b"/v1/x"),
            ("plain", asks_plainly, b"http://{host}/v1/x"),
        )
    ),
    *(slow_behind_an_answer(where) for where in ("inside", "plain")),
]


def play(folder: Path, ways: Sequence[str] = WAYS) -> Played:
    """Play the suite."""
    return play_all(
        folder,
        [*S1, *S2, *S3, *S4, *S5, *S6, *S7, *S8, *S9, *S10, *IDLE],
        answers={
            "/v1/socket": Answer(
                parts=(b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",), then=Then.RAW
            ),
            "/v1/half": Answer(
                parts=(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf",), on=On.HEAD, then=Then.HANG
            ),
            "/v1/early": Answer(parts=(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n",), on=On.HEAD),
        },
        further={
            "timeouts": {"head": "3s", "request_body": "3s", "keep_alive": "3s", "opaque_idle": "3s"},
        },
        ways=ways,
    )


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Played:
    return play(tmp_path_factory.mktemp("framing"))


@of(S1)
def test_s1_a_head_with_two_readings_is_refused(case: Case, way: str, played: Played) -> None:
    played.check(case, way)


@of(S2)
def test_s2_a_body_that_cannot_be_read_never_becomes_whole(case: Case, way: str, played: Played) -> None:
    scene = played.check(case, way)
    assert scene.bodies == []
    assert b"smuggled" not in b"".join(scene.received)


@of(S3)
def test_s3_a_body_keeps_its_framing(case: Case, way: str, played: Played) -> None:
    played.check(case, way)


@of(S4)
def test_s4_one_version_is_spoken(case: Case, way: str, played: Played) -> None:
    played.check(case, way)


@of(S5)
def test_s5_naming_a_field_in_connection_takes_nothing_of_ours(case: Case, way: str, played: Played) -> None:
    played.check(case, way)


@of(S6)
def test_s6_what_is_for_a_proxy_ends_here(case: Case, way: str, played: Played) -> None:
    played.check(case, way)


@of(S7)
def test_s7_raw_bytes_flow_after_a_101_alone(case: Case, way: str, played: Played) -> None:
    played.check(case, way)


@of(S8)
def test_s8_expectations_never_wait_for_ever(case: Case, way: str, played: Played) -> None:
    played.check(case, way)


@of(S9)
def test_s9_what_comes_before_the_200_goes_nowhere(case: Case, way: str, played: Played) -> None:
    played.check(case, way)


@of(S10)
def test_s10_heads_and_bodies_have_their_size_and_time(case: Case, way: str, played: Played) -> None:
    scene = played.check(case, way)
    assert scene.bodies == []


@of(IDLE)
def test_s10_a_stream_on_which_nothing_is_said_ends(case: Case, way: str, played: Played) -> None:
    played.check(case, way)


@AFTERWARDS
def test_t6_a_plain_request_succeeds_after_each(
    played: Played, record_property: RecordProperty, in_time: InTime
) -> None:
    played.check_afterwards(record_property, in_time)


def test_nothing_happened_that_belongs_to_no_case(played: Played) -> None:
    played.check_the_whole()
