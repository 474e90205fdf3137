"""Two organizations that call everything alike, on one gateway: what is one's is never reached by the other."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path

import pytest

from sallyport.plan.codec import seal
from sallyport.wire.websocket import REVOKED
from tests.support.bad_tokens import BAD_TOKENS, good_token
from tests.support.gateway_plans import ORGANIZATION, SANDBOX, route
from tests.support.in_process import GatewayInProcess, in_process_gateway, proxy_token, signed_token
from tests.support.plan_documents import plan_document, rule_document
from tests.support.raw_end import RawEnd, RawOrigin, raw_origin
from tests.support.tunnel_client import OpeningRefused
from tests.support.two_ways import WAYS
from tests.support.until import until

pytestmark = pytest.mark.uvloop

URL = "http://api.test/"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
SECRETS = {"con_one": "canary-of-organization-one", "con_two": "canary-of-organization-two"}
OTHER, OTHER_SANDBOX = "org_two", "sbx_two"


def the_plan(sandbox_id: str, organization_id: str, connection_id: str, *, revision: int = 1) -> bytes:
    """Profiles, routes, bindings, rules and hosts are called alike."""
    routes = [route("managed", ["api.test"], connection_id, allowCleartext=True)]
    rules = [rule_document("open", "allow", "open.test")]
    document = plan_document(routes, rules, default="deny", revision=revision)
    return seal(document | {"sandboxId": sandbox_id, "organizationId": organization_id})


@pytest.fixture
async def origin() -> AsyncIterator[RawOrigin]:
    async with raw_origin() as origin:
        yield origin


@pytest.fixture
async def gateway(tmp_path: Path, origin: RawOrigin) -> AsyncIterator[GatewayInProcess]:
    async with in_process_gateway(
        tmp_path,
        plan=the_plan(SANDBOX, ORGANIZATION, "con_one"),
        credentials=SECRETS,
        connect_to={host: origin.port for host in ("api.test:80", "api.test:443", "open.test:443")},
    ) as gateway:
        gateway.parts.plans.apply(the_plan(OTHER_SANDBOX, OTHER, "con_two"))
        yield gateway


def speak_for(gateway: GatewayInProcess, sandbox_id: str, organization_id: str) -> None:
    gateway.token = proxy_token(sandbox_id, organization_id=organization_id)


def code_of(body: bytes) -> str:
    return str(json.loads(body)["code"])


# ---- a sandbox's id under another organization


@pytest.mark.parametrize("how", ["plain", "connect to a managed host", "connect to an open host"])
async def test_t1_a_token_of_another_organization_is_407(
    gateway: GatewayInProcess, origin: RawOrigin, how: str
) -> None:
    speak_for(gateway, SANDBOX, OTHER)
    client = await gateway.client()
    if how == "plain":
        client.send(gateway.request(URL))
    else:
        target = b"api.test:443" if "managed" in how else b"open.test:443"
        client.send(b"CONNECT %b HTTP/1.1\r\nHost: %b\r\n%b\r\n\r\n" % (target, target, gateway.authorization))
    answer = await client.answer()
    assert (answer.status, code_of(answer.body)) == (407, "authentication_required")
    (record,) = await gateway.audit.until(1)
    assert (record["organizationId"], record["sandboxId"], record["bindingId"]) == (OTHER, SANDBOX, None)
    assert ORGANIZATION.encode() not in answer.body
    assert origin._waiting.empty()
    assert len(gateway.parts.credentials) == 0


class Awaited:
    """A source of plans that are on their way until the test says that they have come."""

    def __init__(self) -> None:
        self.come: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.wanted = 0

    def want(self, sandbox_id: str) -> Awaitable[None]:
        self.wanted += 1
        return self.come


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("how", ["plain", "connect to a managed host", "connect to an open host"])
async def test_t1_who_waits_for_a_plan_that_is_another_organization_s_is_407(
    gateway: GatewayInProcess, origin: RawOrigin, how: str, way: str
) -> None:
    parts = gateway.parts
    parts.plans.source = awaited = Awaited()
    head, declared = f"GET {URL} HTTP/1.1\r\nHost: api.test\r\n", "plain"
    if how != "plain":
        host, declared = ("api.test", "intercepted") if "managed" in how else ("open.test", "passthrough")
        head = f"CONNECT {host}:443 HTTP/1.1\r\nHost: {host}\r\n"
    if way == "tunnel":
        token = signed_token("sallyport-tunnel", "sbx_new", organization_id=OTHER)
        tunnel = await gateway.tunnel("sbx_new", token=token)
        end = tunnel.ask(f"{head}\r\n".encode(), f"{declared}; revision=1")
    else:
        speak_for(gateway, "sbx_new", OTHER)
        end = await gateway.client()
        end.send(head.encode() + gateway.authorization + b"\r\n\r\n")
    await until(lambda: awaited.wanted == (2 if way == "tunnel" else 1))  # a tunnel wants it for its set too
    parts.plans.apply(the_plan("sbx_new", ORGANIZATION, "con_one"))
    answer = await end.answer("CONNECT" if "connect" in how else "GET")
    assert (answer.status, code_of(answer.body)) == (407, "authentication_required")
    (record,) = await gateway.audit.until(1)
    assert (record["organizationId"], record["sandboxId"], record["status"]) == (OTHER, "sbx_new", 407)
    # A request is admitted before it is asked where it goes.
    assert record["host"] == {"plain": None, "connect to an open host": "open.test"}.get(how, "api.test")
    awaited.come.set_result(None)
    await until(lambda: not len(parts.tasks))
    assert len(gateway.audit.entries) == 1
    assert origin._waiting.empty()


async def test_t1_a_tunnel_of_another_organization_is_401_and_hears_nothing(gateway: GatewayInProcess) -> None:
    own = await gateway.tunnel()
    with pytest.raises(OpeningRefused) as refused:
        await gateway.tunnel(token=signed_token("sallyport-tunnel", organization_id=OTHER))
    assert (refused.value.answer.status, refused.value.code) == (401, "authentication_required")
    assert own.lost is None, "the sandbox's own tunnel has not given way"


async def test_t1_a_tunnel_that_came_before_the_plan_of_another_organization_is_closed(
    gateway: GatewayInProcess,
) -> None:
    tunnel = await gateway.tunnel("sbx_new", token=signed_token("sallyport-tunnel", "sbx_new", organization_id=OTHER))
    gateway.parts.plans.apply(the_plan("sbx_new", ORGANIZATION, "con_one"))
    assert await tunnel.ended() == REVOKED
    assert tunnel.control == [], "it was told of no host"


async def test_a_sandbox_that_moves_takes_nothing_along(gateway: GatewayInProcess, origin: RawOrigin) -> None:
    """Credential, prepared injection and idle link belong to the organization that it was in."""
    link = await served(await gateway.client(), gateway, origin)
    gateway.parts.plans.apply(the_plan(SANDBOX, OTHER, "con_two", revision=2))
    assert await link.gone() == b""
    client = await gateway.client()
    client.send(gateway.request(URL))
    assert (await client.answer()).status == 407
    speak_for(gateway, SANDBOX, OTHER)
    again = await served(await gateway.client(), gateway, origin, "con_two")
    assert again is not link


async def test_an_id_that_is_given_again_begins_with_nothing(gateway: GatewayInProcess, origin: RawOrigin) -> None:
    link = await served(await gateway.client(), gateway, origin)
    gateway.parts.plans.remove(SANDBOX)
    assert await link.gone() == b""
    gateway.parts.plans.apply(the_plan(SANDBOX, OTHER, "con_two"))
    speak_for(gateway, SANDBOX, OTHER)
    await served(await gateway.client(), gateway, origin, "con_two")
    keys = {key for key in gateway.parts.credentials.entries if key.organization_id == OTHER}
    assert {key.connection_id for key in keys} == {"con_two"}


# ---- tokens that are none


@pytest.mark.parametrize("how", ["plain", "basic", "connect"])
async def test_t1_a_bad_token_is_407_on_the_proxy(gateway: GatewayInProcess, origin: RawOrigin, how: str) -> None:
    client = await gateway.client()
    for number, (name, make) in enumerate(BAD_TOKENS.items(), start=1):
        token = make("sallyport-proxy", SANDBOX).encode()
        value = b"Basic " + base64.b64encode(b"x:" + token) if how == "basic" else b"Bearer " + token
        if how == "connect":
            client = await gateway.client()  # a CONNECT that is refused ends its stream
        first = b"CONNECT api.test:443" if how == "connect" else b"GET " + URL.encode()
        host = b"api.test:443" if how == "connect" else b"api.test"
        client.send(b"%b HTTP/1.1\r\nHost: %b\r\nProxy-Authorization: %b\r\n\r\n" % (first, host, value))
        answer = await client.answer()
        assert (name, answer.status, code_of(answer.body)) == (name, 407, "authentication_required")
        record = (await gateway.audit.until(number))[-1]
        assert (name, record["sandboxId"], record["code"]) == (name, None, "authentication_required")
    assert origin._waiting.empty()
    gateway.token = good_token("sallyport-proxy", SANDBOX)
    await served(await gateway.client(), gateway, origin)


async def test_t1_a_bad_token_is_401_on_the_tunnel(gateway: GatewayInProcess) -> None:
    for name, make in BAD_TOKENS.items():
        with pytest.raises(OpeningRefused) as refused:
            await gateway.tunnel(token=make("sallyport-tunnel", SANDBOX))
        assert (name, refused.value.answer.status, refused.value.code) == (name, 401, "authentication_required")
    tunnel = await gateway.tunnel(token=good_token("sallyport-tunnel", SANDBOX))
    await tunnel.message("interception.set")


@pytest.mark.parametrize(
    "audience", ["sallyport-tunnel", "sallyport-renewal", "sallyport-gateway", "sallyport-control"]
)
async def test_t1_tokens_of_other_listeners_are_none_on_the_proxy(gateway: GatewayInProcess, audience: str) -> None:
    gateway.token = good_token(audience, SANDBOX)
    client = await gateway.client()
    client.send(gateway.request(URL))
    assert (await client.answer()).status == 407


# ---- two tokens on one stream


async def served(
    client: RawEnd, gateway: GatewayInProcess, origin: RawOrigin, connection_id: str = "con_one"
) -> RawEnd:
    """Ask once, and return the link on which the credential of this connection arrived."""
    client.send(gateway.request(URL))
    link = await origin.link()
    head = await link.head()
    assert [name for name, secret in SECRETS.items() if secret.encode() in head] == [connection_id]
    link.send(OK)
    assert (await client.answer()).body == b"ok"
    return link


async def test_t1_pipelined_requests_of_two_tokens_get_each_its_own(
    gateway: GatewayInProcess, origin: RawOrigin
) -> None:
    first = gateway.request(URL)
    speak_for(gateway, OTHER_SANDBOX, OTHER)
    second = gateway.request(URL)
    client = await gateway.client()
    client.send(first + second + first + second)
    links: dict[str, RawEnd] = {}
    for connection_id in ("con_one", "con_two") * 2:
        link = links.get(connection_id) or await origin.link()
        links[connection_id] = link
        assert SECRETS[connection_id].encode() in await link.head()
        link.send(OK)
        assert (await client.answer()).body == b"ok"
    records = await gateway.audit.until(4)
    whose = [(record["organizationId"], record["sandboxId"], record["connectionId"]) for record in records]
    assert whose == [(ORGANIZATION, SANDBOX, "con_one"), (OTHER, OTHER_SANDBOX, "con_two")] * 2
    assert gateway.gateway.revoke("sandbox", SANDBOX, gateway.parts.clock.wall + 60) == 0
    client.send(second)
    assert await links["con_two"].head()


@pytest.mark.parametrize("bad", [b"", b"Proxy-Authorization: Bearer garbage\r\n", b"Proxy-Authorization: Digest x\r\n"])
async def test_t1_a_request_without_a_good_token_is_nobody_s(
    gateway: GatewayInProcess, origin: RawOrigin, bad: bytes
) -> None:
    client = await gateway.client()
    await served(client, gateway, origin)
    client.send(b"GET http://api.test/ HTTP/1.1\r\nHost: api.test\r\n" + bad + b"\r\n")
    assert (await client.answer()).status == 407
    good, refused = await gateway.audit.until(2)
    assert (good["organizationId"], good["sandboxId"]) == (ORGANIZATION, SANDBOX)
    assert (refused["organizationId"], refused["sandboxId"]) == (None, None)
    assert gateway.parts.streams.of_sandbox(SANDBOX) == ()
    assert gateway.parts.streams.open == 1
    client.send(gateway.request(URL))
    assert SECRETS["con_one"].encode() in await origin.ends[0].head()
    assert len(gateway.parts.streams.of_sandbox(SANDBOX)) == 1


# ---- what is shared and what is not


async def test_c12_no_link_is_shared_though_connections_are_called_alike(
    gateway: GatewayInProcess, origin: RawOrigin
) -> None:
    gateway.parts.plans.apply(the_plan(OTHER_SANDBOX, OTHER, "con_one", revision=2))
    await served(await gateway.client(), gateway, origin)
    speak_for(gateway, OTHER_SANDBOX, OTHER)
    await served(await gateway.client(), gateway, origin)
    assert len(origin.ends) == 2
    assert len(gateway.parts.credentials) == 2
    one, two = (gateway.parts.plans.table(sandbox_id) for sandbox_id in (SANDBOX, OTHER_SANDBOX))
    assert one is not None
    assert two is not None
    assert one.routes["managed"].prepared is not two.routes["managed"].prepared


async def test_an_invalidation_of_one_organization_leaves_the_other_its_credential(
    gateway: GatewayInProcess, origin: RawOrigin
) -> None:
    gateway.parts.plans.apply(the_plan(OTHER_SANDBOX, OTHER, "con_one", revision=2))
    await served(await gateway.client(), gateway, origin)
    speak_for(gateway, OTHER_SANDBOX, OTHER)
    await served(await gateway.client(), gateway, origin)
    assert gateway.parts.credentials.invalidate("organization", ORGANIZATION) == 1
    (left,) = gateway.parts.credentials.entries
    assert left.organization_id == OTHER


async def test_a_plan_for_another_sandbox_than_its_address_changes_nothing(gateway: GatewayInProcess) -> None:
    end = await RawEnd.dial(gateway.gateway.admin_port)
    body = the_plan(OTHER_SANDBOX, ORGANIZATION, "con_one", revision=9)
    end.send(b"PUT /v1/sandboxes/%b/plan HTTP/1.1\r\nHost: localhost\r\n" % SANDBOX.encode())
    end.send(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
    answer = await end.answer()
    end.writer.transport.abort()
    assert (answer.status, code_of(answer.body)) == (409, "plan_conflict")
    for sandbox_id in (SANDBOX, OTHER_SANDBOX):
        table = gateway.parts.plans.table(sandbox_id)
        assert table is not None
        assert table.revision == 1
