"""One exchange from its head to its record, with every byte of both sides in the test's hand."""

import asyncio
import json
import socket
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest
from structlog.testing import capture_logs

from gateway.core.credential_cache import Credential, ResolveRequest
from gateway.credentials import CredentialError, Credentials, CredentialSource
from gateway.stream import ServedStream
from sallyport.secret import Secret
from tests.support.gateway_plans import basic, denied, header, plan, route
from tests.support.in_process import Settings
from tests.support.passing_time import let_time_pass
from tests.support.plan_documents import Document, rule_document
from tests.support.raw_end import RawAnswer, RawEnd
from tests.support.stage import CONNECTION, HOST, OK, OPEN_URL, SECRET, URL, Stage, one_route, stage
from tests.support.until import until

pytestmark = pytest.mark.uvloop

CANARY = SECRET.encode()
AUTHORIZED = b"Authorization: Bearer " + CANARY
CHUNKED = b"Transfer-Encoding: chunked"
QUERY = {"type": "query", "parameter": "api_key"}


def lines_of(head: bytes) -> list[bytes]:
    return head.removesuffix(b"\r\n\r\n").split(b"\r\n")


def problem(answer: RawAnswer) -> dict[str, object]:
    """Return the problem of an answer that the gateway made itself, its parts agreeing with one another."""
    document: dict[str, object] = json.loads(answer.body)
    assert answer.value("Content-Type") == "application/problem+json"
    assert answer.value("X-Sallyport-Error") == document["code"]
    assert answer.value("Proxy-Status").startswith("sallyport; error=")
    assert document["status"] == answer.status
    return document


async def refused(scene: Stage, request: bytes) -> tuple[int, object]:
    """Send a request and require that nothing of it leaves; return the status and code of its refusal."""
    client = await scene.gateway.client()
    client.send(request)
    answer = await client.answer()
    document = problem(answer)
    assert scene.origin.ends == []
    (record,) = await scene.gateway.audit.until(1)
    assert (record["status"], record["code"]) == (answer.status, document["code"])
    assert record["requestId"] == document["requestId"]
    assert record["upstreamAddress"] is None
    return answer.status, document["code"]


# What is written into a request

PLACEHOLDER = "sallyport-placeholder-1"
IN_HEADER = {"placeholders": [{"value": PLACEHOLDER, "in": ["header"]}]}
IN_PATH_AND_QUERY = {"placeholders": [{"value": PLACEHOLDER, "in": ["path", "query"]}]}
ADDITIONAL = {
    "additionalHeaders": {"X-Version": "2026-01-01"},
    "additionalCredentialHeaders": [
        {
            "header": "X-Second",
            "credentialResolver": {
                "kind": "integration_connection",
                "connectionId": "con_two",
                "secretType": "api_key",
            },
        }
    ],
}
ENCODED = quote(SECRET, safe="").encode()
IDENTITY = b"Accept-Encoding: identity"


@pytest.mark.parametrize(
    ("document", "sent", "first", "lines"),
    [
        pytest.param(one_route(), [], b"GET /v1/x HTTP/1.1", [AUTHORIZED], id="bearer"),
        pytest.param(
            one_route({"type": "bearer", "header": "X-Auth"}),
            [],
            b"GET /v1/x HTTP/1.1",
            [b"X-Auth: Bearer " + CANARY],
            id="bearer elsewhere",
        ),
        pytest.param(
            one_route(basic("x-token")),
            [],
            b"GET /v1/x HTTP/1.1",
            [b"Authorization: Basic " + b64encode(b"x-token:" + CANARY)],
            id="basic",
        ),
        pytest.param(
            one_route({"type": "header", "header": "X-Api-Key", "prefix": "key="}),
            [b"x-api-key: theirs"],
            b"GET /v1/x HTTP/1.1",
            [b"X-Api-Key: key=" + CANARY],
            id="header with a prefix",
        ),
        pytest.param(one_route(QUERY), [], b"GET /v1/x?api_key=" + ENCODED + b" HTTP/1.1", [], id="query"),
        pytest.param(
            one_route(**ADDITIONAL),
            [b"X-Second: theirs", b"x_version: theirs"],
            b"GET /v1/x HTTP/1.1",
            [b"X-Version: 2026-01-01", b"X-Second: the-second-secret", AUTHORIZED],
            id="additional headers",
        ),
        pytest.param(
            one_route(header("X-Key"), **IN_HEADER),
            [b"X-Other: <%b>" % PLACEHOLDER.encode()],
            b"GET /v1/x HTTP/1.1",
            [b"X-Other: <%b>" % CANARY, b"X-Key: " + CANARY],
            id="placeholder in a header",
        ),
    ],
)
async def test_each_kind_of_injection(
    tmp_path: Path, document: Document, sent: list[bytes], first: bytes, lines: list[bytes]
) -> None:
    async with stage(tmp_path, routes=[document], credentials={"con_two": "the-second-secret"}) as scene:
        _, _, head = await scene.ask(scene.gateway.request(URL, *sent))
        assert lines_of(head) == [first, b"Host: api.test", *lines, IDENTITY]


async def test_a_placeholder_in_path_and_query_is_percent_encoded(tmp_path: Path) -> None:
    async with stage(tmp_path, routes=[one_route(**IN_PATH_AND_QUERY)]) as scene:
        target = f"http://api.test/bot{PLACEHOLDER}/send?key={PLACEHOLDER}&x=%2F"
        client, link, head = await scene.ask(scene.gateway.request(target))
        assert lines_of(head)[0] == b"GET /bot%b/send?key=%b&x=%%2F HTTP/1.1" % (ENCODED, ENCODED)
        link.send(OK)
        await client.answer()
        (record,) = await scene.gateway.audit.until(1)
        assert record["path"] == f"/bot{PLACEHOLDER}/send"


