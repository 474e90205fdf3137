"""A CONNECT whose bytes stay opaque: what is looked at before a byte passes, and nothing afterwards (A1)."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import cast

import pytest

from sallyport.net.parting import LINGER_BYTES
from sallyport.plan.codec import seal
from tests.support.gateway_plans import denied, plan, route
from tests.support.in_process import GatewayInProcess, Settings, in_process_gateway, origin_context
from tests.support.origin import recording_origin
from tests.support.passing_time import let_time_pass
from tests.support.plan_documents import plan_document, rule_document
from tests.support.raw_end import RawEnd, RawOrigin, raw_origin
from tests.support.refusing_port import refusing_port
from tests.support.tls_by_hand import TlsByHand
from tests.support.until import until

pytestmark = pytest.mark.uvloop

OPEN = "open.test:443"
PLAN = plan(
    [route("managed", ["api.test"], "con_one")],
    [
        denied("no-evil", "evil.test", "exfiltration"),
        rule_document("open", "allow", "open.test", "other.test", "dead.test", "127.0.0.1"),
    ],
)


@pytest.fixture
async def origin() -> AsyncIterator[RawOrigin]:
    async with raw_origin() as origin:
        yield origin


@pytest.fixture
async def gateway(tmp_path: Path, origin: RawOrigin) -> AsyncIterator[GatewayInProcess]:
    async with in_process_gateway(tmp_path, plan=PLAN, connect_to={OPEN: origin.port}) as gateway:
        yield gateway


@pytest.fixture
def dead(gateway: GatewayInProcess) -> Iterator[None]:
    """Lead dead.test to where nobody listens."""
    with refusing_port() as port:
        gateway.parts.dialer._connect_to[("dead.test", 443)] = ("127.0.0.1", port)
        yield


def hello(server_name: str | None) -> bytes:
    return TlsByHand(ssl.create_default_context(), server_name).hello()


def hello_to_address(address: str) -> bytes:
    """Return a hello with an address in the place of a name, which Python's own TLS does not send."""
    stand_in = "x" * (len(address) - 2) + ".y"
    return hello(stand_in).replace(stand_in.encode(), address.encode())


async def record_of(gateway: GatewayInProcess) -> dict[str, object]:
    (record,) = await gateway.audit.until(1)
    assert (record["mode"], record["method"], record["sandboxId"]) == ("passthrough", "CONNECT", "sbx_one")
    return record


# ---- bytes that pass


async def test_tls_is_end_to_end(gateway: GatewayInProcess) -> None:
    async with recording_origin(origin_context("open.test")) as served:
        gateway.parts.dialer._connect_to[("open.test", 443)] = ("127.0.0.1", served.port)
        client = await gateway.open_tunnel(OPEN)
        trust = ssl.create_default_context(cafile=str(gateway._folder / "origins.pem"))
        await client.start_tls(trust, "open.test")
        client.send(b"GET / HTTP/1.1\r\nHost: open.test\r\nAuthorization: Bearer mine\r\n\r\n")
        assert (await client.answer()).body == b"ok"
        assert b"Authorization: Bearer mine" in served.received
        client.close()
        record = await record_of(gateway)
    assert (record["decision"], record["status"], record["host"], record["port"]) == ("forward", 200, "open.test", 443)
    assert record["egressRuleId"] == "open"
    assert cast(int, record["bytesUp"]) > 100
    assert cast(int, record["bytesDown"]) > 100
    assert gateway.metric('sallyport_requests_total{outcome="passthrough",source="explicit"}') == 1


@pytest.mark.parametrize("piece", [1, 100, 10_000])
async def test_a1_a_hello_in_pieces_is_passed_on_whole(
    gateway: GatewayInProcess, origin: RawOrigin, piece: int
) -> None:
    client, first = await gateway.open_tunnel(OPEN), hello("open.test")
    link = await origin.link()
    for start in range(0, len(first), piece):
        client.send(first[start : start + piece])
        await client.flush()
    assert await link.exactly(len(first)) == first


async def test_a1_a_hello_without_a_name_passes_to_a_named_host(gateway: GatewayInProcess, origin: RawOrigin) -> None:
    client, first = await gateway.open_tunnel(OPEN), hello(None)
    client.send(first)
    assert await (await origin.link()).exactly(len(first)) == first


