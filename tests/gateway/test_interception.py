"""Where the TLS of a managed host ends: the leaf, the name, the protocol, and every way a handshake goes wrong (A1)."""

import datetime
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography import x509

from gateway.interception import Interception
from gateway.memory import MemoryWatch
from sallyport.net.parting import LINGER_BYTES, LINGER_SECONDS
from sallyport.net.tls import HANDSHAKE_BYTES
from sallyport.plan.codec import seal
from sallyport.wire.client_hello import HANDSHAKE_FAILURE_ALERT
from tests.support.gateway_plans import plan, route
from tests.support.in_process import GatewayInProcess, in_process_gateway, proxy_token
from tests.support.passing_time import let_time_pass
from tests.support.plan_documents import plan_document, route_document
from tests.support.raw_end import RawEnd, RawOrigin, raw_origin
from tests.support.tls_by_hand import TlsByHand, trusting
from tests.support.until import until

pytestmark = pytest.mark.uvloop

HOST = "api.test"
REQUEST = b"GET /v1 HTTP/1.1\r\nHost: api.test\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
SECRET = "s3cr3t-of-the-route"


@pytest.fixture
async def origin() -> AsyncIterator[RawOrigin]:
    async with raw_origin() as origin:
        yield origin


@pytest.fixture
async def gateway(tmp_path: Path, origin: RawOrigin) -> AsyncIterator[GatewayInProcess]:
    # Cleartext upstream, so that the origin's own TLS is out of the picture.
    upstream = {"baseUrl": "http://origin.test:8080"}
    document = plan(
        [
            route("managed", [HOST], "con_one", upstream=upstream, allowCleartext=True),
            route("address", ["127.0.0.9"], "con_one", upstream=upstream, allowCleartext=True),
            route("strict", ["strict.test"], "con_one"),
        ]
    )
    async with in_process_gateway(
        tmp_path, plan=document, credentials={"con_one": SECRET}, connect_to={"origin.test:8080": origin.port}
    ) as gateway:
        yield gateway


def context(gateway: GatewayInProcess, *alpn: str, sandbox: str = "sbx_one") -> ssl.SSLContext:
    authority = gateway.parts.authorities.authority(sandbox, gateway.parts.clock.wall)
    return trusting(authority.certificate_pem, *alpn)


def handshakes(gateway: GatewayInProcess, result: str) -> float:
    return gateway.metric(f'sallyport_interception_handshakes_total{{result="{result}"}}')


async def handshake(gateway: GatewayInProcess, tls: TlsByHand, authority: str = f"{HOST}:443") -> RawEnd:
    client = await gateway.open_tunnel(authority)
    client.send(tls.hello())
    await tls.finish(client)
    return client


async def serve_one(origin: RawOrigin) -> bytes:
    link = await origin.link()
    head = await link.head()
    link.send(OK)
    return head


# ---- what a client is shown


async def test_t4_a6_the_leaf_is_of_the_sandbox_s_ca_and_names_exactly_this_host(gateway: GatewayInProcess) -> None:
    tls = TlsByHand(context(gateway), HOST)
    await handshake(gateway, tls)
    leaf = x509.load_der_x509_certificate(tls.certificate)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(names) == [x509.DNSName(HOST)]
    assert "sbx_one" in leaf.issuer.rfc4514_string()
    now = datetime.datetime.now(datetime.UTC)
    assert leaf.not_valid_before_utc <= now - datetime.timedelta(minutes=59)
    await until(lambda: handshakes(gateway, "completed") == 1)


async def test_the_credential_is_injected_inside(gateway: GatewayInProcess, origin: RawOrigin) -> None:
    client = await gateway.intercepted(f"{HOST}:443")
    client.send(REQUEST)
    assert f"Authorization: Bearer {SECRET}".encode() in await serve_one(origin)
    assert (await client.answer()).body == b"ok"
    (record,) = await gateway.audit.until(1)
    assert (record["mode"], record["scheme"], record["host"], record["port"]) == ("intercepted", "https", HOST, 443)


async def test_t1_two_sandboxes_are_shown_different_authorities(gateway: GatewayInProcess) -> None:
    two = plan_document([route_document(match={"hosts": [HOST]})], default="deny", sandboxId="sbx_two")
    gateway.parts.plans.apply(seal(two))
    gateway.token = proxy_token("sbx_two")
    tls = TlsByHand(context(gateway, sandbox="sbx_two"), HOST)
    await handshake(gateway, tls)
    assert "sbx_two" in x509.load_der_x509_certificate(tls.certificate).issuer.rfc4514_string()
    with pytest.raises(ssl.SSLCertVerificationError):
        await handshake(gateway, TlsByHand(context(gateway, sandbox="sbx_one"), HOST))