@pytest.mark.parametrize("url", [URL, OPEN_URL], ids=["injected", "forwarded"])
@pytest.mark.parametrize("place", ["path", "query", "header", "trailer"])
async def test_c5_a_placeholder_that_no_route_replaces_never_leaves(tmp_path: Path, url: str, place: str) -> None:
    marked = {"path": f"{url}/{PLACEHOLDER}", "query": f"{url}?{PLACEHOLDER}"}.get(place, url)
    lines = [b"X-Key: " + PLACEHOLDER.encode()] if place == "header" else []
    document = one_route(**{"placeholders": [{"value": PLACEHOLDER, "in": ["header"]}]})
    if url == URL and place == "header":
        document = one_route(**{"placeholders": [{"value": PLACEHOLDER, "in": ["path"]}]})
    async with stage(tmp_path, routes=[document]) as scene:
        if place != "trailer":
            assert await refused(scene, scene.gateway.request(marked, *lines)) == (502, "credential_unavailable")
            return
        trailer = b"0\r\nX-Key: %b\r\n\r\n" % PLACEHOLDER.encode()
        client = await scene.gateway.client()
        client.send(scene.gateway.request(url, CHUNKED, method="POST", body=trailer))
        assert problem(await client.answer())["code"] == "credential_unavailable"
        assert await (await scene.origin.link()).is_quiet()


FOREIGN = [
    b"Authorization: Bearer theirs",
    b"AUTHORIZATION: Basic dGhlaXJz",
    b"X-Api-Key: theirs",
    b"x_api_key: theirs",
    b"Api-Key: theirs",
    b"PRIVATE-TOKEN: theirs",
    b"Private_Token: theirs",
    b"Cookie: a=theirs",
    b"cookie: b=theirs",
]


async def test_c1_no_foreign_key_rides_along(tmp_path: Path) -> None:
    async with stage(tmp_path) as scene:
        _, _, head = await scene.ask(scene.gateway.request(URL, b"X-Mine: 1", *FOREIGN, b"Y: 2"))
        assert lines_of(head)[2:] == [b"X-Mine: 1", b"Y: 2", AUTHORIZED, IDENTITY]


async def test_c1_kept_headers_are_kept_and_authorization_never_is(tmp_path: Path) -> None:
    async with stage(tmp_path, routes=[one_route(keepHeaders=["Cookie", "X-Api-Key"])]) as scene:
        _, _, head = await scene.ask(scene.gateway.request(URL, *FOREIGN))
        kept = [b"X-Api-Key: theirs", b"x_api_key: theirs", b"Cookie: a=theirs", b"cookie: b=theirs"]
        assert lines_of(head)[2:] == [*kept, AUTHORIZED, IDENTITY]


async def test_a_forward_removes_nothing_and_adds_nothing(tmp_path: Path) -> None:
    async with stage(tmp_path) as scene:
        lines = [*FOREIGN, b"Accept-Encoding: br", b"X-Odd:   spaced  "]
        client, link, head = await scene.ask(scene.gateway.request(f"{OPEN_URL}/../a?b=%zz&c", *lines))
        assert lines_of(head) == [b"GET /x/../a?b=%zz&c HTTP/1.1", b"Host: open.test", *lines]
        link.send(OK)
        await client.answer()
        (record,) = await scene.gateway.audit.until(1)
        assert (record["decision"], record["egressRuleId"], record["credentialVersion"]) == ("forward", None, None)


@pytest.mark.parametrize(
    "query",
    [
        "api_key=theirs",
        "%61pi_key=theirs",
        "api%5fkey=theirs&api_key=",
        "API_KEY=theirs&Api.Key[]=theirs&api-key=kept&+api_key%00=theirs",
        "a=1;api_key=theirs;b=2",
        "x=api_key&api_key=theirs&api_key=again",
    ],
)
async def test_p9_every_spelling_of_the_injected_parameter_is_removed(tmp_path: Path, query: str) -> None:
    async with stage(tmp_path, routes=[one_route(QUERY)]) as scene:
        _, _, head = await scene.ask(scene.gateway.request(f"{URL}?{query}"))
        target = head.split(b" ")[1]
        assert b"theirs" not in target
        assert b"again" not in target
        assert target.endswith(b"api_key=" + ENCODED)
        assert (b"kept" in target, b"x=api_key" in target, b"b=2" in target) == (
            "kept" in query,
            "x=api_key" in query,
            "b=2" in query,
        )


async def test_p10_a_query_is_otherwise_sent_byte_for_byte(tmp_path: Path) -> None:
    async with stage(tmp_path) as scene:
        query = "?X-Sig=a%2fb%2B&=&&;x=%zz?/'(!~[]"
        _, _, head = await scene.ask(scene.gateway.request(URL + query))
        assert lines_of(head)[0] == b"GET /v1/x" + query.encode() + b" HTTP/1.1"


async def test_the_canonical_path_is_the_one_that_is_sent(tmp_path: Path) -> None:
    async with stage(tmp_path) as scene:
        client, link, head = await scene.ask(scene.gateway.request("http://api.test/%76%31/%61%2fb//c;p=1"))
        assert lines_of(head)[0] == b"GET /v1/a%2Fb//c;p=1 HTTP/1.1"
        link.send(OK)
        await client.answer()
        (record,) = await scene.gateway.audit.until(1)
        assert record["path"] == "/v1/a%2Fb//c;p=1"


