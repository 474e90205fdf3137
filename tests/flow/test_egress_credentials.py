"""Whose credential goes where (C1, C2, C5, C6, C7, C13), and what an agent is told, against a running gateway.

By both ways, where TLS has ended and in the clear. What is opaque never carries a credential.
"""

import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.afterwards import AFTERWARDS
from tests.support.egress_stage import (
    ADDED_LINES,
    BEARER_LINE,
    IDENTITY_LINE,
    OTHER_CONNECTION,
    OTHER_PORT,
    OTHER_SECRET,
    ROUTE,
    SECRET,
    Case,
    Played,
    Scene,
    asks_inside,
    asks_plainly,
    of,
    play_all,
)
from tests.support.egress_ways import WAYS
from tests.support.figures import InTime, RecordProperty
from tests.support.origin import Answer
from tests.support.plan_documents import Document
from tests.support.raw_end import RawEnd

BEGIN = b" HTTP/1.1\r\nHost: {host}\r\n"
END = IDENTITY_LINE + b"\r\n"
SECRET_BYTES = SECRET.encode()
PLACEHOLDER = "SECRET-GOES-HERE"
MARK = PLACEHOLDER.encode()


def on(**members: object) -> Sequence[Document]:
    return (ROUTE | members,)


def put(
    name: str,
    lines: bytes,
    status: int = 200,
    code: str = "",
    sent: bytes | None = None,
    *,
    target: bytes = b"/v1/x",
    arriving: bytes | None = None,
    method: bytes = b"GET",
    routes: Sequence[Mapping[str, object]] = (ROUTE,),
    rules: Sequence[Mapping[str, object]] = (),
    closes: bool = False,
) -> list[Case]:
    """Put lines, and the body behind them, both ways; sent is what the origin gets behind the Host."""
    verb = method.decode()
    line = method + b" " + (target if arriving is None else arriving)
    plays = (
        ("inside", asks_inside(method + b" " + target + BEGIN + lines, method=verb, closes=closes)),
        ("plain", asks_plainly(method + b" http://{host}" + target + BEGIN + lines, method=verb, closes=closes)),
    )
    return [
        Case(
            name=f"{name} {where}",
            play=play,
            status=status,
            code=code,
            sent=() if sent is None else (line + BEGIN + sent,),
            routes=routes,
            rules=rules,
            closes=closes,
        )
        for where, play in plays
    ]