async def test_a_leaf_is_issued_for_an_address_too(gateway: GatewayInProcess, origin: RawOrigin) -> None:
    client = await handshake(gateway, tls := TlsByHand(context(gateway), "127.0.0.9"), "127.0.0.9:443")
    leaf = x509.load_der_x509_certificate(tls.certificate)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(name.value) for name in names] == ["127.0.0.9"]
    client.close()


@pytest.mark.parametrize("offered", [("http/1.1",), ("h2", "http/1.1"), ("spdy/3", "http/1.1")])
async def test_http_1_1_is_chosen_wherever_it_is_offered(gateway: GatewayInProcess, offered: tuple[str, ...]) -> None:
    tls = TlsByHand(context(gateway, *offered), HOST)
    await handshake(gateway, tls)
    assert tls.protocol == "http/1.1"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("piece", [1, 7, 10_000])
async def test_a_hello_may_come_in_any_pieces(
    gateway: GatewayInProcess, origin: RawOrigin, version: ssl.TLSVersion, piece: int
) -> None:
    trust = context(gateway)
    trust.maximum_version = version
    tls = TlsByHand(trust, HOST)
    client = await gateway.open_tunnel(f"{HOST}:443")
    hello = tls.hello()
    for start in range(0, len(hello), piece):
        client.send(hello[start : start + piece])
        await client.flush()
    await tls.finish(client)
    client.send(b"")
    answer = tls.exchange(client, REQUEST, until=b"ok")
    serving = gateway.parts.tasks.spawn(serve_one(origin), name="origin")
    assert (await answer).endswith(b"\r\n\r\nok")
    await serving


async def test_a_hello_may_come_with_the_connect(gateway: GatewayInProcess) -> None:
    tls = TlsByHand(context(gateway), HOST)
    client = await gateway.client()
    head = b"CONNECT api.test:443 HTTP/1.1\r\nHost: api.test\r\n%b\r\n\r\n" % gateway.authorization
    client.send(head + tls.hello())
    assert (await client.head()).startswith(b"HTTP/1.1 200 ")
    await tls.finish(client)


async def test_a_missing_name_means_the_host_of_the_connect(gateway: GatewayInProcess) -> None:
    tls = TlsByHand(context(gateway), None)
    await handshake(gateway, tls)
    leaf = x509.load_der_x509_certificate(tls.certificate)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(names) == [x509.DNSName(HOST)]


@pytest.mark.parametrize("name", ["API.test", "api.test."])
async def test_h1_spellings_of_the_name_agree(gateway: GatewayInProcess, name: str) -> None:
    trust = context(gateway)
    trust.check_hostname = False
    client = await handshake(gateway, TlsByHand(trust, name))
    client.close()


# ---- handshakes that are refused


@pytest.mark.parametrize("name", ["evil.test", "strict.test", "api.test.evil.test", "xapi.test"])
async def test_a1_another_name_is_answered_with_unrecognized_name(gateway: GatewayInProcess, name: str) -> None:
    with pytest.raises(ssl.SSLError, match=r"(?i)unrecognized.name"):
        await handshake(gateway, TlsByHand(context(gateway), name))
    (record,) = await gateway.audit.until(1)
    assert (record["decision"], record["code"], record["host"]) == ("deny", "sni_mismatch", HOST)
    assert (record["sandboxId"], record["planRevision"]) == ("sbx_one", 1)
    assert handshakes(gateway, "sni_mismatch") == 1
    assert gateway.metric('sallyport_denied_total{code="sni_mismatch"}') == 1
    assert gateway.metric('sallyport_requests_total{outcome="denied",source="explicit"}') == 1
    await until(lambda: gateway.parts.streams.open == 0)


async def test_a_client_of_http_2_alone_is_told_so(gateway: GatewayInProcess) -> None:
    with pytest.raises(ssl.SSLError, match=r"(?i)no.application.protocol"):
        await handshake(gateway, TlsByHand(context(gateway, "h2"), HOST))
    (record,) = await gateway.audit.until(1)
    assert (record["decision"], record["code"]) == ("deny", "http2_unsupported")
    assert handshakes(gateway, "http2_unsupported") == 1


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16" + bytes(range(64)),
        b"\x16\x03\x01\x00\x00",
        b"\x16\x03\x01\xff\xff" + bytes(16),
        b"\x16\x03\x01\x00\x04\x02\x00\x00\x00",
    ],
    ids=["no version", "empty record", "endless record", "a ServerHello"],
)
async def test_a_hello_that_is_none_is_refused_and_recorded(gateway: GatewayInProcess, garbage: bytes) -> None:
    client = await gateway.open_tunnel(f"{HOST}:443")
    client.send(garbage)
    assert (await client.gone())[:1] == b"\x15"  # a TLS alert
    (record,) = await gateway.audit.until(1)
    assert (record["decision"], record["code"]) == ("deny", "invalid_request")
    assert handshakes(gateway, "failed") == 1