async def test_s5_s6_hop_fields_stay_here(tmp_path: Path) -> None:
    async with stage(tmp_path) as scene:
        lines = [
            b"Connection: keep-alive, X-Gone, Authorization, Accept-Encoding",
            b"Proxy-Connection: keep-alive",
            b"Proxy-Secret: x",
            b"Keep-Alive: timeout=5",
            b"TE: trailers",
            b"X-Gone: 1",
            b"X-Here: 1",
            b"Upgrade: h2c",
        ]
        _, _, head = await scene.ask(scene.gateway.request(URL, *lines))
        assert lines_of(head) == [b"GET /v1/x HTTP/1.1", b"Host: api.test", b"X-Here: 1", AUTHORIZED, IDENTITY]


# What is refused


@pytest.mark.parametrize(
    ("target", "host", "expected"),
    [
        pytest.param("http://api.test/v1/../admin", "api.test", (400, "invalid_request"), id="P1 dot segments"),
        pytest.param("http://api.test/v1/%2e%2e/admin", "api.test", (400, "invalid_request"), id="P1 encoded"),
        pytest.param("http://api.test/./v1", "api.test", (400, "invalid_request"), id="P2"),
        pytest.param("http://api.test/v1%5Cx", "api.test", (400, "invalid_request"), id="P3"),
        pytest.param("http://api.test/a%00", "api.test", (400, "invalid_request"), id="P5 nul"),
        pytest.param("http://api.test/a%0d%0aX:%20y", "api.test", (400, "invalid_request"), id="P5 line end"),
        pytest.param("http://api.test/\xe4", "api.test", (400, "invalid_request"), id="P5 not ASCII"),
        pytest.param("http://a@api.test/", "api.test", (400, "invalid_request"), id="P6 userinfo"),
        pytest.param("http://api.test/#x", "api.test", (400, "invalid_request"), id="P7 fragment"),
        pytest.param("*", "api.test", (400, "invalid_request"), id="P7 asterisk"),
        pytest.param("/v1/x", "api.test", (400, "invalid_request"), id="P7 origin form"),
        pytest.param("api.test/v1", "api.test", (400, "invalid_request"), id="P7 no scheme"),
        pytest.param("ftp://api.test/v1", "api.test", (400, "invalid_request"), id="other scheme"),
        pytest.param("https://api.test/v1", "api.test", (400, "invalid_request"), id="https in the clear"),
        pytest.param("http://api.test../v1", "api.test..", (400, "invalid_request"), id="H1 two dots"),
        pytest.param("http://api.test/", "other.test", (421, "authority_mismatch"), id="A1"),
        pytest.param("http://api.test/", "api.test:8080", (421, "authority_mismatch"), id="A1 port"),
        pytest.param("http://api.test/", "", (400, "invalid_request"), id="A3 empty"),
        pytest.param("http://api.test/", "api.test, api.test", (400, "invalid_request"), id="A3 list"),
        pytest.param("http://api.test/", None, (400, "invalid_request"), id="no Host"),
        pytest.param("http://denied.test/", "denied.test", (403, "denied_by_plan"), id="denied"),
        pytest.param("http://clear.test/", "clear.test", (403, "cleartext_refused"), id="cleartext"),
        pytest.param("http://169.254.169.254/", "169.254.169.254", (403, "address_refused"), id="H7"),
        pytest.param("http://10.0.0.1/", "10.0.0.1", (403, "address_refused"), id="private address"),
        pytest.param(
            "http://nowhere.test.invalid/", "nowhere.test.invalid", (502, "upstream_unreachable"), id="no name"
        ),
        pytest.param("http://lost.test/", "lost.test", (502, "credential_unavailable"), id="no credential"),
        pytest.param(
            "http://aws.test/", "aws.test", (502, "credential_unavailable"), id="aws_sigv4 with a single value"
        ),
    ],
)
async def test_a_request_is_refused_and_nothing_leaves(
    tmp_path: Path, target: str, host: str | None, expected: tuple[int, str]
) -> None:
    sigv4 = {"type": "aws_sigv4", "region": "eu-central-1", "service": "s3"}
    routes = [
        one_route(),
        route("clear", ["clear.test"], CONNECTION),
        route("lost", ["lost.test"], "con_unknown", allowCleartext=True),
        route("aws", ["aws.test"], CONNECTION, sigv4, allowCleartext=True),
    ]
    async with stage(tmp_path, routes=routes, rules=[denied("no", "denied.test", "not here")]) as scene:
        host_line = b"" if host is None else f"Host: {host}\r\n".encode("latin-1")
        first = f"GET {target} HTTP/1.1\r\n".encode("latin-1")
        assert await refused(scene, first + host_line + scene.gateway.authorization + b"\r\n\r\n") == expected


@pytest.mark.parametrize(("method", "expected"), [("TRACE", (405, "trace_refused")), ("get", (400, "invalid_request"))])
async def test_c3_methods_that_are_refused(tmp_path: Path, method: str, expected: tuple[int, str]) -> None:
    async with stage(tmp_path, routes=[one_route(match={"hosts": [HOST], "methods": ["GET"]})]) as scene:
        assert await refused(scene, scene.gateway.request(URL, method=method)) == expected