FOREIGN = (
    b"Authorization: Bearer mine\r\nAUTHORIZATION: Basic eDp5\r\nauthorization:\r\n"
    b"X-Api-Key: mine\r\nx_api_key: mine\r\nAPI-KEY: mine\r\nApi_Key: mine\r\n"
    b"Private-Token: mine\r\nprivate_token: mine\r\nCookie: a=b\r\ncookie: c=d\r\n"
    b"X-HTTP-Method-Override: DELETE\r\nX_Original_Url: /admin\r\n"
)
BASIC = b64encode(b"me:" + SECRET_BYTES)
C1 = [
    *put("C1 bearer", FOREIGN + b"X-Kept: 1\r\n\r\n", sent=b"X-Kept: 1\r\n" + ADDED_LINES),
    *put(
        "C1 bearer elsewhere",
        FOREIGN + b"X-Mine: a\r\nx_mine: b\r\n\r\n",
        sent=b"X-Mine: Bearer " + SECRET_BYTES + b"\r\n" + END,
        routes=on(authInjection={"type": "bearer", "header": "X-Mine"}),
    ),
    *put(
        "C1 basic",
        FOREIGN + b"\r\n",
        sent=b"Authorization: Basic " + BASIC + b"\r\n" + END,
        routes=on(authInjection={"type": "basic", "username": "me"}),
    ),
    *put(
        "C1 a header with a prefix",
        FOREIGN + b"X-Injected: mine\r\nX_INJECTED: mine\r\n\r\n",
        sent=b"X-Injected: Token " + SECRET_BYTES + b"\r\n" + END,
        routes=on(authInjection={"type": "header", "header": "X-Injected", "prefix": "Token "}),
    ),
    *put(
        "C1 a query",
        FOREIGN + b"\r\n",
        sent=END,
        target=b"/v1/x?key=mine&a=b&KEY=mine&keys=c&k%65y",
        arriving=b"/v1/x?a=b&keys=c&key=" + SECRET_BYTES,
        routes=on(authInjection={"type": "query", "parameter": "key"}),
    ),
    *put(
        "C1 kept cookies",
        FOREIGN + b"\r\n",
        sent=b"Cookie: a=b\r\ncookie: c=d\r\n" + ADDED_LINES,
        routes=on(keepHeaders=["cookie"]),
    ),
    *put(
        "C1 further headers",
        FOREIGN + b"X-Static: mine\r\nx_static: mine\r\nX-Second: mine\r\nX_second: mine\r\n\r\n",
        sent=b"X-Static: ours\r\nX-Second: " + OTHER_SECRET.encode() + b"\r\n" + ADDED_LINES,
        routes=on(
            additionalHeaders={"X-Static": "ours"},
            additionalCredentialHeaders=[
                {
                    "header": "X-Second",
                    "credentialResolver": {
                        "kind": "integration_connection",
                        "connectionId": OTHER_CONNECTION,
                        "secretType": "api_key",
                    },
                }
            ],
        ),
    ),
    *put("C1 a folded one", b"Authorization: Bearer\r\n mine\r\n\r\n", 400, "invalid_request", closes=True),
    *put("C1 a twin beyond ASCII", b"Authorizati\xf6n: mine\r\n\r\n", 400, "invalid_request", closes=True),
    *put("C1 a space behind it", b"Authorization : Bearer mine\r\n\r\n", 400, "invalid_request", closes=True),
    # What no route claims is nobody's to change, and gets nothing of ours.
    *put(
        "C1 a forwarded request",
        b"Authorization: Bearer mine\r\nCookie: a=b\r\n\r\n",
        sent=b"Authorization: Bearer mine\r\nCookie: a=b\r\n\r\n",
        target=b"/v2/x",
        rules=({"action": "allow", "hosts": ["{host}"]},),
    ),
]


async def is_redirected(scene: Scene) -> None:
    answer = await scene.read(await scene.inside(b"GET /v1/moved" + BEGIN + b"\r\n"))
    assert answer.value("Location") == "https://evil.test/v1"


