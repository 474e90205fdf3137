"""Streams of a tunnel: what each declares, what it is answered, and that it is served like any other."""

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from gateway.core.credential_cache import Credential, CredentialKey, ResolveRequest
from gateway.credentials import CredentialError, CredentialSource
from gateway.stream import ServedStream
from sallyport.plan.codec import seal
from sallyport.secret import Secret
from tests.support.gateway_plans import denied, route
from tests.support.in_process import in_process_gateway
from tests.support.passing_time import let_time_pass
from tests.support.plan_documents import plan_document, rule_document
from tests.support.raw_end import RawEnd
from tests.support.stage import CONNECTION, HOST, OK, OPEN_URL, SECRET, URL, Stage, one_route, stage
from tests.support.tls_by_hand import TlsByHand
from tests.support.tunnel_client import TunnelClient
from tests.support.until import until

pytestmark = pytest.mark.uvloop

MANAGED = f"{HOST}:443"
INTERCEPTED = "intercepted; revision=1"
PASSTHROUGH = "passthrough; revision=1"
PLAIN = "plain; revision=1"
RESOLVER = {"kind": "integration_connection", "connectionId": CONNECTION, "secretType": "api_key"}
INSIDE = b"GET /v1/x HTTP/1.1\r\nHost: api.test\r\nAuthorization: Bearer mine\r\n\r\n"


def ask(url: str, *lines: bytes, method: str = "GET", body: bytes = b"") -> bytes:
    """A proxy request without any token: the tunnel's stands for it."""
    host = url.partition("://")[2].partition("/")[0].encode()
    return b"\r\n".join((f"{method} {url} HTTP/1.1".encode(), b"Host: " + host, *lines, b"", body))


@contextlib.asynccontextmanager
async def tunnelled(folder: Path, **further: object) -> AsyncIterator[tuple[Stage, TunnelClient]]:
    """Set the usual scene with a tunnel; at its end nothing that came out of it may hold the secret."""
    async with stage(folder, **further) as scene:  # type: ignore[arg-type]  # what stage() takes
        client = await scene.gateway.tunnel()
        yield scene, client
        assert SECRET.encode() not in client.keeping.received
        assert b"canary" not in client.keeping.received


async def refused(end: RawEnd) -> tuple[int, str]:
    answer = await end.answer("CONNECT")
    assert answer.value("X-Sallyport-Error") == json.loads(answer.body)["code"]
    assert await end.rest() == b""
    return answer.status, str(json.loads(answer.body)["code"])


async def still_serves(client: TunnelClient) -> None:
    """T6: whatever came before harmed its own stream alone."""
    assert (await client.ask(ask(OPEN_URL, method="TRACE"), PLAIN).answer()).status == 405


# ---- intercepted


async def test_a_request_inside_carries_the_credential_and_its_answer_does_not(tmp_path: Path) -> None:
    async with tunnelled(tmp_path) as (scene, client):
        end = await client.inside(MANAGED)
        end.send(INSIDE)
        link = await scene.tls_origin.link()
        head = await link.head()
        assert head.startswith(b"GET /v1/x HTTP/1.1\r\nHost: api.test\r\n")
        assert head.count(b"Authorization: ") == 1
        assert b"Authorization: Bearer " + SECRET.encode() in head
        assert b"allyport" not in head
        link.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(SECRET), SECRET.encode()))
        answer = await end.answer()
        assert (answer.status, len(answer.body)) == (200, len(SECRET))
        (record,) = await scene.gateway.audit.until(1)
        assert (record["source"], record["mode"], record["outcome"]) == ("tunnel", "intercepted", "injected")
        assert (record["sandboxId"], record["organizationId"]) == ("sbx_one", "org_one")
        assert (record["scheme"], record["host"], record["path"]) == ("https", HOST, "/v1/x")
        assert scene.gateway.metric('sallyport_requests_total{outcome="injected",source="tunnel"}') == 1