async def test_a2_every_request_of_an_intercepted_stream_is_checked(tmp_path: Path) -> None:
    async with stage(tmp_path) as scene:
        client = await scene.gateway.intercepted(f"{HOST}:443")
        client.send(b"GET /v1 HTTP/1.1\r\nHost: API.test:443\r\n\r\n")
        link = await scene.tls_origin.link()
        assert lines_of(await link.head()) == [b"GET /v1 HTTP/1.1", b"Host: api.test", AUTHORIZED, IDENTITY]
        link.send(OK)
        assert (await client.answer()).status == 200
        for target, host, status in [
            (b"/v1", b"other.test", 421),
            (b"https://other.test/v1", b"other.test", 421),
            (b"http://api.test/v1", b"api.test", 421),
            (b"/v1", b"api.test:80", 421),
            (b"*", b"api.test", 400),
        ]:
            client.send(b"GET %b HTTP/1.1\r\nHost: %b\r\n\r\n" % (target, host))
            assert (await client.answer()).status == status
        client.send(b"GET https://api.test/v1?y HTTP/1.1\r\nHost: api.test\r\nProxy-Authorization: Bearer x\r\n\r\n")
        head = await link.head()
        assert lines_of(head) == [b"GET /v1?y HTTP/1.1", b"Host: api.test", AUTHORIZED, IDENTITY]
        link.send(OK)
        assert (await client.answer()).status == 200
        records = await scene.gateway.audit.until(7)
        assert {(record["mode"], record["scheme"], record["host"]) for record in records} == {
            ("intercepted", "https", HOST)
        }


async def test_the_nearest_route_is_named(tmp_path: Path) -> None:
    document = one_route(match={"hosts": [HOST], "pathPrefixes": ["/v1"], "methods": ["GET"]})
    rule = rule_document("rest", "deny", HOST)
    async with stage(tmp_path, routes=[document], rules=[rule]) as scene:
        client = await scene.gateway.client()
        client.send(scene.gateway.request(URL, method="DELETE"))
        found = problem(await client.answer())
        assert found["nearest"] == {"egressRuleId": "r", "mismatch": ["method"], "expected": {"method": ["GET"]}}
        assert found["egressRuleId"] == "rest"


async def test_a_refused_head_request_gets_no_body(tmp_path: Path) -> None:
    async with stage(tmp_path, rules=[denied("no", "denied.test", "not here")]) as scene:
        client = await scene.gateway.client()
        client.send(scene.gateway.request("http://denied.test/", method="HEAD"))
        answer = await client.answer("HEAD")
        assert (answer.status, answer.value("X-Sallyport-Error")) == (403, "denied_by_plan")
        assert await client.is_quiet()


# Credentials


def use_source(scene: Stage, resolve: Callable[[], Credential]) -> asyncio.Event:
    """Let credentials come from a source of the test's own; it answers when the returned event is set."""
    may_answer = asyncio.Event()

    class Source(CredentialSource):
        async def resolve(self, request: ResolveRequest) -> Credential:
            await may_answer.wait()
            return resolve()

    parts = scene.gateway.parts
    parts.credentials = Credentials(
        Source(),
        parts.tasks,
        max_entries=16,
        max_concurrent=16,
        max_each=4,
        timeout_seconds=5,
        now=lambda: parts.clock.wall,
        random=lambda: 0.0,
        count=parts.metrics.credential_resolved,
    )
    return may_answer


async def test_c11_a_credential_that_cannot_be_had_now_is_503(tmp_path: Path) -> None:
    def fail() -> Credential:
        raise CredentialError("refresh_failed_temporary", temporary=True, retry_after_seconds=7, detail=SECRET)

    async with stage(tmp_path) as scene:
        use_source(scene, fail).set()
        client = await scene.gateway.client()
        client.send(scene.gateway.request(URL))
        answer = await client.answer()
        found = problem(answer)
        assert (answer.status, found["code"]) == (503, "credential_temporarily_unavailable")
        assert (answer.value("Retry-After"), found["retryable"]) == ("7", True)
        assert SECRET.encode() not in answer.body
        assert scene.origin.ends == []


async def test_c3_a_secret_too_short_to_be_looked_for_raises_an_alert_once_a_version(tmp_path: Path) -> None:
    values = [("canary1", "v1"), ("canary1", "v1"), ("canary2", "v2"), ("canary-8", "v3")]
    async with stage(tmp_path) as scene:
        resolved = iter([Credential(Secret(value.encode()), None, version) for value, version in values])
        use_source(scene, lambda: next(resolved)).set()
        client = await scene.gateway.client()
        with capture_logs() as logs:
            link = None
            for value, _ in values:
                client.send(scene.gateway.request(URL))
                link = link or await scene.origin.link()
                assert b"Bearer " + value.encode() in await link.head()
                link.send(OK)
                assert (await client.answer()).status == 200
                scene.gateway.parts.credentials.invalidate("connection", CONNECTION)
        alerts = [event for event in logs if event["event"] == "credential_too_short_to_scrub"]
        assert [(alert["log_level"], alert["connections"]) for alert in alerts] == [("error", [CONNECTION])] * 2
        assert "canary" not in str(alerts)
        assert scene.gateway.metric("sallyport_scrub_short_secrets_total") == 2


async def test_a_sandbox_that_goes_away_during_a_credential_fetch(tmp_path: Path) -> None:
    async with stage(tmp_path) as scene:
        may_answer = use_source(scene, lambda: Credential(Secret(CANARY), None, "v1"))
        client = await scene.gateway.client()
        client.send(scene.gateway.request(URL))
        await until(lambda: scene.gateway.parts.streams.admitted == 1)
        assert await client.is_quiet()
        client.abort()
        (record,) = await scene.gateway.audit.until(1)
        assert (record["status"], record["decision"], record["credentialVersion"]) == (None, "inject", None)
        assert record["outcome"] == "cancelled"
        assert scene.gateway.metric('sallyport_requests_total{outcome="cancelled",source="explicit"}') == 1
        # The fetch was not that sandbox's alone: the next one has its result.
        may_answer.set()
        _, _, head = await scene.ask(scene.gateway.request(URL))
        assert AUTHORIZED in head
        assert len(scene.origin.ends) == 1