C2 = [
    Case(name="C2 a redirect", play=is_redirected, status=307, sent=(b"GET /v1/moved" + BEGIN + ADDED_LINES,)),
    *(
        case
        for method in (b"TRACE", b"trace", b"TrAcE")
        for case in put(
            f"C2 {method!r}", b"Max-Forwards: 1\r\n\r\n", 405, "trace_refused", method=method, target=b"/v1/x"
        )
    ),
]
IN_HEADERS = on(placeholders=[{"value": PLACEHOLDER, "in": ["header"]}])
IN_TARGET = on(placeholders=[{"value": PLACEHOLDER, "in": ["path", "query"]}])
LEFT = (502, "credential_unavailable")
CHUNKED = b"Transfer-Encoding: chunked\r\n"
C5 = [
    *put("C5 in a query", b"\r\n", *LEFT, target=b"/v1/x?k=" + MARK, routes=IN_HEADERS),
    *put("C5 in a path", b"\r\n", *LEFT, target=b"/v1/" + MARK, routes=IN_HEADERS),
    *put("C5 in a path, encoded", b"\r\n", *LEFT, target=b"/v1/%53" + MARK[1:], routes=IN_HEADERS),
    *put("C5 in a query, encoded", b"\r\n", *LEFT, target=b"/v1/x?k=%53ECRET%2dGOES%2DHERE", routes=IN_HEADERS),
    *put("C5 in a header", b"X-Key: a" + MARK + b"b\r\n\r\n", *LEFT, routes=IN_TARGET),
    *put("C5 in a header's name", MARK + b": a\r\n\r\n", *LEFT, routes=IN_HEADERS),
    *put("C5 in a method", b"\r\n", *LEFT, method=MARK, routes=IN_HEADERS),
    *put(
        "C5 where no route claims it",
        b"X-Key: " + MARK + b"\r\n\r\n",
        *LEFT,
        target=b"/v2/x",
        routes=IN_HEADERS,
        rules=({"action": "allow", "hosts": ["{host}"]},),
    ),
    *(
        Case(
            name=f"C5 in a trailer {where}",
            play=play,
            status=502,
            code="credential_unavailable",
            sent=None,
            closes=False,
            routes=IN_TARGET,
        )
        for body in (CHUNKED + b"\r\n0\r\nX-Key: " + MARK + b"\r\n\r\n",)
        for where, play in (
            ("inside", asks_inside(b"POST /v1/x" + BEGIN + body)),
            ("plain", asks_plainly(b"POST http://{host}/v1/x" + BEGIN + body)),
        )
    ),
    *put(
        "C5 in a slot that is removed",
        b"X-Api-Key: " + MARK + b"\r\nConnection: x-hop\r\nX-Hop: " + MARK + b"\r\n\r\n",
        sent=ADDED_LINES,
        routes=IN_TARGET,
    ),
]
C6 = [
    *put(
        "C6 in a target, encoded",
        b"\r\n",
        sent=ADDED_LINES,
        target=b"/v1/%53" + MARK[1:] + b"/y?k=SECRET%2DGOES%2dHERE&%2553ECRET-GOES-HERE",
        arriving=b"/v1/" + SECRET_BYTES + b"/y?k=" + SECRET_BYTES + b"&%2553ECRET-GOES-HERE",
        routes=IN_TARGET,
    ),
    *put(
        "C6 in a header and nowhere else",
        b"X-Key: a" + MARK + b"b\r\nContent-Length: %d\r\n\r\n" % len(MARK) + MARK,
        sent=b"X-Key: a" + SECRET_BYTES + b"b\r\nContent-Length: %d\r\n" % len(MARK) + ADDED_LINES + MARK,
        method=b"POST",
        routes=IN_HEADERS,
    ),
    *put(
        "C6 in a target",
        b"\r\n",
        sent=ADDED_LINES,
        target=b"/v1/" + MARK + b"/y?k=" + MARK + b"&secret-goes-here",
        arriving=b"/v1/" + SECRET_BYTES + b"/y?k=" + SECRET_BYTES + b"&secret-goes-here",
        routes=IN_TARGET,
    ),
]
BIG = bytes(range(256)) * 4096


async def uploads(scene: Scene) -> None:
    """The head is out long before the end of its body is here."""
    end = await scene.inside(b"PUT /v1/x" + BEGIN + CHUNKED + b"\r\n")
    await scene.origins.tls.wait_for_bytes(scene.fill(b"PUT /v1/x" + BEGIN + CHUNKED + BEARER_LINE))
    for start in range(0, len(BIG), 100_000):
        piece = BIG[start : start + 100_000]
        end.send(b"%x\r\n%b\r\n" % (len(piece), piece))
        await end.flush()
    end.send(b"0\r\n\r\n")
    await scene.read(end)


C7 = [Case(name="C7", play=uploads, status=200, sent=None)]


async def asks_twice(scene: Scene) -> None:
    for _ in range(2):
        end = await scene.inside(b"GET /v1/cached" + BEGIN + b"\r\n")
        assert (await scene.read(end)).value("Cache-Control") == "public, max-age=3600, immutable"
        end.close()


CACHED = b"GET /v1/cached" + BEGIN + ADDED_LINES
C13 = [Case(name="C13", play=asks_twice, status=200, sent=None, audited=[(200, None), (200, None)])]


# -- What an agent is told