async def test_a1_a_first_byte_that_is_not_tls_passes_to_a_named_host(
    gateway: GatewayInProcess, origin: RawOrigin
) -> None:
    client = await gateway.open_tunnel(OPEN)
    client.send(b"\x00\xff*1\r\n")
    assert await (await origin.link()).exactly(6) == b"\x00\xff*1\r\n"


async def test_a1_a_server_may_speak_first_after_a_moment(gateway: GatewayInProcess, origin: RawOrigin) -> None:
    client = await gateway.open_tunnel(OPEN)
    link = await origin.link()
    link.send(b"220 ready\r\n")
    assert await client.is_quiet()
    let_time_pass(gateway.parts.clock, 1.5)
    assert await client.until(b"\r\n") == b"220 ready\r\n"
    client.send(b"\x16 not a hello any more")
    assert await link.exactly(6) == b"\x16 not "


class Greeter(asyncio.Protocol):
    """A server that speaks in the very moment it accepts, and closes where it is told to."""

    def __init__(self, greeting: bytes, *, closes: bool) -> None:
        self._greeting = greeting
        self._closes = closes

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        writing = cast(asyncio.Transport, transport)
        writing.write(self._greeting)
        if self._closes:
            writing.close()


@pytest.mark.parametrize("closes", [False, True])
async def test_what_a_server_says_as_it_accepts_is_not_lost(gateway: GatewayInProcess, closes: bool) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Greeter(b"220 ready\r\n", closes=closes), "127.0.0.1", 0)
    gateway.parts.dialer._connect_to[("open.test", 443)] = ("127.0.0.1", server.sockets[0].getsockname()[1])
    for number in range(5):
        client = await gateway.open_tunnel(OPEN)
        let_time_pass(gateway.parts.clock, 1.5)
        assert await client.until(b"\r\n") == b"220 ready\r\n"
        client.close()
        await gateway.audit.until(number + 1)
    await until(lambda: gateway.parts.streams.open == 0)
    server.close()


async def test_s9_early_bytes_go_on_once_the_upstream_is_reached(gateway: GatewayInProcess, origin: RawOrigin) -> None:
    client, first = await gateway.client(), hello("open.test")
    client.send(b"CONNECT open.test:443 HTTP/1.1\r\nHost: open.test\r\n%b\r\n\r\n" % gateway.authorization + first)
    assert (await client.head()).startswith(b"HTTP/1.1 200 ")
    assert await (await origin.link()).exactly(len(first)) == first


# ---- names that do not pass


@pytest.mark.parametrize("name", ["evil.test", "api.test", "other.test", "open.test.evil.test"])
async def test_a1_another_name_than_the_connect_s_is_reset(
    gateway: GatewayInProcess, origin: RawOrigin, name: str
) -> None:
    client = await gateway.open_tunnel(OPEN)
    client.send(hello(name))
    assert await client.gone() == b""
    record = await record_of(gateway)
    assert (record["decision"], record["code"], record["host"]) == ("deny", "sni_mismatch", "open.test")
    assert record["egressRuleId"] is None  # the names differ: no rule has decided that
    assert await (await origin.link()).gone() == b""
    assert gateway.metric('sallyport_denied_total{code="sni_mismatch"}') == 1


async def test_the_rule_of_the_plan_that_ended_it_is_recorded(gateway: GatewayInProcess, origin: RawOrigin) -> None:
    client = await gateway.open_tunnel(OPEN)
    client.send(b"up")
    await (await origin.link()).exactly(2)
    gateway.parts.plans.apply(plan([], [denied("closed", "open.test", "no more")], revision=2))
    assert await client.gone() == b""
    record = await record_of(gateway)
    assert (record["code"], record["planRevision"], record["egressRuleId"]) == ("authority_withdrawn", 2, "closed")


@pytest.mark.parametrize("name", [b"open\0test", b"op@n.test", b"open,test", b"[::1].tst"])
async def test_h4_a_name_that_is_no_host_is_reset(gateway: GatewayInProcess, origin: RawOrigin, name: bytes) -> None:
    client = await gateway.open_tunnel(OPEN)
    client.send(hello("open.test").replace(b"open.test", name))
    assert await client.gone() == b""
    assert (await record_of(gateway))["code"] == "sni_mismatch"
    assert await (await origin.link()).gone() == b""