async def test_a_sandbox_that_goes_away_during_a_dial(tmp_path: Path) -> None:
    silent = route("silent", ["silent.test"], CONNECTION)
    async with stage(tmp_path, routes=[silent]) as scene:
        silent["upstream"] = {"baseUrl": f"https://127.0.0.1:{scene.origin.port}"}
        scene.gateway.parts.plans.apply(plan([silent], revision=2))
        client = await scene.gateway.intercepted("silent.test:443")
        client.send(b"GET / HTTP/1.1\r\nHost: silent.test\r\n\r\n")
        link = await scene.origin.link()
        await link.exactly(1)  # a ClientHello that nobody answers
        client.abort()
        await link.gone()
        (record,) = await scene.gateway.audit.until(1)
        assert (record["status"], record["upstreamAddress"]) == (None, None)
        assert scene.gateway.parts.upstreams.state.open == 0


# An upstream 401 (C9)

UNAUTHORIZED = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 4\r\n\r\ndone"
NEWER = "another-secret-c0ffee"


async def test_c9_a_401_is_tried_once_more_with_a_newer_credential(tmp_path: Path) -> None:
    async with stage(tmp_path) as scene:
        client, link = await scene.warm_up()
        scene.gateway.set_credential(CONNECTION, NEWER)
        client.send(scene.gateway.request(URL))
        assert AUTHORIZED in await link.head()
        link.send(UNAUTHORIZED)
        fresh = await scene.origin.link()
        assert b"Authorization: Bearer " + NEWER.encode() in await fresh.head()
        await link.gone()
        fresh.send(OK)
        assert (await client.answer()).body == b"ok"
        # Not more than once in 30 seconds, whatever the upstream says.
        scene.gateway.set_credential(CONNECTION, "a-third-secret-value")
        client.send(scene.gateway.request(URL))
        await fresh.head()
        fresh.send(UNAUTHORIZED)
        assert (await client.answer()).body == b"done"
        first, second = await scene.gateway.audit.until(2)
        assert (first["status"], first["linkReused"], second["status"]) == (200, False, 401)
        assert first["credentialVersion"] == second["credentialVersion"]
        # Of each exchange at most one: the second answer to the same exchange says nothing new.
        assert scene.gateway.parts.metrics.credential_rejections == 2


async def test_c9_a_401_with_the_same_credential_is_passed_on(tmp_path: Path) -> None:
    async with stage(tmp_path) as scene:
        client, link = await scene.warm_up()
        client.send(scene.gateway.request(URL))
        await link.head()
        link.send(b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: x\r\nContent-Length: 4\r\n\r\ndo")
        link.send(b"ne")
        answer = await client.answer()
        assert (answer.status, answer.body, answer.value("WWW-Authenticate")) == (401, b"done", "x")
        client.send(scene.gateway.request(URL))
        await link.head()
        link.send(OK)
        assert (await client.answer()).status == 200
        assert len(scene.origin.ends) == 1


@pytest.mark.parametrize(("method", "body"), [("POST", b""), ("PUT", b"hello")])
async def test_c9_what_may_not_be_repeated_gets_its_401_and_the_next_the_newer_credential(
    tmp_path: Path, method: str, body: bytes
) -> None:
    async with stage(tmp_path) as scene:
        client, link = await scene.warm_up()
        scene.gateway.set_credential(CONNECTION, NEWER)
        client.send(scene.gateway.request(URL, b"Content-Length: %d" % len(body), method=method, body=body))
        await link.head()
        await link.exactly(len(body))
        link.send(UNAUTHORIZED)
        assert (await client.answer()).status == 401
        client.send(scene.gateway.request(URL))
        assert NEWER.encode() in await link.head()


async def test_c9_a_sandbox_that_goes_away_while_the_newer_credential_is_fetched(tmp_path: Path) -> None:
    async with stage(tmp_path) as scene:
        client, link = await scene.warm_up()
        may_answer = use_source(scene, lambda: Credential(Secret(CANARY), None, "v1"))
        may_answer.set()
        client.send(scene.gateway.request(URL))
        await link.head()
        may_answer.clear()
        link.send(UNAUTHORIZED)
        assert await client.is_quiet()
        client.abort()
        assert await link.gone() == b""
        await scene.gateway.audit.until(1)
        assert scene.gateway.parts.upstreams.state.open == 0


# Links that die (A7)


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "DELETE"])
async def test_a7_a_pooled_link_that_dies_is_replaced_once(tmp_path: Path, method: str) -> None:
    async with stage(tmp_path) as scene:
        client, link = await scene.warm_up()
        client.send(scene.gateway.request(URL, method=method))
        first = await link.head()
        link.close()
        fresh = await scene.origin.link()
        assert await fresh.head() == first
        fresh.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        assert (await client.answer(method)).status == 200
        (record,) = await scene.gateway.audit.until(1)
        assert record["linkReused"] is False


async def test_a7_once_and_no_more(tmp_path: Path) -> None:
    async with stage(tmp_path) as scene:
        client, link = await scene.warm_up()
        client.send(scene.gateway.request(URL))
        await link.head()
        link.abort()
        fresh = await scene.origin.link()
        await fresh.head()
        fresh.close()
        answer = await client.answer()
        found = problem(answer)
        assert (answer.status, found["code"], found["retryable"]) == (502, "upstream_unreachable", True)
        assert len(scene.origin.ends) == 2
        await scene.gateway.audit.until(1)


