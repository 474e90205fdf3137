"""What the proxy port answers itself, and which CONNECT it admits: one answer, one record, nothing dialled."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.gateway_plans import denied, plan, route
from tests.support.in_process import GatewayInProcess, Settings, in_process_gateway, proxy_token
from tests.support.plan_documents import rule_document
from tests.support.raw_end import RawAnswer, RawEnd, RawOrigin, raw_origin
from tests.support.until import until

pytestmark = pytest.mark.uvloop

PLAN = plan(
    [route("managed", ["api.test"], "con_one")],
    [
        denied("no-evil", "evil.test", "exfiltration"),
        rule_document("open", "allow", "open.test", "10.0.0.1", "169.254.169.254", "metadata.google.internal"),
        rule_document("loopback", "allow", "127.0.0.1", "localhost", "0.0.0.0", "::1", "127.1.2.3", "::ffff:127.0.0.1"),
    ],
)


@pytest.fixture
async def origin() -> AsyncIterator[RawOrigin]:
    async with raw_origin() as origin:
        yield origin


@pytest.fixture
async def gateway(tmp_path: Path, origin: RawOrigin) -> AsyncIterator[GatewayInProcess]:
    reached = {"open.test:80": origin.port, "open.test:443": origin.port, "api.test:443": origin.port}
    async with in_process_gateway(
        tmp_path, plan=PLAN, connect_to=reached, further={"network": {"allow": ["127.0.0.0/8", "::1/128"]}}
    ) as gateway:
        yield gateway


async def ask(gateway: GatewayInProcess, request: bytes, method: str = "GET") -> tuple[RawAnswer, RawEnd]:
    client = await gateway.client()
    client.send(request)
    return await client.answer(method), client


def connect(gateway: GatewayInProcess, target: bytes, *lines: bytes, version: bytes = b"1.1") -> bytes:
    """A CONNECT with the token and these lines, and no Host of its own."""
    return b"\r\n".join((b"CONNECT %b HTTP/%b" % (target, version), gateway.authorization, *lines, b"", b""))


# ---- what the port answers itself


async def test_healthz_needs_no_token_and_keeps_the_stream(gateway: GatewayInProcess) -> None:
    answer, client = await ask(gateway, b"GET /healthz HTTP/1.1\r\nHost: gw\r\n\r\n")
    assert (answer.status, answer.body) == (200, b"ok\n")
    client.send(b"GET /healthz HTTP/1.1\r\nHost: gw\r\n\r\n")
    assert (await client.answer()).status == 200


async def test_healthz_closes_where_the_prober_asks_for_it(gateway: GatewayInProcess) -> None:
    answer, client = await ask(gateway, b"GET /healthz HTTP/1.1\r\nHost: gw\r\nConnection: close\r\n\r\n")
    assert (answer.status, answer.value("Connection")) == (200, "close")
    assert await client.rest() == b""


@pytest.mark.parametrize("field", ["Proxy-Authorization", "Authorization"])
async def test_ca_pem_is_given_for_the_token(gateway: GatewayInProcess, field: str) -> None:
    request = f"GET /v1/ca.pem HTTP/1.1\r\nHost: gw\r\n{field}: Bearer {gateway.token}\r\n\r\n"
    answer, _ = await ask(gateway, request.encode())
    assert answer.status == 200
    assert answer.value("Content-Type") == "application/x-pem-file"
    assert answer.body == gateway.parts.authorities.authority("sbx_one", gateway.parts.clock.wall).certificate_pem


async def test_t1_each_sandbox_is_given_its_own_ca(gateway: GatewayInProcess) -> None:
    bodies = set()
    for sandbox in ("sbx_one", "sbx_two"):
        token = proxy_token(sandbox)
        request = f"GET /v1/ca.pem HTTP/1.1\r\nHost: gw\r\nProxy-Authorization: Bearer {token}\r\n\r\n"
        answer, _ = await ask(gateway, request.encode())
        assert answer.status == 200
        bodies.add(answer.body)
    assert len(bodies) == 2


async def test_t1_what_was_shown_for_the_certificate_is_no_proxy_token_of_the_next_request(
    gateway: GatewayInProcess,
) -> None:
    """Both requests have the same fields, so that the second is read by what the stream remembers of the first."""
    fields = f"Host: api.test\r\nAuthorization: Bearer {gateway.token}\r\n\r\n"
    answer, client = await ask(gateway, f"GET /v1/ca.pem HTTP/1.1\r\n{fields}".encode())
    assert answer.status == 200
    client.send(f"GET http://api.test/ HTTP/1.1\r\n{fields}".encode())
    assert (await client.answer()).status == 407


async def test_ca_pem_without_a_token_is_refused(gateway: GatewayInProcess) -> None:
    answer, client = await ask(gateway, b"GET /v1/ca.pem HTTP/1.1\r\nHost: gw\r\n\r\n")
    assert answer.status == 407
    assert b"CERTIFICATE" not in answer.body
    assert await client.rest() == b""


async def test_a_ca_folder_that_cannot_be_used_is_said_to_pass(gateway: GatewayInProcess, tmp_path: Path) -> None:
    (tmp_path / "ca").write_text("in the way")
    request = b"GET /v1/ca.pem HTTP/1.1\r\nHost: gw\r\n%b\r\n\r\n" % gateway.authorization
    answer, _ = await ask(gateway, request)
    assert (answer.status, answer.value("X-Sallyport-Error")) == (503, "overloaded")
    assert str(tmp_path).encode() not in answer.body


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nHost: gw\r\n\r\n",
        b"POST /healthz HTTP/1.1\r\nHost: gw\r\nContent-Length: 0\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: gw\r\nContent-Length: 1\r\n\r\nx",
        b"GET /healthz?x HTTP/1.1\r\nHost: gw\r\n\r\n",
        b"GET /v1/sandboxes/sbx_one/plan HTTP/1.1\r\nHost: gw\r\n\r\n",
    ],
)
async def test_anything_else_for_the_port_itself_is_refused(gateway: GatewayInProcess, head: bytes) -> None:
    answer, client = await ask(gateway, head)
    assert (answer.status, answer.value("X-Sallyport-Error")) == (400, "invalid_request")
    assert await client.rest() == b""


# ---- a CONNECT that is refused


async def refuse(gateway: GatewayInProcess, origin: RawOrigin, request: bytes) -> RawAnswer:
    """Expect one problem, one audit record of the same id, the end of the stream, and no dial."""
    answer, client = await ask(gateway, request, "CONNECT")
    problem = json.loads(answer.body)
    assert answer.value("X-Sallyport-Error") == problem["code"]
    assert answer.value("Content-Type") == "application/problem+json"
    assert await client.rest() == b""
    (record,) = await gateway.audit.until(1)
    assert record["decision"] == "deny"
    assert record["method"] in ("CONNECT", None)  # None: the head itself was not one
    assert (record["status"], record["code"]) == (answer.status, problem["code"])
    assert record["requestId"] == problem["requestId"]
    assert origin.ends == []
    client.close()
    await until(lambda: gateway.parts.streams.open == 0)
    return answer


async def test_a_connect_without_a_token_is_407(gateway: GatewayInProcess, origin: RawOrigin) -> None:
    answer = await refuse(gateway, origin, b"CONNECT api.test:443 HTTP/1.1\r\nHost: api.test:443\r\n\r\n")
    assert answer.status == 407
    assert [value.partition(" ")[0] for value in answer.values("Proxy-Authenticate")] == ["Basic", "Bearer"]


@pytest.mark.parametrize(
    "value",
    [
        "Bearer nonsense",
        "Bearer ",
        "Basic eDp4",
        "Digest x",
        "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJzYnhfb25lIn0.",
    ],
)
async def test_t1_a_connect_with_a_bad_token_is_407(gateway: GatewayInProcess, origin: RawOrigin, value: str) -> None:
    head = f"CONNECT api.test:443 HTTP/1.1\r\nHost: api.test:443\r\nProxy-Authorization: {value}\r\n\r\n"
    assert (await refuse(gateway, origin, head.encode())).status == 407


async def test_a_denied_host_names_the_rule(gateway: GatewayInProcess, origin: RawOrigin) -> None:
    answer = await refuse(gateway, origin, connect(gateway, b"evil.test:443", b"Host: evil.test:443"))
    problem = json.loads(answer.body)
    assert (answer.status, problem["code"], problem["egressRuleId"]) == (403, "denied_by_plan", "no-evil")
    assert problem["hint"]
    (record,) = gateway.audit.entries
    assert (record["egressRuleId"], record["host"], record["port"]) == ("no-evil", "evil.test", 443)
    assert (record["sandboxId"], record["planRevision"]) == ("sbx_one", 1)


async def test_what_no_rule_names_follows_the_default(gateway: GatewayInProcess, origin: RawOrigin) -> None:
    answer = await refuse(gateway, origin, connect(gateway, b"other.test:443", b"Host: other.test:443"))
    assert (answer.status, answer.value("X-Sallyport-Error")) == (403, "denied_by_plan")


async def test_h9_a_managed_host_on_another_port_is_not_intercepted(
    gateway: GatewayInProcess, origin: RawOrigin
) -> None:
    assert (await refuse(gateway, origin, connect(gateway, b"api.test:8443", b"Host: api.test:8443"))).status == 403


@pytest.mark.parametrize(
    ("target", "lines", "status", "code"),
    [
        (b"api.test:443", [b"Host: evil.test:443"], 421, "authority_mismatch"),
        (b"api.test:443", [b"Host: api.test:444"], 421, "authority_mismatch"),
        (b"api.test:443", [b"Host: api.test", b"Host: api.test"], 400, "invalid_request"),
        (b"api.test:443", [b"Host: api.test, evil.test"], 400, "invalid_request"),
        (b"api.test:443", [b"Host:"], 400, "invalid_request"),
        (b"api.test:443", [], 400, "invalid_request"),
        (b"api.test:443", [b"Host: api.test", b"Content-Length: 5"], 400, "invalid_request"),
        (b"api.test:443", [b"Host: api.test", b"Transfer-Encoding: chunked"], 400, "invalid_request"),
        (b"api.test", [b"Host: api.test"], 400, "invalid_request"),
        (b"api.test:", [b"Host: api.test"], 400, "invalid_request"),
        (b"api.test:0", [b"Host: api.test"], 400, "invalid_request"),
        (b"api.test:65536", [b"Host: api.test"], 400, "invalid_request"),
        (b"api.test:+443", [b"Host: api.test"], 400, "invalid_request"),
        (b"api.test:https", [b"Host: api.test"], 400, "invalid_request"),
        (b"user@api.test:443", [b"Host: api.test"], 400, "invalid_request"),
        (b"https://api.test:443", [b"Host: api.test"], 400, "invalid_request"),
        (b"/api.test:443", [b"Host: api.test"], 400, "invalid_request"),
        (b"api.test%00.evil.test:443", [b"Host: api.test"], 400, "invalid_request"),
        (b"api..test:443", [b"Host: api.test"], 400, "invalid_request"),
        (b"0x7f.1:443", [b"Host: 0x7f.1"], 400, "invalid_request"),
        (b"2130706433:443", [b"Host: 2130706433"], 400, "invalid_request"),
        (b"[fe80::1%25eth0]:443", [b"Host: x"], 400, "invalid_request"),
    ],
)
async def test_a1_a3_h4_h6_p6_an_ambiguous_connect_is_refused(
    gateway: GatewayInProcess, origin: RawOrigin, target: bytes, lines: list[bytes], status: int, code: str
) -> None:
    answer = await refuse(gateway, origin, connect(gateway, target, *lines))
    assert (answer.status, answer.value("X-Sallyport-Error")) == (status, code)


async def test_a_sandbox_without_a_plan_is_told_to_wait(gateway: GatewayInProcess, origin: RawOrigin) -> None:
    gateway.token = proxy_token("sbx_two")
    answer = await refuse(gateway, origin, connect(gateway, b"api.test:443", b"Host: api.test"))
    assert (answer.status, answer.value("X-Sallyport-Error")) == (503, "plan_unavailable")
    assert answer.value("Retry-After") == "5"


async def test_s9_what_follows_a_refused_connect_is_neither_forwarded_nor_served(
    gateway: GatewayInProcess, origin: RawOrigin
) -> None:
    early = connect(gateway, b"evil.test:443", b"Host: evil.test") + gateway.request("http://open.test/")
    assert (await refuse(gateway, origin, early)).status == 403


# ---- addresses that are refused whatever the plan says


async def refuse_address(gateway: GatewayInProcess, origin: RawOrigin, authority: str) -> None:
    answer, client = await ask(gateway, connect(gateway, authority.encode(), b"Host: " + authority.encode()), "CONNECT")
    assert (answer.status, answer.value("X-Sallyport-Error")) == (403, "address_refused")
    assert await client.rest() == b""
    (record,) = await gateway.audit.until(1)
    assert (record["status"], record["code"]) == (403, "address_refused")
    assert record["requestId"] == json.loads(answer.body)["requestId"]
    assert origin.ends == []


@pytest.mark.parametrize("host", ["169.254.169.254", "metadata.google.internal", "10.0.0.1"])
async def test_h7_metadata_services_and_private_addresses_are_refused_though_allowed_by_a_rule(
    gateway: GatewayInProcess, origin: RawOrigin, host: str
) -> None:
    await refuse_address(gateway, origin, f"{host}:80")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]"])
@pytest.mark.parametrize("listener", ["proxy", "admin"])
async def test_h10_the_gateway_s_own_listeners_are_never_reached(
    gateway: GatewayInProcess, origin: RawOrigin, host: str, listener: str
) -> None:
    port = gateway.gateway.proxy.port if listener == "proxy" else gateway.gateway.admin_port
    await refuse_address(gateway, origin, f"{host}:{port}")


@pytest.mark.parametrize(
    ("listen", "host"),
    [
        ("0.0.0.0", "127.0.0.1"),
        ("0.0.0.0", "127.1.2.3"),
        ("0.0.0.0", "localhost"),
        ("localhost", "localhost"),
        ("localhost", "127.0.0.1"),
    ],
)
async def test_a_listener_on_a_name_or_on_every_address_is_not_reached_either(
    tmp_path: Path, listen: str, host: str
) -> None:
    further: Settings = {"listen": {"proxy": f"{listen}:0"}, "network": {"allow": ["0.0.0.0/0", "::/0"]}}
    async with in_process_gateway(tmp_path, plan=PLAN, further=further) as gateway:
        for _, port in gateway.gateway.proxy.addresses:
            authority = f"{host}:{port}".encode()
            answer, _ = await ask(gateway, connect(gateway, authority, b"Host: " + authority), "CONNECT")
            assert (answer.status, answer.value("X-Sallyport-Error")) == (403, "address_refused")


# ---- a CONNECT that is admitted


async def test_s4_python_3_11_sends_a_connect_of_http_1_0_without_host(
    gateway: GatewayInProcess, origin: RawOrigin
) -> None:
    client = await gateway.client()
    client.send(connect(gateway, b"open.test:443", version=b"1.0"))
    assert (await client.head()).startswith(b"HTTP/1.1 200 ")
    await origin.link()


@pytest.mark.parametrize("host", [b"open.test", b"OPEN.test.", b"open.test:0443"])
async def test_h1_spellings_of_one_host_agree(gateway: GatewayInProcess, origin: RawOrigin, host: bytes) -> None:
    client = await gateway.client()
    client.send(connect(gateway, b"open.test:443", b"Host: " + host))
    assert (await client.head()).startswith(b"HTTP/1.1 200 ")


async def test_a_connect_may_follow_other_requests_on_its_stream(gateway: GatewayInProcess, origin: RawOrigin) -> None:
    client = await gateway.client()
    client.send(gateway.request("http://open.test/"))
    link = await origin.link()
    await link.head()
    link.send(b"HTTP/1.1 204 No Content\r\n\r\n")
    assert (await client.answer()).status == 204
    client.send(connect(gateway, b"open.test:443", b"Host: open.test"))
    assert (await client.head()).startswith(b"HTTP/1.1 200 ")
    opaque = await origin.link()
    client.send(b"hello")
    assert await opaque.exactly(5) == b"hello"


async def test_streams_of_one_sandbox_are_limited(tmp_path: Path, origin: RawOrigin) -> None:
    limits = {"limits": {"streams_per_sandbox": 1}}
    async with in_process_gateway(
        tmp_path, plan=PLAN, connect_to={"open.test:443": origin.port}, further=limits
    ) as gateway:
        await gateway.open_tunnel("open.test:443")
        answer, _ = await ask(gateway, connect(gateway, b"open.test:443", b"Host: open.test"), "CONNECT")
        assert (answer.status, answer.value("X-Sallyport-Error")) == (503, "overloaded")


async def test_the_last_stream_a_gateway_may_have_can_be_intercepted(tmp_path: Path) -> None:
    limits = {"limits": {"open_streams": 1, "streams_per_sandbox": 1}}
    async with in_process_gateway(tmp_path, plan=PLAN, further=limits) as gateway:
        client = await gateway.intercepted("api.test:443")
        client.send(b"TRACE / HTTP/1.1\r\nHost: api.test\r\n\r\n")
        assert (await client.answer()).status == 405