async def test_an_alert_is_not_lost_on_a_client_that_still_sends(gateway: GatewayInProcess) -> None:
    client, other = await gateway.open_tunnel(f"{HOST}:443"), await gateway.open_tunnel(f"{HOST}:443")
    client.send(b"\x16\x03\x01\xff\xff")
    assert await client.rest() == HANDSHAKE_FAILURE_ALERT
    for _ in range(3):  # on a link that was closed at once the first brings a reset, and the next one fails
        client.send(bytes(16))
        await client.flush()
        other.abort()
        other = await gateway.open_tunnel(f"{HOST}:443")
    assert not client.writer.is_closing()
    client.close()
    other.abort()
    await until(lambda: gateway.parts.streams.open == 0)


@pytest.mark.parametrize("patience", ["time", "bytes"])
async def test_a_client_that_was_refused_and_does_not_go_is_cut(gateway: GatewayInProcess, patience: str) -> None:
    client = await gateway.open_tunnel(f"{HOST}:443")
    client.send(b"\x16\x03\x01\xff\xff")
    await gateway.audit.until(1)
    if patience == "time":
        let_time_pass(gateway.parts.clock, LINGER_SECONDS + 1)
    else:
        client.send(bytes(LINGER_BYTES + 1))
    await until(lambda: gateway.parts.streams.open == 0)
    assert (handshakes(gateway, "timeout"), handshakes(gateway, "failed")) == (0, 1)


@pytest.mark.parametrize("name", [b"api.te\0t", b"api te.t", b"ap@i.tes", b"api,tes.", b"\xc3\xa4pi.tst"])
async def test_h3_h4_a_name_that_is_no_host_is_refused(gateway: GatewayInProcess, name: bytes) -> None:
    hello = TlsByHand(context(gateway), HOST).hello()
    assert hello.count(b"api.test") == 1
    client = await gateway.open_tunnel(f"{HOST}:443")
    client.send(hello.replace(b"api.test", name))
    assert (await client.gone())[:1] == b"\x15"
    (record,) = await gateway.audit.until(1)
    assert (record["decision"], record["code"]) == ("deny", "invalid_request")


async def test_a_client_that_does_not_trust_the_ca_ends_its_own_stream_only(
    gateway: GatewayInProcess, origin: RawOrigin
) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        await handshake(gateway, TlsByHand(ssl.create_default_context(), HOST))
    gateway.close_clients()
    await until(lambda: handshakes(gateway, "failed") == 1 and gateway.parts.streams.open == 0)
    client = await gateway.intercepted(f"{HOST}:443")
    client.send(REQUEST)
    await serve_one(origin)
    assert (await client.answer()).status == 200


@pytest.mark.parametrize("sent", ["nothing", "half a hello", "a hello"])
async def test_a_client_that_vanishes_leaves_nothing_behind(gateway: GatewayInProcess, sent: str) -> None:
    client = await gateway.open_tunnel(f"{HOST}:443")
    hello = TlsByHand(context(gateway), HOST).hello()
    client.send({"nothing": b"", "half a hello": hello[:100], "a hello": hello}[sent])
    await client.flush()
    client.abort()
    await until(lambda: gateway.parts.streams.open == 0)
    assert handshakes(gateway, "failed") == 1
    assert gateway.audit.entries == []


@pytest.mark.parametrize("sent", ["nothing", "half a hello", "a hello"])
async def test_a_handshake_has_its_time(gateway: GatewayInProcess, sent: str) -> None:
    client = await gateway.open_tunnel(f"{HOST}:443")
    hello = TlsByHand(context(gateway), HOST).hello()
    client.send({"nothing": b"", "half a hello": hello[:100], "a hello": hello}[sent])
    await client.flush()
    if sent == "a hello":
        await client.some()  # the server's half of the handshake
    let_time_pass(gateway.parts.clock, gateway.parts.timeouts.handshake - 1)
    assert gateway.parts.streams.open == 1
    let_time_pass(gateway.parts.clock, 2)
    await client.gone()
    await until(lambda: gateway.parts.streams.open == 0)
    assert (handshakes(gateway, "timeout"), handshakes(gateway, "failed")) == (1, 0)