@pytest.mark.parametrize(
    ("method", "lines", "body", "answered"),
    [
        pytest.param("POST", [], b"", b"", id="POST"),
        pytest.param("PATCH", [], b"", b"", id="PATCH"),
        pytest.param("PUT", [b"Content-Length: 2"], b"hi", b"", id="with a body"),
        pytest.param("GET", [], b"", b"HTTP/1.1 2", id="a byte was answered"),
        pytest.param("GET", [], b"", b"HTTP/1.1 103 Early Hints\r\n\r\n", id="an interim answer"),
    ],
)
async def test_a7_what_may_not_be_repeated_is_502_and_retryable(
    tmp_path: Path, method: str, lines: list[bytes], body: bytes, answered: bytes
) -> None:
    async with stage(tmp_path) as scene:
        client, link = await scene.warm_up()
        client.send(scene.gateway.request(URL, *lines, method=method, body=body))
        await link.head()
        await link.exactly(len(body))
        link.send(answered)
        link.close()
        if b"103" in answered:
            assert (await client.answer()).status == 103
        answer = await client.answer()
        assert (answer.status, problem(answer)["retryable"]) == (502, True)
        assert len(scene.origin.ends) == 1


async def test_an_idle_link_that_was_closed_is_not_used(tmp_path: Path) -> None:
    async with stage(tmp_path) as scene:
        client, link = await scene.warm_up()
        link.close()
        await until(lambda: scene.gateway.parts.upstreams.state.open == 0)
        client.send(scene.gateway.request(URL, b"Content-Length: 2", method="POST", body=b"hi"))
        fresh = await scene.origin.link()
        await fresh.head()
        fresh.send(OK)
        assert (await client.answer()).status == 200


async def test_a_key_with_all_its_links_busy_is_503(tmp_path: Path) -> None:
    few: Settings = {"limits": {"links_per_key": 1, "idle_links_per_key": 1}, "timeouts": {"connect": "1s"}}
    async with stage(tmp_path, further=few) as scene:
        busy, link, _ = await scene.ask(scene.gateway.request(URL))
        client = await scene.gateway.client()
        client.send(scene.gateway.request(URL))
        answer = await client.answer()
        assert (answer.status, problem(answer)["code"]) == (503, "overloaded")
        link.send(OK)
        assert (await busy.answer()).status == 200


# Limits of the route


async def test_requests_over_the_routes_rate_are_429_and_say_when_to_try_again(tmp_path: Path) -> None:
    async with stage(tmp_path, routes=[one_route(limits={"requestsPerMinute": 1})]) as scene:
        client, link, _ = await scene.ask(scene.gateway.request(URL))
        link.send(OK)
        assert (await client.answer()).status == 200
        client.send(scene.gateway.request(URL))
        answer = await client.answer()
        assert (answer.status, problem(answer)["code"], problem(answer)["egressRuleId"]) == (429, "rate_limited", "r")
        assert 1 <= int(answer.value("Retry-After")) <= 60
        assert answer.values("Connection") == []


async def test_requests_at_once_over_the_routes_limit_are_429_until_one_ends(tmp_path: Path) -> None:
    async with stage(tmp_path, routes=[one_route(limits={"maxConcurrent": 1})]) as scene:
        first, link, _ = await scene.ask(scene.gateway.request(URL))
        second = await scene.gateway.client()
        second.send(scene.gateway.request(URL))
        assert (await second.answer()).status == 429
        link.send(OK)
        assert (await first.answer()).status == 200
        first.send(scene.gateway.request(URL))
        await link.head()
        first.abort()  # an exchange that nobody waits for gives its place back too
        await scene.gateway.audit.until(3)
        await scene.ask(scene.gateway.request(URL))


LIMITED = {"limits": {"maxRequestBodyBytes": 8}}


@pytest.mark.parametrize("lines", [[], [b"Expect: 100-continue"]])
async def test_a_body_over_the_routes_limit_is_413_by_its_length(tmp_path: Path, lines: list[bytes]) -> None:
    async with stage(tmp_path, routes=[one_route(**LIMITED)]) as scene:
        request = scene.gateway.request(URL, b"Content-Length: 9", *lines, method="POST")
        assert await refused(scene, request) == (413, "body_too_large")


# Expect: 100-continue, and answers that come early (S8)

EXPECT = [b"Content-Length: 5", b"Expect: 100-continue"]
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


async def test_s8_a_100_is_relayed(tmp_path: Path) -> None:
    async with stage(tmp_path) as scene:
        client, link, head = await scene.ask(scene.gateway.request(URL, *EXPECT, method="POST"))
        assert b"\r\nExpect: 100-continue\r\n" in head
        link.send(CONTINUE)
        assert await client.head() == CONTINUE
        client.send(b"hello")
        assert await link.exactly(5) == b"hello"
        link.send(OK)
        assert (await client.answer()).values("Connection") == []


async def test_s8_a_sandbox_that_does_not_wait_for_a_100(tmp_path: Path) -> None:
    async with stage(tmp_path) as scene:
        client, link, _ = await scene.ask(scene.gateway.request(URL, *EXPECT, method="POST"))
        client.send(b"hello")
        assert await link.exactly(5) == b"hello"
        link.send(CONTINUE + OK)
        assert await client.head() == CONTINUE
        assert (await client.answer()).body == b"ok"


