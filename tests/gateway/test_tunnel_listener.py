"""The tunnel listener: who gets a tunnel, and what everybody else gets."""

import base64
import datetime
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from gateway.memory import MemoryWatch
from gateway.open_streams import OpenStream
from gateway.renewal import RenewedTokens, TokenRenewalError
from gateway.tunnel_listener import Handshake
from sallyport.net.tls import HANDSHAKE_BYTES, TlsTransport
from sallyport.net.websocket_upgrade import upgrade_request
from sallyport.plan.codec import seal
from sallyport_cli.keys import mint, new_private_key
from tests.support.gateway_plans import ORGANIZATION, SANDBOX, plan
from tests.support.in_process import GatewayInProcess, Settings, in_process_gateway, signed_token
from tests.support.passing_time import let_time_pass
from tests.support.plan_documents import plan_document
from tests.support.raw_end import RawAnswer, RawEnd
from tests.support.tls_by_hand import TlsByHand
from tests.support.token_issuer import ScriptedIssuer, renewed
from tests.support.tunnel_client import OpeningRefused, dial_tunnel
from tests.support.until import until

pytestmark = pytest.mark.uvloop

PLAN = plan([], default="passthrough")


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[GatewayInProcess]:
    async with in_process_gateway(tmp_path, plan=PLAN) as gateway:
        yield gateway


def port_of(gateway: GatewayInProcess) -> int:
    assert gateway.gateway.tunnel is not None
    return gateway.gateway.tunnel.port


async def ask(gateway: GatewayInProcess, request: bytes) -> RawAnswer:
    end = await RawEnd.dial(port_of(gateway))
    end.send(request)
    answer = await end.answer()
    if b"Connection: close" in answer.head:
        assert await end.rest() == b""
    end.close()
    return answer


async def refusal(gateway: GatewayInProcess, token: str | None) -> RawAnswer:
    with pytest.raises(OpeningRefused) as caught:
        await dial_tunnel(gateway.parts.clock, port_of(gateway), token)
    return caught.value.answer


def tunnel_token(**further: object) -> str:
    return signed_token("sallyport-tunnel", **further)  # type: ignore[arg-type]  # what signed_token takes


# ---- who gets a tunnel


async def test_a_tunnel_token_opens_a_tunnel(gateway: GatewayInProcess) -> None:
    client = await gateway.tunnel()
    assert await client.message("interception.set") == {"type": "interception.set", "revision": 1, "hosts": []}
    assert gateway.metric("sallyport_active_tunnels") == 1
    assert gateway.metric("sallyport_active_streams") == 0
    assert repr(gateway.parts.tunnels) == "<Tunnels 1 open, of 1 sandboxes>"


def foreign_token() -> str:
    """By a key that this gateway does not know."""
    return mint(
        new_private_key(),
        sandbox_id=SANDBOX,
        organization_id=ORGANIZATION,
        audience="sallyport-tunnel",
        issuer="sallyport",
        ttl_seconds=60,
        now=datetime.datetime.now(datetime.UTC).timestamp(),
    ).token


def unsigned_token() -> str:
    header, payload, _ = tunnel_token().split(".")
    none = base64.urlsafe_b64encode(b'{"alg":"none"}').rstrip(b"=").decode()
    assert header != none
    return f"{none}.{payload}."


@pytest.mark.parametrize(
    "make",
    [
        lambda: None,
        lambda: "x",
        foreign_token,
        unsigned_token,
        lambda: tunnel_token() + "A",
        lambda: tunnel_token(issuer="elsewhere"),
        lambda: signed_token("sallyport-proxy"),
        lambda: signed_token("sallyport-control"),
        lambda: signed_token("sallyport-renewal"),  # nobody here exchanges it
    ],
)
async def test_t1_any_other_token_is_401(gateway: GatewayInProcess, make: Callable[[], str | None]) -> None:
    answer = await refusal(gateway, make())
    assert (answer.status, answer.value("X-Sallyport-Error")) == (401, "authentication_required")
    assert answer.value("Content-Type") == "application/problem+json"
    assert answer.value("WWW-Authenticate").startswith("Bearer")
    (record,) = await gateway.audit.until(1)
    assert (record["source"], record["status"], record["outcome"]) == ("tunnel", 401, "denied")
    assert gateway.metric("sallyport_active_tunnels") == 0