async def test_a_hello_over_its_limit_is_reset(gateway: GatewayInProcess, origin: RawOrigin) -> None:
    client = await gateway.open_tunnel(OPEN)
    client.send(b"\x16\x03\x01\x40\x00\x01\x00\x7f\xff" + bytes(20_000))
    assert await client.gone() == b""
    assert (await record_of(gateway))["code"] == "sni_mismatch"
    assert await (await origin.link()).gone() == b""


async def test_a_hello_may_lose_a_segment_but_not_take_for_ever(gateway: GatewayInProcess, origin: RawOrigin) -> None:
    client, first = await gateway.open_tunnel(OPEN), hello("open.test")
    link = await origin.link()
    timeouts = gateway.parts.timeouts
    client.send(first[:100])
    await until(lambda: any(getattr(stream, "_buffer", b"") for stream in gateway.parts.streams.all()))
    let_time_pass(gateway.parts.clock, timeouts.client_hello + 1)
    for at in range(100, 105):
        # One byte now and then does not put the end off.
        client.send(first[at : at + 1])
        await client.flush()
    assert await client.is_quiet()
    let_time_pass(gateway.parts.clock, timeouts.handshake)
    assert await client.gone() == b""
    assert (await record_of(gateway))["code"] == "sni_mismatch"
    assert await link.gone() == b""


# ---- a CONNECT to an address


@pytest.fixture
async def anywhere(tmp_path: Path) -> AsyncIterator[GatewayInProcess]:
    """A gateway whose plan lets everything pass that no rule names."""
    document = plan(
        [route("managed", ["api.test"], "con_one")], [denied("no-evil", "evil.test", "no")], default="passthrough"
    )
    async with in_process_gateway(tmp_path, plan=document) as gateway:
        yield gateway


async def test_a1_to_an_address_the_name_of_the_hello_counts(anywhere: GatewayInProcess, origin: RawOrigin) -> None:
    client, first = await anywhere.open_tunnel(f"127.0.0.1:{origin.port}"), hello("fine.test")
    client.send(first)
    assert await (await origin.link()).exactly(len(first)) == first


@pytest.mark.parametrize(
    ("first", "rule_id"),
    [
        (hello("evil.test"), "no-evil"),
        (hello("evilx.test").replace(b"evilx.test", b"EVIL.test."), "no-evil"),
        (hello(None), None),
        (b"GET / HTTP/1.1\r\n", None),
        (hello_to_address("127.0.0.1"), None),
        (hello_to_address("127.0.0.9"), None),
        (hello_to_address("::1"), None),
    ],
)
async def test_a1_to_an_address_nothing_passes_that_names_no_allowed_host(
    anywhere: GatewayInProcess, origin: RawOrigin, first: bytes, rule_id: str | None
) -> None:
    client = await anywhere.open_tunnel(f"127.0.0.1:{origin.port}")
    client.send(first)
    assert await client.gone() == b""
    record = await record_of(anywhere)
    assert (record["code"], record["egressRuleId"]) == ("sni_mismatch", rule_id)
    assert await (await origin.link()).gone() == b""


async def test_a1_to_an_address_a_managed_name_never_passes(anywhere: GatewayInProcess, tmp_path: Path) -> None:
    async with raw_origin() as managed:
        # The name is managed on 443 only, and this is what a sandbox would dial to get round the interception.
        anywhere.parts.dialer._connect_to[("127.0.0.1", 443)] = ("127.0.0.1", managed.port)
        client = await anywhere.open_tunnel("127.0.0.1:443")
        client.send(hello("api.test"))
        assert await client.gone() == b""
        assert await (await managed.link()).gone() == b""
    assert (await record_of(anywhere))["code"] == "sni_mismatch"


async def test_a1_to_an_address_silence_is_refused_too(anywhere: GatewayInProcess, origin: RawOrigin) -> None:
    client = await anywhere.open_tunnel(f"127.0.0.1:{origin.port}")
    let_time_pass(anywhere.parts.clock, 1.5)
    assert await client.gone() == b""
    assert (await record_of(anywhere))["code"] == "sni_mismatch"