@pytest.mark.parametrize("lines", [EXPECT[1:], []], ids=["expected", "during the upload"])
async def test_s8_an_early_final_answer_is_read_whole_and_ends_the_upload(tmp_path: Path, lines: list[bytes]) -> None:
    async with stage(tmp_path) as scene:
        request = scene.gateway.request(URL, b"Content-Length: 1000000", *lines, method="POST")
        client, link, _ = await scene.ask(request)
        link.send(b"HTTP/1.1 417 Expectation Failed\r\nContent-Length: 300000\r\n\r\n" + bytes(200_000))
        head = await client.head()
        assert head.endswith(b"\r\nConnection: close\r\nContent-Length: 300000\r\n\r\n")
        client.send(b"hell" * 40_000)
        link.send(bytes(100_000))
        assert await client.exactly(300_000) == bytes(300_000)
        assert await client.rest() == b""
        await link.gone()
        assert scene.gateway.parts.upstreams.state.open == 0
        (record,) = await scene.gateway.audit.until(1)
        assert (record["status"], record["code"]) == (417, None)


async def test_an_upload_that_ends_behind_an_early_answer(tmp_path: Path) -> None:
    async with stage(tmp_path) as scene:
        client, link, _ = await scene.ask(scene.gateway.request(URL, CHUNKED, method="POST", body=b"2\r\nhe\r\n"))
        link.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nHE\r\n")
        await client.until(b"HE\r\n")
        client.send(b"3\r\nllo\r\n0\r\n\r\n")
        assert (await link.until(b"0\r\n\r\n")).endswith(b"3\r\nllo\r\n0\r\n\r\n")
        link.send(b"3\r\nLLO\r\n0\r\n\r\n")
        assert await client.rest() == b"3\r\nLLO\r\n0\r\n\r\n"


async def test_a_slow_upstream_pauses_the_sandbox(tmp_path: Path) -> None:
    size = 24 * 1024 * 1024
    async with stage(tmp_path, further={"limits": {"write_buffer_bytes": "16KiB"}}) as scene:
        client, link, _ = await scene.ask(scene.gateway.request(URL, b"Content-Length: %d" % size, method="POST"))
        link.pause()
        client.send(bytes(size))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await client.writer.drain()
        (stream,) = [stream for stream in scene.gateway.parts.streams.all() if isinstance(stream, ServedStream)]
        await until(lambda: not stream.transport.is_reading())
        link.resume()
        assert await link.exactly(size) == bytes(size)
        link.send(OK)
        assert (await client.answer()).values("Connection") == []


async def test_a_link_that_fails_while_it_holds_the_sandbox_leaves_the_stream_usable(tmp_path: Path) -> None:
    async with stage(tmp_path, further={"limits": {"write_buffer_bytes": "16KiB"}}) as scene:
        client, link, _ = await scene.ask(scene.gateway.request(URL, b"Content-Length: 180000", method="POST"))
        (stream,) = [stream for stream in scene.gateway.parts.streams.all() if isinstance(stream, ServedStream)]
        exchange = stream.exchange
        assert exchange is not None
        assert exchange._answer is not None
        exchange._answer.link.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        link.pause()
        client.send(bytes(120_000))
        await until(lambda: exchange.bytes_up == 120_000)
        client.send(bytes(60_000))
        await until(lambda: exchange.is_request_done)
        # All of the body was taken, and the link has too much of it to take more.
        assert stream.is_reading_held
        link.abort()
        answer = await client.answer("POST")
        assert (answer.status, answer.values("Connection")) == (502, [])
        client.send(scene.gateway.request(URL))
        fresh = await scene.origin.link()
        await fresh.head()
        fresh.send(OK)
        assert (await client.answer()).status == 200


async def test_a_link_that_has_not_taken_the_request_is_not_used_again(tmp_path: Path) -> None:
    async with stage(tmp_path, further={"limits": {"write_buffer_bytes": "16KiB"}}) as scene:
        size = 240_000
        client, link, _ = await scene.ask(scene.gateway.request(URL, b"Content-Length: %d" % size, method="POST"))
        (stream,) = [stream for stream in scene.gateway.parts.streams.all() if isinstance(stream, ServedStream)]
        exchange = stream.exchange
        assert exchange is not None
        assert exchange._answer is not None
        exchange._answer.link.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        link.pause()
        client.send(bytes(size - 100_000))
        assert await client.is_quiet()
        client.send(bytes(100_000))
        assert await client.is_quiet()
        link.send(OK)
        assert (await client.answer()).status == 200
        assert scene.gateway.parts.upstreams.state.open == 0


# An upgrade (S7)

HANDSHAKE = [
    b"Connection: Upgrade",
    b"Upgrade: websocket",
    b"Sec-WebSocket-Key: x",
    b"Sec-WebSocket-Extensions: permessage-deflate",
]
SWITCHING = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Accept: y\r\n"
)