async def test_requests_of_one_stream_are_pipelined_and_answered_in_order(tmp_path: Path) -> None:
    async with tunnelled(tmp_path) as (scene, client):
        end = await client.inside(MANAGED)
        end.send(b"".join(b"GET /v1/%d HTTP/1.1\r\nHost: api.test\r\n\r\n" % number for number in range(3)))
        link = await scene.tls_origin.link()
        for number in range(3):
            assert (await link.head()).startswith(b"GET /v1/%d " % number)
            link.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d" % number)
        assert [(await end.answer()).body for _ in range(3)] == [b"0", b"1", b"2"]


async def test_bytes_behind_the_connect_are_served(tmp_path: Path) -> None:
    async with tunnelled(tmp_path) as (scene, client):
        connect = b"CONNECT api.test:443 HTTP/1.1\r\nHost: api.test:443\r\n\r\n"
        end = client.ask(connect + INSIDE, INTERCEPTED)
        link = await scene.tls_origin.link()
        await link.head()
        link.send(OK)
        assert (await end.head()).startswith(b"HTTP/1.1 200 ")
        assert (await end.answer()).body == b"ok"


async def test_a1_cleartext_inside_is_an_http_request(tmp_path: Path) -> None:
    routes = [one_route(), route("strict", ["strict.test"], CONNECTION)]
    async with tunnelled(tmp_path, routes=routes) as (scene, client):
        end = await client.inside(f"{HOST}:80", INTERCEPTED + "; cleartext")
        end.send(INSIDE)
        link = await scene.origin.link()
        assert b"Bearer " + SECRET.encode() in await link.head()
        link.send(OK)
        assert (await end.answer()).status == 200
        end = await client.inside("strict.test:80", INTERCEPTED + "; cleartext")
        end.send(b"GET / HTTP/1.1\r\nHost: strict.test\r\n\r\n")
        answer = await end.answer()
        assert (answer.status, answer.value("X-Sallyport-Error")) == (403, "cleartext_refused")


async def test_a2_another_host_inside_is_refused_and_nothing_is_sent(tmp_path: Path) -> None:
    async with tunnelled(tmp_path) as (scene, client):
        end = await client.inside(MANAGED)
        end.send(b"GET / HTTP/1.1\r\nHost: evil.test\r\n\r\n")
        answer = await end.answer()
        assert (answer.status, answer.value("X-Sallyport-Error")) == (421, "authority_mismatch")
        assert scene.tls_origin.ends == []