def tells(
    name: str,
    request: bytes,
    status: int,
    code: str,
    members: Mapping[str, object],
    *,
    nearest: Mapping[str, object] | None = None,
    routes: Sequence[Mapping[str, object]] = (ROUTE,),
    first: Sequence[bytes] = (),
    sent: Sequence[bytes] = (),
) -> Case:
    """Ask in the clear, after `first`; members of the problem document are these, nearest what its route expects."""

    async def play(scene: Scene) -> None:
        for each in first:
            await scene.read(await scene.plain(each))
        answer = await scene.read(await scene.plain(request))
        document = json.loads(answer.body)
        assert {member: document.get(member) for member in members} == {
            member: _filled(scene, value) for member, value in members.items()
        }
        _check_nearest(scene, document, nearest)

    audited = [(200, None)] * len(first) + [(status, code)]
    return Case(name=name, play=play, status=status, code=code, audited=audited, routes=routes, sent=sent)


def _check_nearest(scene: Scene, document: Mapping[str, Any], expected: Mapping[str, object] | None) -> None:
    if expected is None:
        assert "nearest" not in document
    else:
        assert document["nearest"]["expected"] == _filled(scene, expected)
        assert document["nearest"]["mismatch"] == list(expected)
        assert document["nearest"]["egressRuleId"].startswith("route-")


def connects(name: str, authority: bytes, nearest: Mapping[str, object]) -> Case:
    """Ask to CONNECT to what the plan denies."""

    async def play(scene: Scene) -> None:
        end = await scene.connect(b"CONNECT " + authority + BEGIN + b"\r\n", "passthrough; revision=1")
        answer = await scene.read_last(end, "POST")
        _check_nearest(scene, json.loads(answer.body), nearest)

    return Case(name=name, play=play, status=403, code="denied_by_plan", closes=True, routes=on(match=HOST_ALONE))


def _filled(scene: Scene, value: object) -> object:
    return json.loads(scene.fill(json.dumps(value).encode()))


PLAIN = b"GET http://{host}/v1/x" + BEGIN + b"\r\n"
HOST_ALONE: Document = {"hosts": ["{host}"]}
PLAN_HINT = "the sandbox's egress plan decides this, not the network: trying again will not help"
TOLD = [
    tells(
        "another path",
        b"GET http://{host}/v2/x" + BEGIN + b"\r\n",
        403,
        "denied_by_plan",
        {"hint": PLAN_HINT, "retryable": False},
        nearest={"path": ["/v1"]},
    ),
    tells(
        "another host",
        b"GET http://other.{host}/v1/x HTTP/1.1\r\nHost: other.{host}\r\n\r\n",
        403,
        "denied_by_plan",
        {"hint": PLAN_HINT},
        nearest={"host": ["{host}"]},
    ),
    connects("another port of a CONNECT", b"{host}:%d" % OTHER_PORT, {"port": "the scheme's default port"}),
    tells(
        "another method",
        b"DELETE http://{host}/v1/x" + BEGIN + b"\r\n",
        403,
        "denied_by_plan",
        {"hint": PLAN_HINT},
        nearest={"method": ["GET"]},
        routes=on(match=HOST_ALONE | {"methods": ["GET"]}),
    ),
    tells(
        "a method in lower case",
        b"get http://{host}/v1/x" + BEGIN + b"\r\n",
        400,
        "invalid_request",
        {"hint": "write the method in upper case"},
        routes=on(match=HOST_ALONE | {"methods": ["GET"]}),
    ),
    tells("cleartext", PLAIN, 403, "cleartext_refused", {"hint": "use https://"}, routes=on(allowCleartext=False)),
    tells(
        "too many",
        PLAIN,
        429,
        "rate_limited",
        {"retryable": True},
        routes=on(limits={"requestsPerMinute": 1}),
        first=[PLAIN],
        sent=[b"GET /v1/x" + BEGIN + ADDED_LINES],
    ),
    tells(
        "a body too large",
        b"POST http://{host}/v1/x" + BEGIN + b"Content-Length: 9\r\n\r\n",
        413,
        "body_too_large",
        {"retryable": False},
        routes=on(limits={"maxRequestBodyBytes": 8}),
    ),
    tells(
        "no credential",
        PLAIN,
        502,
        "credential_unavailable",
        {"retryable": False},
        routes=on(connectionId="con_nobody_has"),
    ),
    tells(
        "a credential of another kind than the injection's",
        PLAIN,
        502,
        "credential_unavailable",
        {"retryable": False},
        routes=on(authInjection={"type": "aws_sigv4", "region": "eu-west-1", "service": "s3"}),
    ),
]