async def test_s7_bytes_flow_raw_after_a_101_and_the_secret_is_blanked_in_them(tmp_path: Path) -> None:
    async with stage(tmp_path) as scene:
        client, link, head = await scene.ask(scene.gateway.request(URL, *HANDSHAKE) + b"early")
        assert {b"Connection: Upgrade", b"Upgrade: websocket"} < set(lines_of(head))
        assert b"Sec-WebSocket-Extensions" not in head
        assert AUTHORIZED in head
        link.send(SWITCHING + b"X-Echo: " + CANARY + b"\r\n\r\n\x81\x1dhello " + CANARY + b"!")
        answer = await client.head()
        assert b"\r\nUpgrade: WebSocket\r\n" in answer
        assert CANARY not in answer
        assert await client.exactly(8 + len(CANARY) + 1) == b"\x81\x1dhello " + b"b" * len(CANARY) + b"!"
        assert await link.exactly(5) == b"early"
        client.send(b"\x00GET / HTTP/1.1\r\n\r\n")
        assert await link.until(b"\r\n\r\n") == b"\x00GET / HTTP/1.1\r\n\r\n"
        link.close()
        assert await client.rest() == b""
        client.close()
        (record,) = await scene.gateway.audit.until(1)
        assert (record["status"], record["bytesUp"], record["bytesDown"]) == (101, 5 + 19, 8 + len(CANARY) + 1)
        assert record["scrubbed"] == 2
        assert scene.gateway.metric('sallyport_requests_total{outcome="upgraded",source="explicit"}') == 1
        assert scene.gateway.parts.upstreams.state.open == 0
        assert scene.gateway.parts.streams.open == 0


@pytest.mark.parametrize(
    ("lines", "answer"),
    [
        pytest.param([], SWITCHING + b"\r\n", id="not asked for"),
        pytest.param(
            [b"Connection: Upgrade", b"Upgrade: h2c"], SWITCHING.replace(b"WebSocket", b"h2c") + b"\r\n", id="h2c"
        ),
        pytest.param(HANDSHAKE, SWITCHING.replace(b"WebSocket", b"h2c") + b"\r\n", id="another protocol"),
        pytest.param(HANDSHAKE, b"HTTP/1.1 101 Switching Protocols\r\n\r\n", id="no protocol"),
        pytest.param(HANDSHAKE, SWITCHING + b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n", id="an extension"),
    ],
)
async def test_s7_a_101_nobody_asked_for_is_502(tmp_path: Path, lines: list[bytes], answer: bytes) -> None:
    async with stage(tmp_path) as scene:
        client, link, _ = await scene.ask(scene.gateway.request(URL, *lines))
        link.send(answer + b"raw bytes")
        got = await client.answer()
        assert (got.status, problem(got)["code"]) == (502, "upstream_protocol_error")
        assert await link.gone() == b""
        await scene.gateway.audit.until(1)


async def test_s7_an_upgrade_that_is_declined_goes_on_as_http(tmp_path: Path) -> None:
    async with stage(tmp_path) as scene:
        client, link, _ = await scene.ask(scene.gateway.request(URL, *HANDSHAKE))
        link.send(b"HTTP/1.1 426 Upgrade Required\r\nContent-Length: 2\r\n\r\nno")
        assert (await client.answer()).status == 426
        client.send(scene.gateway.request(URL))
        await link.head()
        link.send(OK)
        assert (await client.answer()).status == 200


# Times, and the end of a gateway


async def test_s10_an_upstream_that_is_silent_is_504(tmp_path: Path) -> None:
    """The head never comes, or the body stops: their times run side by side. A slow upload is not the upstream's."""
    quick: Settings = {"timeouts": {"answer_head": "10s", "answer_body": "10s", "request_body": "60s"}}
    async with stage(tmp_path, further=quick) as scene:
        silent, link, _ = await scene.ask(scene.gateway.request(URL))
        stopped, other, _ = await scene.ask(scene.gateway.request(URL))
        upload, third, _ = await scene.ask(scene.gateway.request(URL, b"Content-Length: 2", method="POST", body=b"h"))
        other.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")
        await stopped.until(b"\r\n\r\nhalf")
        let_time_pass(scene.gateway.parts.clock, 11)
        answer = await silent.answer()
        assert (answer.status, problem(answer)["code"]) == (504, "upstream_timeout")
        assert await stopped.rest() == b""
        assert await link.gone() == b""
        assert await other.gone() == b""
        upload.send(b"i")
        assert await third.exactly(2) == b"hi"
        third.send(OK)
        assert (await upload.answer()).status == 200
        records = await scene.gateway.audit.until(3)
        assert sorted((record["status"], record["code"]) for record in records if record["code"]) == [
            (200, "upstream_timeout"),
            (504, "upstream_timeout"),
        ]


async def test_t5_a_drain_lets_the_open_exchange_end_and_says_close(tmp_path: Path) -> None:
    async with stage(tmp_path) as scene:
        client, link, _ = await scene.ask(scene.gateway.request(URL))
        scene.gateway.gateway.begin_drain()
        assert await client.is_quiet()
        link.send(OK)
        answer = await client.answer()
        assert (answer.body, answer.value("Connection")) == (b"ok", "close")
        assert await client.rest() == b""


async def test_links_are_shared_by_what_a_pool_key_holds_and_no_further(tmp_path: Path) -> None:
    """C12: the same host with another connection, or forwarded, has links of its own."""

    def under(prefix: str, connection_id: str) -> Document:
        match = {"hosts": [HOST], "pathPrefixes": [f"/{prefix}"]}
        return route(prefix, [HOST], connection_id, match=match, allowCleartext=True)

    routes = [under("one", CONNECTION), under("two", "con_two")]
    async with stage(tmp_path, routes=routes, credentials={"con_two": "the-second-secret"}) as scene:
        links: dict[str, RawEnd] = {}
        for path in ["/one", "/two", "/three", "/one", "/two", "/three"]:
            client = await scene.gateway.client()
            client.send(scene.gateway.request(f"http://api.test{path}"))
            link = links[path] if path in links else await scene.origin.link()
            links[path] = link
            assert (await link.head()).startswith(f"GET {path} ".encode())
            link.send(OK)
            assert (await client.answer()).body == b"ok"
        assert len(scene.origin.ends) == 3