async def test_an_expired_token_is_401(gateway: GatewayInProcess) -> None:
    token = tunnel_token(ttl_seconds=60)
    let_wall_pass(gateway, 61)
    assert (await refusal(gateway, token)).status == 401


@pytest.mark.parametrize("kind", ["jti", "sid", "sandbox"])
async def test_a_revoked_token_is_401(gateway: GatewayInProcess, kind: str) -> None:
    token = tunnel_token()
    claims = gateway.parts.tunnel_tokens.verify(token, gateway.parts.clock.wall)
    revoked = {"jti": claims.token_id, "sid": claims.lineage, "sandbox": claims.sandbox_id}[kind]
    gateway.gateway.revoke(kind, revoked, gateway.parts.clock.wall + 60)
    assert (await refusal(gateway, token)).status == 401


async def test_two_tokens_are_refused(gateway: GatewayInProcess) -> None:
    request, _ = upgrade_request("gateway.test", token=tunnel_token())
    twice = request.replace(b"\r\n\r\n", b"\r\nAuthorization: Bearer x\r\n\r\n")
    assert (await ask(gateway, twice)).status == 400


# ---- what else may be asked


async def test_health(gateway: GatewayInProcess) -> None:
    answer = await ask(gateway, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (answer.status, answer.body) == (200, b"ok\n")


@pytest.mark.parametrize(
    "request_line",
    [
        b"GET / HTTP/1.1",
        b"GET /v1/tunnel?token=x HTTP/1.1",
        b"POST /v1/tunnel HTTP/1.1",
        b"GET /v1/ca.pem HTTP/1.1",
        b"GET http://api.test/ HTTP/1.1",
        b"CONNECT api.test:443 HTTP/1.1",
        b"OPTIONS * HTTP/1.1",
        b"GET /v1/tunnel HTTP/1.1",  # without an upgrade
    ],
)
async def test_nothing_else_is_served_and_nothing_is_proxied(gateway: GatewayInProcess, request_line: bytes) -> None:
    proxy = gateway.authorization
    answer = await ask(gateway, request_line + b"\r\nHost: api.test:443\r\n" + proxy + b"\r\n\r\n")
    assert (answer.status, answer.value("X-Sallyport-Error")) == (400, "invalid_request")


@pytest.mark.parametrize(
    ("here", "there"),
    [
        (b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Version: 8"),
        (b"sallyport.tunnel.v1", b"sallyport.tunnel.v2"),
        (b"Upgrade: websocket\r\n", b"Upgrade: h2c\r\n"),
        (b"Connection: Upgrade\r\n", b""),
        (b"Sec-WebSocket-Key: ", b"Sec-WebSocket-Key: x"),
        (b"HTTP/1.1", b"HTTP/1.0"),
        (b"\r\n\r\n", b"\r\nContent-Length: 3\r\n\r\nabc"),
        (b"\r\n\r\n", b"\r\nSallyport-Sandbox: sbx_two\r\n\r\n"),
    ],
)
async def test_an_opening_that_is_none_is_refused(gateway: GatewayInProcess, here: bytes, there: bytes) -> None:
    request, _ = upgrade_request("gateway.test", token=tunnel_token())
    assert here in request
    answer = await ask(gateway, request.replace(here, there, 1))
    assert answer.status in (400, 505)
    assert gateway.metric("sallyport_active_tunnels") == 0


async def test_heads_have_limits(gateway: GatewayInProcess) -> None:
    long = b"GET /v1/tunnel HTTP/1.1\r\nX: " + b"x" * 70_000 + b"\r\n\r\n"
    assert (await ask(gateway, long)).value("X-Sallyport-Error") == "head_too_large"
    end = await RawEnd.dial(port_of(gateway))
    end.send(b"GET /v1/tunnel HTTP/1.1\r\n")
    await until(lambda: any(each.held_bytes for each in gateway.parts.streams.all()))
    let_time_pass(gateway.parts.clock, gateway.parts.timeouts.head + 1)
    assert (await end.answer()).value("X-Sallyport-Error") == "request_timeout"
    assert await end.rest() == b""
    end.close()


async def test_while_draining_nobody_gets_a_tunnel(gateway: GatewayInProcess) -> None:
    end = await RawEnd.dial(port_of(gateway))
    await until(lambda: gateway.parts.streams.open == 1)
    gateway.gateway.begin_drain()
    await until(lambda: gateway.parts.is_draining)
    end.send(upgrade_request("gateway.test", token=tunnel_token())[0])
    answer = await end.answer()
    assert (answer.status, answer.value("X-Sallyport-Error")) == (503, "draining")
    assert int(answer.value("Retry-After")) > 0
    end.close()


async def test_a_gateway_that_is_full_says_when_to_come_back(tmp_path: Path) -> None:
    limits = {"open_streams": 1, "streams_per_sandbox": 1}
    async with in_process_gateway(tmp_path, plan=PLAN, further={"limits": limits}) as gateway:
        await gateway.tunnel()
        answer = await refusal(gateway, tunnel_token())
        assert (answer.status, answer.value("X-Sallyport-Error")) == (503, "overloaded")
        assert int(answer.value("Retry-After")) > 0


async def test_a_gateway_may_do_without_tunnels(tmp_path: Path) -> None:
    async with in_process_gateway(tmp_path, further={"listen": {"tunnel": "off"}}) as gateway:
        assert gateway.gateway.tunnel is None


async def test_the_tunnel_listener_is_no_destination(gateway: GatewayInProcess) -> None:
    client = await gateway.client()
    client.send(gateway.request(f"http://127.0.0.1:{port_of(gateway)}/healthz"))
    answer = await client.answer()
    assert (answer.status, answer.value("X-Sallyport-Error")) == (403, "address_refused")


# ---- a renewal token


@pytest.fixture
def issuer(gateway: GatewayInProcess) -> ScriptedIssuer:
    issuer = ScriptedIssuer()
    issuer.serve(gateway)
    return issuer


async def test_a_renewal_token_is_exchanged_before_anything_is_answered(
    gateway: GatewayInProcess, issuer: ScriptedIssuer
) -> None:
    token = signed_token("sallyport-renewal")
    opening = gateway.parts.tasks.spawn(gateway.tunnel(token=token), name="opening")
    asked = await issuer.asked()
    assert (asked.sandbox_id, asked.renewal_token) == (SANDBOX, token)
    assert not opening.done()
    fresh = renewed()
    asked.answer.set_result(fresh)
    client = await opening
    response = await client.message("token.response")
    assert response == fresh.response(response["requestId"])
    assert client.control[0]["type"] == "interception.set"
    assert gateway.metric("sallyport_active_tunnels") == 1


async def test_the_same_renewal_token_makes_the_same_request(gateway: GatewayInProcess, issuer: ScriptedIssuer) -> None:
    """An answer that was lost on its way is given again, instead of looking like a token that was stolen."""
    token = signed_token("sallyport-renewal")
    first = await RawEnd.dial(port_of(gateway))
    first.send(upgrade_request("gateway.test", token=token)[0])
    lost = await issuer.asked()
    first.abort()
    lost.answer.set_result(renewed())
    opening = gateway.parts.tasks.spawn(gateway.tunnel(token=token), name="opening")
    again = await issuer.asked()
    assert again.request_id == lost.request_id
    again.answer.set_result(renewed())
    await opening
    other = gateway.parts.tasks.spawn(gateway.tunnel(token=signed_token("sallyport-renewal")), name="opening")
    third = await issuer.asked()
    assert third.request_id != lost.request_id
    third.answer.set_result(renewed())
    await other


@pytest.mark.parametrize(
    ("outcome", "status", "code"),
    [
        (TokenRenewalError("unauthorized", temporary=False), 401, "authentication_required"),
        (TokenRenewalError("unavailable", temporary=True), 503, "overloaded"),
        (renewed(sandbox_id="sbx_two"), 401, "authentication_required"),
        (renewed(audience="sallyport-proxy"), 401, "authentication_required"),
    ],
)
async def test_an_exchange_that_fails_opens_no_tunnel(
    gateway: GatewayInProcess,
    issuer: ScriptedIssuer,
    outcome: RenewedTokens | TokenRenewalError,
    status: int,
    code: str,
) -> None:
    opening = gateway.parts.tasks.spawn(refusal(gateway, signed_token("sallyport-renewal")), name="opening")
    asked = await issuer.asked()
    asked.settle(outcome)
    answer = await opening
    assert (answer.status, answer.value("X-Sallyport-Error")) == (status, code)
    assert bool(answer.values("Retry-After")) is (status == 503)
    assert gateway.metric("sallyport_active_tunnels") == 0


async def test_s10_a_socket_whose_token_is_exchanged_makes_room_for_nobody(tmp_path: Path) -> None:
    limits = {"anonymous_streams": 1, "streams_per_sandbox": 1}
    async with in_process_gateway(tmp_path, plan=PLAN, further={"limits": limits}) as gateway:
        issuer = ScriptedIssuer()
        issuer.serve(gateway)
        opening = gateway.parts.tasks.spawn(gateway.tunnel(token=signed_token("sallyport-renewal")), name="opening")
        asked = await issuer.asked()
        # It counts as one of its sandbox's, so there are only so many of them either.
        answer = await refusal(gateway, signed_token("sallyport-renewal"))
        assert (answer.status, answer.value("X-Sallyport-Error")) == (503, "overloaded")
        silent = [await RawEnd.dial(port_of(gateway)) for _ in range(3)]
        for end in silent[:2]:
            assert await end.gone() == b""
        asked.answer.set_result(renewed())
        await opening
        for end in silent:
            end.close()


async def test_a_plan_of_another_organization_ends_an_exchange(
    gateway: GatewayInProcess, issuer: ScriptedIssuer
) -> None:
    token = signed_token("sallyport-renewal", "sbx_two")
    opening = gateway.parts.tasks.spawn(refusal(gateway, token), name="opening")
    asked = await issuer.asked()
    gateway.parts.plans.apply(
        seal({**plan_document([], default="deny"), "sandboxId": "sbx_two", "organizationId": "org_two"})
    )
    answer = await opening
    assert (answer.status, answer.value("X-Sallyport-Error")) == (503, "overloaded")
    asked.answer.set_result(renewed("sbx_two"))
    answer = await refusal(gateway, signed_token("sallyport-tunnel", "sbx_two"))
    assert answer.status == 401


async def test_an_exchange_has_its_time(tmp_path: Path) -> None:
    async with in_process_gateway(tmp_path, plan=PLAN, further={"timeouts": {"credential": "100ms"}}) as gateway:
        ScriptedIssuer().serve(gateway)
        answer = await refusal(gateway, signed_token("sallyport-renewal"))
        assert (answer.status, answer.value("X-Sallyport-Error")) == (503, "overloaded")


async def test_a_bad_renewal_token_is_not_even_sent_on(gateway: GatewayInProcess, issuer: ScriptedIssuer) -> None:
    token = signed_token("sallyport-renewal", ttl_seconds=1)
    let_wall_pass(gateway, 2)
    assert (await refusal(gateway, token)).status == 401
    assert (await refusal(gateway, signed_token("sallyport-renewal", issuer="elsewhere"))).status == 401
    assert issuer.count == 0


# ---- TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("tunnel")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "gateway.test")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("gateway.test")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "tunnel.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "tunnel.key").touch(mode=0o600)
    (folder / "tunnel.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return folder / "tunnel.pem", folder / "tunnel.key"


async def test_a_tunnel_by_tls(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    tls = {"certificate_file": str(certificate[0]), "key_file": str(certificate[1])}
    trust = ssl.create_default_context(cafile=str(certificate[0]))
    async with in_process_gateway(tmp_path, plan=PLAN, further={"tunnel": {"tls": tls}}) as gateway:
        client = await dial_tunnel(gateway.parts.clock, port_of(gateway), tunnel_token(), tls=trust)
        await client.message("interception.set")
        end = client.ask(b"TRACE http://open.test/ HTTP/1.1\r\nHost: open.test\r\n\r\n")
        assert (await end.answer()).status == 405
        end.close()
        with pytest.raises(OpeningRefused) as caught:
            await dial_tunnel(gateway.parts.clock, port_of(gateway), None, tls=trust)
        assert caught.value.answer.status == 401
        # What is no TLS, and what never says anything, harm themselves alone.
        plain = await RawEnd.dial(port_of(gateway))
        plain.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        await plain.gone()
        silent = await RawEnd.dial(port_of(gateway))
        await until(lambda: gateway.parts.streams.open == 2)
        let_time_pass(gateway.parts.clock, 11)
        assert await silent.gone() == b""
        assert client.lost is None
        client.abort()
        await until(lambda: gateway.parts.streams.open == 0)
        for end in (plain, silent):
            end.close()


async def test_a_full_gateway_begins_no_handshake(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    further: Settings = {
        "tunnel": {"tls": {"certificate_file": str(certificate[0]), "key_file": str(certificate[1])}},
        "limits": {"open_streams": 1, "streams_per_sandbox": 1},
    }
    async with in_process_gateway(tmp_path, plan=PLAN, further=further) as gateway:
        waiting = await gateway.client()
        waiting.send(gateway.request("http://unclaimed.test/"))
        await waiting.answer()
        assert gateway.parts.streams.admitted == 1
        refused = await RawEnd.dial(port_of(gateway))
        assert await refused.gone() == b""
        assert gateway.parts.streams.open == 1
        for end in (waiting, refused):
            end.close()


async def test_s10_a_handshake_too_many_ends_the_oldest(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    further: Settings = {
        "tunnel": {"tls": {"certificate_file": str(certificate[0]), "key_file": str(certificate[1])}},
        "limits": {"anonymous_streams": 2},
    }
    trust = ssl.create_default_context(cafile=str(certificate[0]))
    async with in_process_gateway(tmp_path, plan=PLAN, further=further) as gateway:
        silent = [await RawEnd.dial(port_of(gateway)) for _ in range(3)]
        assert await silent[0].gone() == b""
        assert gateway.parts.streams.open == 2
        # A sandbox's, whose TLS and token come at once.
        client = await dial_tunnel(gateway.parts.clock, port_of(gateway), tunnel_token(), tls=trust)
        await client.message("interception.set")
        assert await silent[1].gone() == b""
        assert gateway.metric("sallyport_anonymous_dropped_total") == 2
        client.abort()
        for end in silent:
            end.close()


# 21 bytes that claim a ClientHello of 131,000: OpenSSL makes room for it, and for more than that, at once.
CLAIM = bytes.fromhex("160301ffff") + b"\x01" + (131_000).to_bytes(3) + bytes.fromhex("0303") + bytes(10)


def tls_settings(certificate: tuple[Path, Path]) -> Settings:
    return {"tunnel": {"tls": {"certificate_file": str(certificate[0]), "key_file": str(certificate[1])}}}


def handshakes(gateway: GatewayInProcess) -> list[OpenStream]:
    return [stream for stream in gateway.parts.streams.all() if isinstance(stream, Handshake)]


async def test_a_hello_may_come_in_pieces(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    trust = ssl.create_default_context(cafile=str(certificate[0]))
    async with in_process_gateway(tmp_path, plan=PLAN, further=tls_settings(certificate)) as gateway:
        end = await RawEnd.dial(port_of(gateway))
        client = TlsByHand(trust, "gateway.test")
        hello = client.hello()
        for at in range(len(hello) - 1):
            end.send(hello[at : at + 1])
            if at % 100 == 0:
                await until(lambda at=at: [each.held_bytes for each in handshakes(gateway)] == [at + 1])  # type: ignore[misc]
        await until(lambda: [each.held_bytes for each in handshakes(gateway)] == [len(hello) - 1])
        end.send(hello[-1:])
        await client.finish(end)
        await until(lambda: handshakes(gateway) == [])
        assert gateway.parts.streams.open == 1
        end.abort()
        await until(lambda: gateway.parts.streams.open == 0)


@pytest.mark.parametrize(
    "sent",
    [
        CLAIM,
        b"\x16\x03\x01\x40\x00\x01" + (16_380).to_bytes(3) + bytes(16_380),  # over 16 KiB with its record
        b"\x16\x03\x01\x00\x01\x01" * 65,
        b"\x16\x03\x01\x00\x04\x02\x00\x00\x00",  # a ServerHello
        b"GET / HTTP/1.1\r\n",
    ],
)
async def test_t5_what_is_no_hello_that_one_may_send_is_ended_before_there_is_tls(
    tmp_path: Path, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    begun: list[object] = []
    monkeypatch.setattr(TlsTransport, "start", lambda *given: begun.append(given))
    async with in_process_gateway(tmp_path, plan=PLAN, further=tls_settings(certificate)) as gateway:
        end = await RawEnd.dial(port_of(gateway))
        end.send(sent)
        assert await end.gone() == b""
        await until(lambda: gateway.parts.streams.open == 0)
        assert begun == []
        end.close()


async def test_who_goes_before_he_has_said_hello_is_forgotten(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    async with in_process_gateway(tmp_path, plan=PLAN, further=tls_settings(certificate)) as gateway:
        for leave in (RawEnd.abort, RawEnd.end):
            end = await RawEnd.dial(port_of(gateway))
            end.send(CLAIM[:4])
            await until(lambda: [each.held_bytes for each in handshakes(gateway)] == [4])
            leave(end)
            await until(lambda: gateway.parts.streams.open == 0)
            end.close()


async def test_t5_a_gateway_without_memory_begins_no_handshake(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    trust = ssl.create_default_context(cafile=str(certificate[0]))
    async with in_process_gateway(tmp_path, plan=PLAN, further=tls_settings(certificate)) as gateway:
        parts = gateway.parts
        client = TlsByHand(trust, "gateway.test")
        hello = client.hello()
        early = await RawEnd.dial(port_of(gateway))
        early.send(hello[:-1])
        await until(lambda: [each.held_bytes for each in handshakes(gateway)] == [len(hello) - 1])
        parts.is_shedding, parts.shed_from = True, None
        late = await RawEnd.dial(port_of(gateway))
        assert await late.gone() == b""
        early.send(hello[-1:])
        assert await early.gone() == b""
        await until(lambda: parts.streams.open == 0)
        # Where it is enough that one sandbox begins nothing, whoever has not said which he is may.
        parts.shed_from = {SANDBOX}
        other = await dial_tunnel(parts.clock, port_of(gateway), signed_token("sallyport-tunnel", "sbx_two"), tls=trust)
        parts.is_shedding = False
        other.abort()
        for end in (early, late):
            end.close()


async def test_t5_handshakes_that_have_begun_are_reset_where_they_hold_most(
    tmp_path: Path, certificate: tuple[Path, Path]
) -> None:
    trust = ssl.create_default_context(cafile=str(certificate[0]))
    further: Settings = {**tls_settings(certificate), "limits": {"memory": "off"}}
    async with in_process_gateway(tmp_path, plan=PLAN, further=further) as gateway:
        parts = gateway.parts
        watch = MemoryWatch(parts, 16 * HANDSHAKE_BYTES)
        client = await dial_tunnel(parts.clock, port_of(gateway), tunnel_token(), tls=trust)
        begun = [await RawEnd.dial(port_of(gateway)) for _ in range(3)]
        for end in begun:
            end.send(TlsByHand(trust, "gateway.test").hello())
            assert await end.some() != b""  # the server's part
        assert [each.held_bytes for each in handshakes(gateway)] == [HANDSHAKE_BYTES] * 3
        watch.look(16 * HANDSHAKE_BYTES + 1)
        for end in begun:
            await end.gone()
            end.close()
        assert parts.sheds(None)
        assert not parts.sheds(SANDBOX)
        assert client.lost is None
        watch.look(0)
        watch.close()


def let_wall_pass(gateway: GatewayInProcess, seconds: float) -> None:
    """Put the clock on the wall forward; from then on it stands still, or its next tick would put it back."""
    gateway.parts.clock.close()
    gateway.parts.clock.wall += seconds