async def test_an_authority_that_cannot_be_had_is_recorded(gateway: GatewayInProcess, tmp_path: Path) -> None:
    tls = TlsByHand(ssl.create_default_context(), HOST)
    (tmp_path / "ca").write_text("in the way")
    with pytest.raises(ssl.SSLError, match=r"(?i)handshake.failure"):
        await handshake(gateway, tls)
    (record,) = await gateway.audit.until(1)
    assert (record["decision"], record["outcome"], record["code"]) == ("deny", "failed", "overloaded")
    assert gateway.metric('sallyport_requests_total{outcome="failed",source="explicit"}') == 1


async def test_revocation_ends_a_handshake(gateway: GatewayInProcess) -> None:
    client = await gateway.open_tunnel(f"{HOST}:443")
    assert gateway.gateway.revoke("sandbox", "sbx_one", gateway.parts.clock.wall + 60) == 1
    await client.gone()
    assert gateway.parts.streams.open == 0


# ---- cleartext inside a CONNECT


@pytest.mark.parametrize(
    ("port", "code"),
    [(80, "cleartext_refused"), (443, "denied_by_plan")],  # a route without ports means http on 80 alone
)
async def test_a1_cleartext_inside_is_an_http_request(
    gateway: GatewayInProcess, origin: RawOrigin, port: int, code: str
) -> None:
    client = await gateway.open_tunnel(f"strict.test:{port}")
    client.send(f"GET / HTTP/1.1\r\nHost: strict.test:{port}\r\n\r\n".encode())
    answer = await client.answer()
    assert (answer.status, answer.value("X-Sallyport-Error")) == (403, code)
    (record,) = await gateway.audit.until(1)
    assert (record["scheme"], record["port"], record["mode"], record["code"]) == ("http", port, "intercepted", code)
    assert origin.ends == []


@pytest.mark.parametrize("garbage", [b"SSH-2.0-x\r\n\r\n", b"\x00\x01\x02\x03\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\n"])
async def test_garbage_inside_is_refused_as_http(gateway: GatewayInProcess, origin: RawOrigin, garbage: bytes) -> None:
    client = await gateway.open_tunnel("strict.test:443")
    client.send(garbage)
    assert (await client.answer()).status in (400, 505)
    assert await client.rest() == b""
    assert origin.ends == []


# ---- requests on an open stream


async def test_t1_a_token_that_was_revoked_serves_no_later_request(
    gateway: GatewayInProcess, origin: RawOrigin
) -> None:
    client = await gateway.intercepted(f"{HOST}:443")
    client.send(REQUEST)
    await serve_one(origin)
    await client.answer()
    gateway.gateway.revoke("sandbox", "sbx_one", gateway.parts.clock.wall + 60)
    client.send(REQUEST)
    assert await client.gone() == b""
    assert len(gateway.audit.entries) == 1


async def test_a2_a_connect_inside_is_refused(gateway: GatewayInProcess) -> None:
    client = await gateway.intercepted(f"{HOST}:443")
    client.send(b"CONNECT other.test:443 HTTP/1.1\r\nHost: other.test:443\r\n\r\n")
    assert (await client.answer("CONNECT")).status == 400


# ---- what it holds


async def test_t5_handshakes_that_have_begun_count_as_what_openssl_can_hold_of_them(tmp_path: Path) -> None:
    document = plan([route("managed", [HOST], "con_one")])
    further = {"limits": {"memory": "off"}}
    async with in_process_gateway(tmp_path, plan=document, further=further) as gateway:
        parts = gateway.parts
        watch = MemoryWatch(parts, 16 * HANDSHAKE_BYTES)

        def held() -> list[int]:
            return [each.held_bytes for each in parts.streams.all() if isinstance(each, Interception)]

        client = await gateway.open_tunnel(f"{HOST}:443")
        hello = TlsByHand(context(gateway), HOST).hello()
        client.send(hello[:-1])
        await until(lambda: held() == [len(hello) - 1])
        client.send(hello[-1:])
        assert await client.some() != b""  # the server's part
        assert held() == [HANDSHAKE_BYTES]
        watch.look(16 * HANDSHAKE_BYTES + 1)
        await client.gone()
        assert parts.sheds("sbx_one")
        assert held() == []
        watch.look(0)
        watch.close()