async def test_a1_where_no_rule_names_hosts_opaque_bytes_pass_to_an_address(tmp_path: Path, origin: RawOrigin) -> None:
    async with in_process_gateway(tmp_path, plan=plan([], [], default="passthrough")) as gateway:
        client = await gateway.open_tunnel(f"127.0.0.1:{origin.port}")
        client.send(b"raw")
        assert await (await origin.link()).exactly(3) == b"raw"


@pytest.mark.parametrize(("name", "passes"), [("127.0.0.1", True), ("127.0.0.9", False), ("::ffff:127.0.0.1", False)])
async def test_a1_an_address_in_a_hello_is_no_name_and_no_other_address(
    tmp_path: Path, origin: RawOrigin, name: str, passes: bool
) -> None:
    async with in_process_gateway(tmp_path, plan=plan([], [], default="passthrough")) as gateway:
        client, first = await gateway.open_tunnel(f"127.0.0.1:{origin.port}"), hello_to_address(name)
        client.send(first)
        link = await origin.link()
        if passes:
            assert await link.exactly(len(first)) == first
            # What passed without a name ends when a plan names hosts.
            gateway.parts.plans.apply(
                plan([], [denied("no-evil", "evil.test", "no")], default="passthrough", revision=2)
            )
            assert await client.gone() == b""
            code = "authority_withdrawn"
        else:
            assert await client.gone() == b""
            assert await link.gone() == b""
            code = "sni_mismatch"
        assert (await record_of(gateway))["code"] == code


async def test_a1_an_address_in_a_hello_to_a_host_is_reset(gateway: GatewayInProcess, origin: RawOrigin) -> None:
    client = await gateway.open_tunnel(OPEN)
    client.send(hello_to_address("127.0.0.1"))
    assert await client.gone() == b""
    assert (await record_of(gateway))["code"] == "sni_mismatch"
    assert await (await origin.link()).gone() == b""


# ---- a managed host that the operator lets pass


@pytest.mark.parametrize(("allowed", "status"), [("allow", 200), ("deny", 403)])
async def test_a_managed_host_passes_only_where_plan_and_operator_agree(
    tmp_path: Path, origin: RawOrigin, allowed: str, status: int
) -> None:
    document = plan_document([route("managed", ["api.test"], "con_one")], default="deny")
    document["egress"] = {"default": "deny", "managedPassthrough": allowed, "rules": []}
    further: Settings = {"interception": {"passthrough_hosts": ["api.test"]}}
    async with in_process_gateway(
        tmp_path,
        plan=seal(document),
        credentials={"con_one": "s3cr3t-of-the-route"},
        connect_to={"api.test:443": origin.port},
        further=further,
    ) as gateway:
        client, first = await gateway.client(), hello("api.test")
        client.send(b"CONNECT api.test:443 HTTP/1.1\r\nHost: api.test\r\n%b\r\n\r\n" % gateway.authorization)
        head = await client.head()
        assert head.startswith(b"HTTP/1.1 %d " % status)
        if status == 200:
            client.send(first)
            assert await (await origin.link()).exactly(len(first)) == first
        else:
            assert b"X-Sallyport-Error: denied_by_plan" in head
            assert origin.ends == []


# ---- an upstream that is not reached


async def refused(gateway: GatewayInProcess, authority: bytes, early: bytes = b"") -> tuple[int, str, RawEnd]:
    client = await gateway.client()
    client.send(b"CONNECT %b HTTP/1.1\r\nHost: %b\r\n%b\r\n\r\n" % (authority, authority, gateway.authorization))
    client.send(early)
    answer = await client.answer("CONNECT")
    record = await record_of(gateway)
    problem = json.loads(answer.body)
    assert (record["requestId"], record["egressRuleId"]) == (problem["requestId"], "open")
    assert problem["egressRuleId"] == "open"
    assert (record["status"], record["code"]) == (answer.status, answer.value("X-Sallyport-Error"))
    return answer.status, answer.value("X-Sallyport-Error"), client


@pytest.mark.usefixtures("dead")
async def test_an_upstream_that_refuses_is_a_502(gateway: GatewayInProcess) -> None:
    status, code, client = await refused(gateway, b"dead.test:443")
    assert (status, code) == (502, "upstream_unreachable")
    assert await client.rest() == b""
    client.close()
    await until(lambda: gateway.parts.streams.open == 0)