async def shows_no_token(scene: Scene) -> None:
    end = await RawEnd.dial(scene.way.gateway.proxy_port)
    end.send(scene.fill(PLAIN))
    answer = await scene.read(end)
    assert [value.partition(" ")[0] for value in answer.values("Proxy-Authenticate")] == ["Basic", "Bearer"]
    end.writer.transport.abort()


async def shows_the_token_of_another(scene: Scene) -> None:
    """A sandbox that has no plan gets nothing of one that has."""
    token = scene.way.gateway.mint_token("sallyport-proxy", sandbox_id="sbx_two").encode()
    end = await RawEnd.dial(scene.way.gateway.proxy_port)
    end.send(scene.fill(PLAIN[:-2] + b"Proxy-Authorization: Bearer " + token + b"\r\n\r\n"))
    answer = await scene.read(end)
    assert answer.value("Retry-After") == "5"
    end.writer.transport.abort()


async def asks_for_a_head(scene: Scene) -> None:
    answer = await scene.read(await scene.inside(b"HEAD /v2/x" + BEGIN + b"\r\n"), "HEAD")
    assert int(answer.value("Content-Length")) > 0


TOLD += [
    Case(name="no token", play=shows_no_token, status=407, code="authentication_required", ways=("explicit",)),
    Case(
        name="another sandbox", play=shows_the_token_of_another, status=503, code="plan_unavailable", ways=("explicit",)
    ),
    Case(name="a HEAD", play=asks_for_a_head, status=403, code="denied_by_plan"),
]


def play(folder: Path, ways: Sequence[str] = WAYS) -> Played:
    """Play the suite."""
    cached = b"HTTP/1.1 200 OK\r\nCache-Control: public, max-age=3600, immutable\r\nContent-Length: 2\r\n\r\nok"
    moved = b"HTTP/1.1 307 Moved\r\nLocation: https://evil.test/v1\r\nContent-Length: 0\r\n\r\n"
    return play_all(
        folder,
        [*C1, *C2, *C5, *C6, *C7, *C13, *TOLD],
        answers={"/v1/moved": Answer(parts=(moved,)), "/v1/cached": Answer(parts=(cached,))},
        ways=ways,
    )


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Played:
    return play(tmp_path_factory.mktemp("credentials"))


@of(C1)
def test_c1_no_foreign_key_rides_along(case: Case, way: str, played: Played) -> None:
    played.check(case, way)


@of(C2)
def test_c2_c3_nothing_is_followed_or_echoed(case: Case, way: str, played: Played) -> None:
    played.check(case, way)


@of(C5)
def test_c5_a_placeholder_that_is_left_never_leaves(case: Case, way: str, played: Played) -> None:
    scene = played.check(case, way)
    assert scene.bodies == [] or case.status == 200
    assert MARK not in b"".join(scene.received)


@of(C6)
def test_c6_a_placeholder_is_replaced_where_the_route_says(case: Case, way: str, played: Played) -> None:
    played.check(case, way)


@of(C7)
def test_c7_a_credential_is_written_before_any_body(case: Case, way: str, played: Played) -> None:
    assert played.check(case, way).bodies == [BIG]


@of(C13)
def test_c13_nothing_is_answered_from_a_cache(case: Case, way: str, played: Played) -> None:
    scene = played.check(case, way)
    assert b"".join(scene.received) == scene.fill(CACHED * 2)


@of(TOLD)
def test_an_agent_is_told_what_to_do(case: Case, way: str, played: Played) -> None:
    played.check(case, way)


@AFTERWARDS
def test_t6_a_plain_request_succeeds_after_each(
    played: Played, record_property: RecordProperty, in_time: InTime
) -> None:
    played.check_afterwards(record_property, in_time)


def test_nothing_happened_that_belongs_to_no_case(played: Played) -> None:
    played.check_the_whole()