async def test_s7_bytes_flow_both_ways_after_a_101(tmp_path: Path) -> None:
    async with tunnelled(tmp_path) as (scene, client):
        end = await client.inside(MANAGED)
        end.send(b"GET /v1/ws HTTP/1.1\r\nHost: api.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        link = await scene.tls_origin.link()
        assert b"Upgrade: websocket" in await link.head()
        link.send(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n\x82\x0bfrom origin"
        )
        assert (await end.head()).startswith(b"HTTP/1.1 101 ")
        assert await end.exactly(13) == b"\x82\x0bfrom origin"
        end.send(b"from sandbox")
        assert await link.exactly(12) == b"from sandbox"
        end.close()
        await link.gone()
        (record,) = await scene.gateway.audit.until(1)
        assert (record["outcome"], record["source"], record["bytesUp"]) == ("upgraded", "tunnel", 12)


async def test_a_large_body_each_way_is_whole(tmp_path: Path) -> None:
    body = bytes(range(256)) * 8192  # 2 MiB: far more than any window
    async with tunnelled(tmp_path) as (scene, client):
        end = await client.inside(MANAGED)
        end.send(b"POST /v1/x HTTP/1.1\r\nHost: api.test\r\nContent-Length: %d\r\n\r\n" % len(body))
        end.send(body)
        link = await scene.tls_origin.link()
        await link.head()
        assert await link.exactly(len(body)) == body
        link.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        assert (await end.answer()).body == body


# ---- credentials


class Answers(CredentialSource):
    """Gives what it is told, one after the other, and the last one again."""

    def __init__(self, *answers: Credential | CredentialError) -> None:
        self.answers = [*answers]
        self.asked: list[CredentialKey] = []

    async def resolve(self, request: ResolveRequest) -> Credential:
        self.asked.append(request.key)
        found = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(found, CredentialError):
            raise found
        return found


def credential(version: str, expires_at: float | None = None) -> Credential:
    return Credential(Secret(f"canary-of-{version}".encode()), expires_at, version)


def use_source(scene: Stage, *answers: Credential | CredentialError) -> Answers:
    source = scene.gateway.parts.credentials._source = Answers(*answers)
    return source


async def sent_with(scene: Stage, end: RawEnd, version: str, link: RawEnd | None = None, answer: bytes = OK) -> RawEnd:
    """Ask once, and return the link on which this version of the credential arrived."""
    end.send(INSIDE)
    link = link or await scene.tls_origin.link()
    assert f"Bearer canary-of-{version}\r\n".encode() in await link.head()
    link.send(answer)
    return link


async def test_c8_credentials_are_told_apart_however_their_names_are_cut(tmp_path: Path) -> None:
    routes = [
        one_route(
            bindingId="bnd_a-con_b",
            credentialResolver=RESOLVER | {"connectionId": "con_c"},
            match={"hosts": [HOST], "methods": ["GET"]},
        ),
        route("other", [HOST], "con_b-con_c", bindingId="bnd_a", match={"hosts": [HOST], "methods": ["PUT"]}),
    ]
    async with tunnelled(tmp_path, routes=routes) as (scene, client):
        source = use_source(scene, credential("one"), credential("two"))
        end = await client.inside(MANAGED)
        await sent_with(scene, end, "one")
        assert (await end.answer()).status == 200
        end.send(INSIDE.replace(b"GET", b"PUT", 1))
        link = await scene.tls_origin.link()  # and so the links are
        assert b"Bearer canary-of-two\r\n" in await link.head()
        assert [(key.binding_id, key.connection_id) for key in source.asked] == [
            ("bnd_a-con_b", "con_c"),
            ("bnd_a", "con_b-con_c"),
        ]


async def test_c9_a_401_is_tried_once_more_with_a_newer_credential(tmp_path: Path) -> None:
    unauthorized = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno"
    async with tunnelled(tmp_path) as (scene, client):
        source = use_source(scene, credential("old"), credential("new"), credential("newest"))
        end = await client.inside(MANAGED)
        refused = await sent_with(scene, end, "old", answer=unauthorized)
        link = await scene.tls_origin.link()
        assert b"Bearer canary-of-new\r\n" in await link.head()
        await refused.gone()
        link.send(OK)
        assert (await end.answer()).body == b"ok"
        # Once in 30 s, whatever the upstream says.
        await sent_with(scene, end, "new", link, unauthorized)
        assert (await end.answer()).status == 401
        assert len(source.asked) == 2


@pytest.mark.parametrize("age", [0.0, -1.0, -3600.0])
async def test_c10_a_credential_that_is_over_is_never_sent(tmp_path: Path, age: float) -> None:
    async with tunnelled(tmp_path) as (scene, client):
        use_source(scene, credential("dead", scene.gateway.parts.clock.wall + age))
        end = await client.inside(MANAGED)
        end.send(INSIDE)
        answer = await end.answer()
        assert (answer.status, answer.value("X-Sallyport-Error")) == (503, "credential_temporarily_unavailable")
        assert scene.tls_origin._waiting.empty()


async def test_c10_a_credential_without_an_end_serves_until_it_is_invalidated(tmp_path: Path) -> None:
    async with tunnelled(tmp_path) as (scene, client):
        source = use_source(scene, credential("one"), credential("two"))
        end = await client.inside(MANAGED)
        link = await sent_with(scene, end, "one")
        await end.answer()
        await sent_with(scene, end, "one", link)
        await end.answer()
        assert len(source.asked) == 1
        scene.gateway.parts.credentials.invalidate("connection", CONNECTION)
        await sent_with(scene, end, "two", link)
        assert (await end.answer()).status == 200


@pytest.mark.parametrize(("temporary", "status"), [(True, 503), (False, 502)])
async def test_c11_a_credential_that_cannot_be_had(tmp_path: Path, temporary: bool, status: int) -> None:
    async with tunnelled(tmp_path) as (scene, client):
        error = CredentialError("refresh_failed", temporary=temporary, retry_after_seconds=7, detail=SECRET)
        use_source(scene, error)
        end = await client.inside(MANAGED)
        end.send(INSIDE)
        answer = await end.answer()
        assert (answer.status, answer.values("Retry-After")) == (status, ["7"] if temporary else [])
        assert scene.tls_origin._waiting.empty()


# ---- what a stream declares


@pytest.mark.parametrize(
    "lines",
    [
        [],
        [b"Sallyport-Stream: intercepted; revision=1"] * 2,
        [b"Sallyport-Stream: intercepted; revision=1", b"sallyport-stream: passthrough; revision=1"],
        [b"Sallyport-Stream: intercepted"],
        [b"Sallyport-Stream: intercepted; revision=0"],
        [b"Sallyport-Stream: intercepted; revision=-1"],
        [b"Sallyport-Stream: intercepted; revision=99999999999999999999"],
        [b"Sallyport-Stream: inject; revision=1"],
        [b"Sallyport-Stream: passthrough; revision=1; cleartext"],
        [b"Sallyport-Stream: plain; revision=1"],
        [b"Sallyport-Stream: intercepted; revision=1", b"Sallyport-Sandbox: sbx_two"],
        [b"Sallyport_Stream: intercepted; revision=1"],
    ],
)
async def test_a_connect_that_declares_nothing_clear_is_refused(tmp_path: Path, lines: list[bytes]) -> None:
    async with tunnelled(tmp_path) as (scene, client):
        end = client.open()
        end.send(b"\r\n".join((b"CONNECT api.test:443 HTTP/1.1", b"Host: api.test:443", *lines, b"", b"")))
        assert await refused(end) == (400, "invalid_request")
        (record,) = await scene.gateway.audit.until(1)
        assert (record["source"], record["code"]) == ("tunnel", "invalid_request")
        await still_serves(client)


@pytest.mark.parametrize("declared", [INTERCEPTED, PASSTHROUGH])
async def test_a_request_that_is_no_connect_is_plain(tmp_path: Path, declared: str) -> None:
    async with tunnelled(tmp_path) as (_, client):
        assert await refused(client.ask(ask(URL), declared)) == (400, "invalid_request")


STALE: list[tuple[str, str, str, tuple[int, str]]] = [
    # what the sandbox asks for, what it declares, managedPassthrough, the answer
    (MANAGED, "intercepted; revision=6", "deny", (200, "")),
    (MANAGED, "intercepted; revision=8", "deny", (200, "")),
    (MANAGED, "passthrough; revision=6", "deny", (421, "stale_interception")),
    (MANAGED, "passthrough; revision=7", "deny", (403, "denied_by_plan")),
    (MANAGED, "passthrough; revision=6", "allow", (421, "stale_interception")),
    ("open.test:443", "intercepted; revision=6", "deny", (421, "stale_interception")),
    ("open.test:443", "intercepted; revision=8", "deny", (421, "stale_interception")),
    ("open.test:443", "intercepted; revision=7", "deny", (400, "invalid_request")),
    ("no.test:443", "passthrough; revision=7", "deny", (403, "denied_by_plan")),
    ("no.test:443", "passthrough; revision=2", "deny", (403, "denied_by_plan")),
]


@pytest.mark.parametrize(("authority", "declared", "managed_passthrough", "expected"), STALE)
async def test_only_another_mode_makes_a_set_stale(
    tmp_path: Path, authority: str, declared: str, managed_passthrough: str, expected: tuple[int, str]
) -> None:
    document = plan_document([one_route()], [denied("no", "no.test", "not here")], default="passthrough", revision=7)
    async with in_process_gateway(tmp_path, plan=seal(with_egress(document, managed_passthrough))) as gateway:
        client = await gateway.tunnel()
        end = client.connect(authority, declared)
        if expected[0] == 200:
            assert (await end.head()).startswith(b"HTTP/1.1 200 ")
        else:
            assert await refused(end) == expected
            (record,) = await gateway.audit.until(1)
            assert (record["code"], record["planRevision"]) == (expected[1], 7)
            assert f"{record['host']}:{record['port']}" == authority


def with_egress(document: Mapping[str, object], managed_passthrough: str) -> dict[str, object]:
    egress = document["egress"]
    assert isinstance(egress, dict)
    return {**document, "egress": {**egress, "managedPassthrough": managed_passthrough}}


async def test_a_sandbox_without_a_plan_is_told_to_come_back(tmp_path: Path) -> None:
    async with in_process_gateway(tmp_path) as gateway:
        client = await gateway.tunnel()
        assert await refused(client.connect(MANAGED, INTERCEPTED)) == (503, "plan_unavailable")


@pytest.mark.parametrize(
    ("request_line", "host", "expected"),
    [
        (b"CONNECT api.test HTTP/1.1", b"api.test", (400, "invalid_request")),
        (b"CONNECT api.test:443 HTTP/1.1", b"evil.test:443", (421, "authority_mismatch")),
        (b"CONNECT a\x00.test:443 HTTP/1.1", b"a.test:443", (400, "invalid_request")),
        (b"CONNECT user@api.test:443 HTTP/1.1", b"api.test:443", (400, "invalid_request")),
        (b"CONNECT api.test:443 HTTP/3.0", b"api.test:443", (505, "http_version")),
    ],
)
async def test_h4_a_connect_that_says_two_things_is_refused(
    tmp_path: Path, request_line: bytes, host: bytes, expected: tuple[int, str]
) -> None:
    async with tunnelled(tmp_path) as (_scene, client):
        end = client.ask(request_line + b"\r\nHost: " + host + b"\r\n\r\n", INTERCEPTED)
        assert await refused(end) == expected
        await still_serves(client)


# ---- passthrough


async def test_opaque_bytes_pass_after_the_dial(tmp_path: Path) -> None:
    async with tunnelled(tmp_path) as (scene, client):
        scene.gateway.parts.dialer._connect_to[("open.test", 443)] = ("127.0.0.1", scene.tls_origin.port)
        end = await client.inside("open.test:443", PASSTHROUGH)
        tls = TlsByHand(ssl.create_default_context(), "open.test")
        hello = tls.hello()
        end.send(hello)
        # The origin's side of this TLS is another host's, so what comes back is opaque to us as well.
        await end.some()
        end.close()
        (record,) = await scene.gateway.audit.until(1)
        assert (record["mode"], record["outcome"], record["source"]) == ("passthrough", "passthrough", "tunnel")
        assert record["bytesUp"] == len(hello)


async def test_a_dial_that_fails_is_answered_instead_of_the_200(tmp_path: Path) -> None:
    async with tunnelled(tmp_path) as (scene, client):
        scene.gateway.parts.dialer._connect_to[("open.test", 443)] = ("127.0.0.1", 1)
        assert await refused(client.connect("open.test:443", PASSTHROUGH)) == (502, "upstream_unreachable")
        await still_serves(client)


async def test_a1_another_name_in_the_hello_resets_the_stream(tmp_path: Path) -> None:
    async with tunnelled(tmp_path) as (scene, client):
        scene.gateway.parts.dialer._connect_to[("open.test", 443)] = ("127.0.0.1", scene.tls_origin.port)
        end = await client.inside("open.test:443", PASSTHROUGH)
        end.send(TlsByHand(ssl.create_default_context(), HOST).hello())
        assert await end.gone() == b""
        (record,) = await scene.gateway.audit.until(1)
        assert (record["code"], record["outcome"]) == ("sni_mismatch", "denied")
        await still_serves(client)


async def test_a_managed_host_passes_unseen_only_where_the_plan_says_so(tmp_path: Path) -> None:
    rules = [rule_document("no-host", "deny", "barred.test")]
    routes = [one_route(), route("barred", ["barred.test"], CONNECTION)]
    document = with_egress(plan_document(routes, rules, default="deny"), "allow")
    async with stage(tmp_path) as scene:
        scene.gateway.parts.plans.apply(seal({**document, "revision": 2}))
        client = await scene.gateway.tunnel()
        end = await client.inside(MANAGED, "passthrough; revision=2")
        context = ssl.create_default_context(cafile=str(tmp_path / "origins.pem"))
        tls = TlsByHand(context, HOST)
        end.send(tls.hello())
        await tls.finish(end)
        link = await scene.tls_origin.link()
        assert await link.is_quiet()
        assert await refused(client.connect("barred.test:443", "passthrough; revision=2")) == (403, "denied_by_plan")


# ---- plain


async def test_a_plain_stream_begins_with_the_sandbox_s_own_request(tmp_path: Path) -> None:
    async with tunnelled(tmp_path) as (scene, client):
        end = client.ask(ask(URL, b"Proxy-Authorization: Basic Zm9v", b"Proxy-Connection: keep-alive", b"X-Mine: 1"))
        link = await scene.origin.link()
        head = await link.head()
        assert b"Bearer " + SECRET.encode() in head
        assert b"X-Mine: 1" in head
        assert b"roxy-" not in head
        assert b"allyport" not in head
        link.send(OK)
        assert (await end.answer()).status == 200
        # Later heads declare nothing and need no token: the tunnel's stands for all of them.
        end.send(ask(f"{URL}?2"))
        assert (await link.head()).startswith(b"GET /v1/x?2 ")
        link.send(OK)
        assert (await end.answer()).status == 200
        records = await scene.gateway.audit.until(2)
        assert {(each["source"], each["mode"], each["outcome"]) for each in records} == {
            ("tunnel", "plain", "injected")
        }


@pytest.mark.parametrize(
    "later",
    [
        ask(URL, b"Sallyport-Stream: plain; revision=1"),
        ask(URL, b"Sallyport-Anything: 1"),
        ask(URL, b"sallyport_stream: plain; revision=1"),
        b"CONNECT api.test:443 HTTP/1.1\r\nHost: api.test:443\r\n\r\n",
        b"CONNECT api.test:443 HTTP/1.1\r\nHost: api.test:443\r\nSallyport-Stream: intercepted; revision=1\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
)
async def test_later_heads_declare_nothing(tmp_path: Path, later: bytes) -> None:
    async with tunnelled(tmp_path) as (scene, client):
        end = client.ask(ask(OPEN_URL) + later)
        link = await scene.origin.link()
        await link.head()
        link.send(OK)
        assert (await end.answer()).status == 200
        assert await refused(end) == (400, "invalid_request")
        await still_serves(client)


async def test_the_explicit_listener_refuses_our_fields_always(tmp_path: Path) -> None:
    async with stage(tmp_path) as scene:
        for request in (
            scene.gateway.request(URL, b"Sallyport-Stream: plain; revision=1"),
            b"CONNECT api.test:443 HTTP/1.1\r\nHost: api.test:443\r\nSallyport-Stream: intercepted; revision=1\r\n"
            + scene.gateway.authorization
            + b"\r\n\r\n",
        ):
            client = await scene.gateway.client()
            client.send(request)
            assert await refused(client) == (400, "invalid_request")


async def test_p1_paths_are_refused_as_on_the_explicit_listener(tmp_path: Path) -> None:
    async with tunnelled(tmp_path) as (_, client):
        for path in ("/v1/../admin", "/v1/%2e%2e/admin", "/v1/x\\y", "/v1/%00"):
            answer = await client.ask(ask(f"http://{HOST}{path}")).answer()
            assert answer.status == 400, path


# ---- how a stream ends


async def test_a_head_that_is_too_long_or_has_too_many_fields_is_refused(tmp_path: Path) -> None:
    async with tunnelled(tmp_path) as (_scene, client):
        long = client.ask(ask(URL, b"X-Long: " + b"x" * 70_000))
        many = client.ask(ask(URL, *(b"X-%d: 1" % number for number in range(200))))
        assert await refused(long) == (431, "head_too_large")
        assert await refused(many) == (431, "head_too_large")
        await still_serves(client)


async def test_a_head_has_its_time(tmp_path: Path) -> None:
    async with tunnelled(tmp_path) as (scene, client):
        parts = scene.gateway.parts
        end = client.open()
        end.send(b"CONNECT api.test:443 HTTP/1.1\r\n")
        await until(lambda: any(isinstance(each, ServedStream) and each.held_bytes for each in parts.streams.all()))
        let_time_pass(parts.clock, parts.timeouts.head + 1)
        assert await refused(end) == (408, "request_timeout")


async def test_a_stream_that_is_reset_cancels_its_exchange_alone(tmp_path: Path) -> None:
    async with tunnelled(tmp_path) as (scene, client):
        gone, stays = client.ask(ask(URL)), client.ask(ask(OPEN_URL))
        links = [await scene.origin.link(), await scene.origin.link()]
        heads = [await link.head() for link in links]
        gone.writer.transport.abort()
        (record,) = await scene.gateway.audit.until(1)
        assert (record["outcome"], record["host"]) == ("cancelled", HOST)
        links[0 if b"open.test" in heads[0] else 1].send(OK)
        assert (await stays.answer()).status == 200


async def test_the_sandbox_s_streams_have_a_limit(tmp_path: Path) -> None:
    async with tunnelled(tmp_path, further={"limits": {"streams_per_sandbox": 1}}) as (scene, client):
        first = await client.inside(MANAGED)
        answer = await client.connect(MANAGED, INTERCEPTED).answer("CONNECT")
        assert (answer.status, answer.value("X-Sallyport-Error")) == (503, "overloaded")
        assert answer.value("Retry-After") == "1"
        first.close()
        await until(lambda: scene.gateway.parts.streams.open == 1)
        await client.inside(MANAGED)


async def test_t1_two_sandboxes_never_cross(tmp_path: Path) -> None:
    one, two = one_route(), one_route(credentialResolver={**RESOLVER, "connectionId": "con_two"})
    other = "other-secret-of-sandbox-two"
    async with stage(tmp_path, routes=[one], credentials={"con_two": other}) as scene:
        document = plan_document([two], [], default="passthrough")
        scene.gateway.parts.plans.apply(seal({**document, "sandboxId": "sbx_two"}))
        clients = [await scene.gateway.tunnel("sbx_one"), await scene.gateway.tunnel("sbx_two")]

        async def carry(client: TunnelClient, name: bytes) -> None:
            for number in range(20):
                end = client.ask(ask(URL, b"X-Whose: " + name))
                answer = await end.answer()
                assert answer.body == name, number
                end.close()

        async def serve() -> None:
            while True:
                link = await scene.origin.link()
                scene.gateway.parts.tasks.spawn(serve_link(link), name="link")

        async def serve_link(link: RawEnd) -> None:
            with contextlib.suppress(asyncio.IncompleteReadError, TimeoutError, ConnectionError):
                while head := await link.head():
                    name = b"one" if b"X-Whose: one" in head else b"two"
                    secret = SECRET if name == b"one" else other
                    body = name if secret.encode() in head else b"CROSSED"
                    link.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

        async with asyncio.TaskGroup() as group:
            serving = group.create_task(serve())
            async with asyncio.TaskGroup() as carrying:
                carrying.create_task(carry(clients[0], b"one"))
                carrying.create_task(carry(clients[1], b"two"))
            serving.cancel()
        records = await scene.gateway.audit.until(40)
        assert sorted(str(record["sandboxId"]) for record in records) == ["sbx_one"] * 20 + ["sbx_two"] * 20
        assert {(each["sandboxId"], each["connectionId"]) for each in records} == {
            ("sbx_one", "con_one"),
            ("sbx_two", "con_two"),
        }