@pytest.mark.usefixtures("dead")
async def test_s9_after_a_refusal_early_bytes_are_dropped_and_the_answer_arrives(gateway: GatewayInProcess) -> None:
    _, _, client = await refused(gateway, b"dead.test:443", bytes(200_000))
    assert await client.rest() == b""  # an end, not a reset


@pytest.mark.usefixtures("dead")
async def test_a_sandbox_that_does_not_end_after_a_refusal_is_ended(gateway: GatewayInProcess) -> None:
    _, _, client = await refused(gateway, b"dead.test:443")
    assert await client.rest() == b""
    let_time_pass(gateway.parts.clock, 3)

    def is_reset() -> bool:
        client.send(b"x")
        return client.writer.transport.is_closing()

    await until(is_reset)


@pytest.mark.usefixtures("dead")
async def test_s10_after_a_refusal_it_is_open_until_its_socket_is_gone(gateway: GatewayInProcess) -> None:
    streams = gateway.parts.streams
    _, _, client = await refused(gateway, b"dead.test:443")
    assert await client.rest() == b""
    assert (streams.open, streams.admitted, len(streams.of_sandbox("sbx_one"))) == (1, 1, 1)
    let_time_pass(gateway.parts.clock, 3)
    await until(lambda: (streams.open, streams.admitted, len(streams.of_sandbox("sbx_one"))) == (0, 0, 0))


@pytest.mark.usefixtures("dead")
async def test_s10_after_a_refusal_only_so_much_is_read(gateway: GatewayInProcess) -> None:
    gateway.parts.clock._timer.cancel()  # no time passes
    _, _, client = await refused(gateway, b"dead.test:443")
    client.send(bytes(LINGER_BYTES + 1))
    await until(lambda: gateway.parts.streams.open == 0)


@pytest.mark.usefixtures("dead")
async def test_a_sandbox_that_is_revoked_after_a_refusal_is_ended_and_recorded_once(gateway: GatewayInProcess) -> None:
    _, _, client = await refused(gateway, b"dead.test:443")
    assert gateway.gateway.revoke("sandbox", "sbx_one", gateway.parts.clock.wall + 60) == 1
    await until(lambda: gateway.parts.streams.open == 0)
    assert (await record_of(gateway))["code"] == "upstream_unreachable"
    client.abort()


async def test_a_name_that_is_not_resolved_is_a_502(gateway: GatewayInProcess) -> None:
    def lookup(host: str) -> tuple[str, ...]:
        raise OSError("not known")

    gateway.parts.dialer._resolver._lookup = lookup
    status, code, _ = await refused(gateway, b"dead.test:443")
    assert (status, code) == (502, "upstream_unreachable")


async def test_h8_one_private_answer_refuses_all(gateway: GatewayInProcess) -> None:
    gateway.parts.dialer._resolver._lookup = lambda host: ("127.0.0.1", "10.0.0.1")
    status, code, _ = await refused(gateway, b"dead.test:443")
    assert (status, code) == (403, "address_refused")


async def test_an_upstream_that_does_not_accept_is_a_504(gateway: GatewayInProcess) -> None:
    async def never(factory: object, address: str, port: int) -> tuple[asyncio.Transport, asyncio.Protocol]:
        await asyncio.Event().wait()
        raise AssertionError

    gateway.parts.dialer._connect = never
    gateway.parts.dialer._connect_timeout_seconds = 0.01
    status, code, _ = await refused(gateway, OPEN.encode())
    assert (status, code) == (504, "upstream_timeout")


async def test_a_sandbox_that_vanishes_while_dialling_leaves_nothing(gateway: GatewayInProcess) -> None:
    waiting = asyncio.Event()

    async def never(factory: object, address: str, port: int) -> tuple[asyncio.Transport, asyncio.Protocol]:
        waiting.set()
        await asyncio.Event().wait()
        raise AssertionError

    gateway.parts.dialer._connect = never
    client = await gateway.client()
    client.send(b"CONNECT open.test:443 HTTP/1.1\r\nHost: open.test\r\n%b\r\n\r\n" % gateway.authorization)
    await waiting.wait()
    assert gateway.gateway.revoke("sandbox", "sbx_one", gateway.parts.clock.wall + 60) == 1
    assert await client.gone() == b""
    await until(lambda: gateway.parts.streams.open == 0 and len(gateway.parts.tasks) == 0)
    assert (await record_of(gateway))["decision"] == "forward"
