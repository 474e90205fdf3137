"""One tunnel of a running gateway: what it is told, its token, revocation, drain, and how it ends."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.renewal import RenewedTokens, TokenRenewalError
from sallyport.plan.codec import seal
from sallyport.wire.websocket import DRAINING, EXPIRED, PROTOCOL, REPLACED, REVOKED
from tests.support.figures import InTime
from tests.support.gateway_plans import plan, route
from tests.support.in_process import GatewayInProcess, in_process_gateway, signed_token
from tests.support.passing_time import let_time_pass
from tests.support.plan_documents import plan_document, rule_document
from tests.support.raw_end import RawEnd
from tests.support.stage import CONNECTION, HOST, OK, SECRET, URL, stage
from tests.support.token_issuer import ScriptedIssuer, renewed
from tests.support.tunnel_client import TunnelClient
from tests.support.until import until

pytestmark = pytest.mark.uvloop

PLAN = plan([route("r", [HOST, "*.wide.test"], CONNECTION)], default="passthrough")
ASK = f"GET {URL} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[GatewayInProcess]:
    async with in_process_gateway(tmp_path, plan=PLAN) as gateway:
        yield gateway


@pytest.fixture
def issuer(gateway: GatewayInProcess) -> ScriptedIssuer:
    issuer = ScriptedIssuer()
    issuer.serve(gateway)
    return issuer


def tunnel_token(ttl_seconds: int = 3600) -> str:
    return signed_token("sallyport-tunnel", ttl_seconds=ttl_seconds)


def request_token(client: TunnelClient, request_id: str) -> None:
    client.tunnel.send_control({"type": "token.request", "requestId": request_id})


def set_wall(gateway: GatewayInProcess, at: float) -> None:
    """Let the clock on the wall stand at an instant, as after a suspend, until its next tick."""
    gateway.parts.clock.wall = at


# ---- the managed set


async def test_the_set_is_told_at_once_and_with_every_plan(gateway: GatewayInProcess) -> None:
    client = await gateway.tunnel()
    first = await client.message("interception.set")
    assert first == {
        "type": "interception.set",
        "revision": 1,
        "hosts": [{"pattern": "*.wide.test", "ports": [80, 443]}, {"pattern": HOST, "ports": [80, 443]}],
    }
    gateway.parts.plans.apply(plan([], [rule_document("reads", "deny", "x.test", methods=["POST"])], revision=2))
    second = await client.message("interception.set")
    assert (second["revision"], second["hosts"]) == (2, [{"pattern": "x.test", "ports": [0]}])
    # The same plan once more is no change.
    gateway.parts.plans.apply(plan([], [rule_document("reads", "deny", "x.test", methods=["POST"])], revision=2))
    gateway.parts.plans.apply(plan([], revision=3))
    assert (await client.message("interception.set"))["revision"] == 3


async def test_a_sandbox_without_a_plan_is_told_nothing_until_it_has_one(tmp_path: Path) -> None:
    async with in_process_gateway(tmp_path) as gateway:
        client = await gateway.tunnel()
        other = {**plan_document([], []), "sandboxId": "sbx_two"}
        gateway.parts.plans.apply(seal(other))
        gateway.parts.plans.apply(PLAN)
        assert (await client.message("interception.set"))["revision"] == 1
        assert [each["type"] for each in client.control] == []
        assert await client.ended_within_a_moment() is None


async def test_a_set_that_no_message_holds_comes_in_several(gateway: GatewayInProcess) -> None:
    client = await gateway.tunnel()
    await client.message("interception.set")
    hosts = [f"{'x' * 50}{number}.test" for number in range(1000)]
    gateway.parts.plans.apply(plan([], [rule_document("many", "deny", *hosts, methods=["POST"])], revision=2))
    first, second = await client.message("interception.set"), await client.message("interception.set")
    assert (first["more"], "more" in second) == (True, False)
    assert sorted(entry["pattern"] for page in (first, second) for entry in page["hosts"]) == sorted(hosts)


# ---- control messages


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"null",
        b"[]",
        b"{",
        b'{"type":"interception.set","revision":1,"hosts":[]}',
        b'{"type":"unknown"}',
        b'{"type":"ready","type":"ready"}',
        b'{"type":["ready"]}',
        b"[" * 60_000,
        b'{"type":"token.request"}',
        b'{"type":"token.request","requestId":""}',
        b'{"type":"token.request","requestId":7}',
        b'{"type":"token.request","requestId":"%s"}' % (b"x" * 129),
        b'{"type":"token.request","requestId":"a\\nb"}',
    ],
)
async def test_a_control_message_that_is_none_ends_the_tunnel(gateway: GatewayInProcess, text: bytes) -> None:
    client = await gateway.tunnel()
    client.send_text(text)
    assert await client.ended() == PROTOCOL
    await until(lambda: len(gateway.parts.tunnels) == 0)
    assert gateway.parts.streams.open == 0


@pytest.mark.parametrize("data", [b"\x00" * 12, b"\xff" * 64, b"\x82\x7f" + b"\xff" * 8, b"GET / HTTP/1.1\r\n\r\n"])
async def test_frames_that_lie_end_the_tunnel_and_nothing_else(gateway: GatewayInProcess, data: bytes) -> None:
    client, other = await gateway.tunnel(), await gateway.tunnel("sbx_two")
    client.tunnel.transport.write(data)
    assert await client.ended() == PROTOCOL
    await until(lambda: len(gateway.parts.tunnels) == 1)
    assert other.lost is None


async def test_setup_status_is_kept(gateway: GatewayInProcess) -> None:
    client = await gateway.tunnel()
    client.tunnel.send_control({"type": "ready"})
    client.tunnel.send_control({"type": "setup.status", "revision": 3, "state": "applying", "steps": []})
    host = gateway.parts.tunnels.current("sbx_one")
    assert host is not None
    await until(lambda: host.setup_status is not None)
    assert host.setup_status == {"revision": 3, "state": "applying", "steps": []}
    # The tunnel that replaces it knows what was told last.
    await gateway.tunnel()
    newer = gateway.parts.tunnels.current("sbx_one")
    assert newer is not None
    assert newer is not host
    assert newer.setup_status == host.setup_status


# ---- the token


async def test_renewal_extends_the_tunnel_and_its_streams(gateway: GatewayInProcess, issuer: ScriptedIssuer) -> None:
    token = tunnel_token(60)
    client = await gateway.tunnel(token=token)
    stream = await client.inside(f"{HOST}:443")
    request_token(client, "req_1")
    asked = await issuer.asked()
    assert (asked.sandbox_id, asked.request_id, asked.renewal_token) == ("sbx_one", "req_1", None)
    assert asked.lineage == gateway.parts.tunnel_tokens.verify(token, gateway.parts.clock.wall).lineage
    fresh = renewed()
    asked.answer.set_result(fresh)
    assert await client.message("token.response") == fresh.response("req_1")
    # Past the end of the first token: the tunnel and what is open in it live on.
    set_wall(gateway, gateway.parts.clock.wall + 61)
    stream.send(b"TRACE / HTTP/1.1\r\nHost: api.test\r\n\r\n")
    assert (await stream.answer()).status == 405
    assert "secret" not in repr(fresh)
    assert fresh.token not in repr(fresh)


async def test_a_request_is_answered_alike_when_its_answer_was_lost(
    gateway: GatewayInProcess, issuer: ScriptedIssuer
) -> None:
    client = await gateway.tunnel()
    request_token(client, "req_1")
    (await issuer.asked()).answer.set_result(renewed())
    first = await client.message("token.response")
    request_token(client, "req_1")
    assert await client.message("token.response") == first
    assert issuer.count == 1


async def test_one_renewal_at_a_time(gateway: GatewayInProcess, issuer: ScriptedIssuer) -> None:
    client = await gateway.tunnel()
    request_token(client, "req_1")
    asked = await issuer.asked()
    request_token(client, "req_1")  # asked again: its answer is on the way
    request_token(client, "req_2")
    error = await client.message("token.error")
    assert (error["requestId"], error["code"], error["retryable"]) == ("req_2", "renewal_under_way", True)
    asked.answer.set_result(renewed())
    assert (await client.message("token.response"))["requestId"] == "req_1"
    request_token(client, "req_2")
    (await issuer.asked()).answer.set_result(renewed())
    assert (await client.message("token.response"))["requestId"] == "req_2"
    assert issuer.count == 2
    assert [each["type"] for each in client.control] == ["interception.set"]


@pytest.mark.parametrize(
    ("outcome", "code", "retryable"),
    [
        (TokenRenewalError("sandbox_not_found", temporary=False), "sandbox_not_found", False),
        (TokenRenewalError("unavailable", temporary=True), "unavailable", True),
        (renewed(sandbox_id="sbx_two"), "renewed_token_refused", False),
        (renewed(audience="sallyport-renewal"), "renewed_token_refused", False),
    ],
)
async def test_a_renewal_that_fails_leaves_the_tunnel_as_it_is(
    gateway: GatewayInProcess,
    issuer: ScriptedIssuer,
    outcome: RenewedTokens | TokenRenewalError,
    code: str,
    retryable: bool,
) -> None:
    client = await gateway.tunnel()
    request_token(client, "req_1")
    (await issuer.asked()).settle(outcome)
    error = await client.message("token.error")
    assert error == {"type": "token.error", "requestId": "req_1", "code": code, "retryable": retryable}
    # The same request may be tried again: only an answer that gave a token is given twice.
    request_token(client, "req_1")
    (await issuer.asked()).answer.set_result(renewed())
    assert (await client.message("token.response"))["requestId"] == "req_1"


async def test_a_renewal_has_its_time(tmp_path: Path) -> None:
    async with in_process_gateway(tmp_path, further={"timeouts": {"credential": "100ms"}}) as gateway:
        ScriptedIssuer().serve(gateway)
        client = await gateway.tunnel()
        request_token(client, "req_1")
        error = await client.message("token.error")
        assert (error["code"], error["retryable"]) == ("timeout", True)


async def test_a_gateway_that_stands_alone_renews_nothing(gateway: GatewayInProcess) -> None:
    client = await gateway.tunnel()
    request_token(client, "req_1")
    error = await client.message("token.error")
    assert (error["code"], error["retryable"]) == ("renewal_not_configured", False)


async def test_a_tunnel_ends_with_its_token(gateway: GatewayInProcess) -> None:
    client = await gateway.tunnel(token=tunnel_token(30))
    stream = client.ask(ASK)
    set_wall(gateway, gateway.parts.clock.wall + 31)
    host = gateway.parts.tunnels.current("sbx_one")
    assert host is not None
    host.expire()
    assert await client.ended() == EXPIRED
    assert await stream.gone() == b""


async def test_a_deadline_that_comes_before_the_token_s_end_waits_for_it(gateway: GatewayInProcess) -> None:
    client = await gateway.tunnel(token=tunnel_token(8))
    let_time_pass(gateway.parts.clock, 9)  # of the loop; the clock on the wall was set back meanwhile
    request_token(client, "req_1")
    await client.message("token.error")
    assert client.lost is None


async def test_a_renewal_that_is_under_way_ends_with_its_tunnel(
    gateway: GatewayInProcess, issuer: ScriptedIssuer
) -> None:
    client = await gateway.tunnel()
    request_token(client, "req_1")
    asked = await issuer.asked()
    client.abort()
    await until(lambda: asked.answer.cancelled())
    assert gateway.parts.streams.open == 0


# ---- revocation


@pytest.mark.parametrize("kind", ["jti", "sid", "sandbox"])
async def test_a_revocation_ends_the_tunnel_and_all_in_it_at_once(tmp_path: Path, kind: str, in_time: InTime) -> None:
    async with stage(tmp_path) as scene:
        gateway, token = scene.gateway, tunnel_token()
        claims = gateway.parts.tunnel_tokens.verify(token, gateway.parts.clock.wall)
        client, other = await gateway.tunnel(token=token), await gateway.tunnel("sbx_two")
        end = client.ask(ASK)
        link = await scene.origin.link()
        await link.head()
        revoked = {"jti": claims.token_id, "sid": claims.lineage, "sandbox": claims.sandbox_id}[kind]
        began = time.perf_counter()
        assert gateway.gateway.revoke(kind, revoked, gateway.parts.clock.wall + 60) == 2
        # At once: what is left are the other tunnel, and this one until its close is answered.
        assert gateway.parts.streams.open == 2
        assert await client.ended() == REVOKED
        assert await end.gone() == b""
        await link.gone()
        in_time(f"from the revocation of a {kind} to the end of its tunnel", time.perf_counter() - began, 1)
        assert other.lost is None
        (record,) = await gateway.audit.until(1)
        assert record["outcome"] == "cancelled"


async def test_a_revoked_connection_ends_its_exchange_and_not_the_tunnel(tmp_path: Path) -> None:
    async with stage(tmp_path) as scene:
        client = await scene.gateway.tunnel()
        end = client.ask(ASK)
        link = await scene.origin.link()
        await link.head()
        assert scene.gateway.gateway.revoke("connection", CONNECTION, scene.gateway.parts.clock.wall + 60) == 1
        assert await end.gone() == b""
        assert client.lost is None


# ---- replacement


async def test_a_newer_tunnel_takes_the_older_one_s_place(gateway: GatewayInProcess) -> None:
    older = await gateway.tunnel()
    stream = older.ask(ASK)
    newer = await gateway.tunnel()
    assert await older.ended() == REPLACED
    assert await stream.gone() == b""
    assert newer.lost is None
    await until(lambda: len(gateway.parts.tunnels) == 1)
    gateway.parts.tunnels.close_superseded("sbx_two")  # nobody's
    gateway.parts.tunnels.close_superseded("sbx_one")
    assert await newer.ended() == REPLACED


async def test_a_tunnel_that_drains_is_never_told_that_it_was_replaced(gateway: GatewayInProcess) -> None:
    client = await gateway.tunnel()
    host = gateway.parts.tunnels.current("sbx_one")
    assert host is not None
    host.drain()
    gateway.parts.tunnels.close_superseded("sbx_one")
    await gateway.tunnel()
    assert len(gateway.parts.tunnels) == 2
    assert client.lost is None


# ---- drain


async def test_a_drain_is_told_and_open_exchanges_finish(tmp_path: Path) -> None:
    async with stage(tmp_path, further={"timeouts": {"drain": "2s"}}) as scene:
        gateway = scene.gateway
        client = await gateway.tunnel()
        waiting, inside = client.ask(ASK), await client.inside(f"{HOST}:443")
        link = await scene.origin.link()
        await link.head()
        gateway.gateway.begin_drain()
        assert await client.message("drain") == {"type": "drain", "deadlineSeconds": 2}
        with pytest.raises(ConnectionRefusedError):
            await gateway.tunnel("sbx_two")
        # Until its sandboxd has gone elsewhere, a tunnel serves what is asked in it.
        inside.send(b"TRACE / HTTP/1.1\r\nHost: api.test\r\n\r\n")
        answer = await inside.answer()
        assert (answer.status, answer.value("Connection")) == (405, "close")
        late = client.ask(b"TRACE http://open.test/ HTTP/1.1\r\nHost: open.test\r\n\r\n")
        assert (await late.answer()).status == 405
        link.send(OK)
        assert (await waiting.answer()).body == b"ok"
        for end in (waiting, inside, late):
            end.close()
        assert await client.ended() == DRAINING
        await gateway.gateway.wait_ended()
        assert {each["outcome"] for each in await gateway.audit.until(3)} == {"injected", "denied"}


async def test_the_deadline_cuts_what_is_left(tmp_path: Path) -> None:
    async with stage(tmp_path, further={"timeouts": {"drain": "100ms"}}) as scene:
        client = await scene.gateway.tunnel()
        waiting = client.ask(ASK)
        link = await scene.origin.link()
        await link.head()
        scene.gateway.gateway.begin_drain()
        assert await client.ended() == DRAINING
        assert await waiting.gone() == b""
        await scene.gateway.gateway.wait_ended()


async def test_t5_a_drain_loses_no_request_of_a_sandboxd_that_goes_elsewhere(tmp_path: Path) -> None:
    """Make before break: requests on the old tunnel end there, later ones go by another gateway's."""

    async def serve_links() -> None:
        while True:
            link = await scene.origin.link()
            scene.gateway.parts.tasks.spawn(serve(link), name="link")

    async def serve(link: RawEnd) -> None:
        while await link.until(b"\r\n\r\n"):
            link.send(OK)

    async def send(count: int) -> None:
        for _ in range(count):
            end = current[0].ask(ASK)
            assert (await end.answer()).body == b"ok"
            end.close()

    (tmp_path / "two").mkdir()
    async with stage(tmp_path) as scene, stage(tmp_path / "two") as elsewhere:
        current = [await scene.gateway.tunnel()]
        drained = current[0]
        elsewhere.gateway.parts.dialer._connect_to.update(scene.gateway.parts.dialer._connect_to)
        async with asyncio.TaskGroup() as group:
            serving = group.create_task(serve_links())
            async with asyncio.TaskGroup() as sending:
                for _ in range(4):
                    sending.create_task(send(30))
                await until(lambda: len(scene.gateway.audit.entries) >= 20)
                scene.gateway.gateway.begin_drain()
                await drained.message("drain")
                current[0] = await elsewhere.gateway.tunnel()
            serving.cancel()
        assert len(elsewhere.gateway.audit.entries) > 0
        outcomes = [each["outcome"] for each in (*scene.gateway.audit.entries, *elsewhere.gateway.audit.entries)]
        assert outcomes == ["injected"] * 120
        drained.abort()
        await scene.gateway.gateway.wait_ended()


# ---- what is counted


async def test_bytes_are_counted_and_never_fewer(gateway: GatewayInProcess) -> None:
    def carried() -> tuple[float, float]:
        return (
            gateway.metric('sallyport_tunnel_bytes_total{direction="up"}'),
            gateway.metric('sallyport_tunnel_bytes_total{direction="down"}'),
        )

    client = await gateway.tunnel()
    await client.message("interception.set")
    await client.ask(ASK.replace(b"GET", b"TRACE")).answer()
    await until(lambda: gateway.parts.tunnels.bytes_up == client.tunnel.bytes_out)
    assert carried() == (client.tunnel.bytes_out, client.tunnel.bytes_in)
    before = carried()
    client.abort()
    await until(lambda: len(gateway.parts.tunnels) == 0)
    assert carried() >= before
    assert gateway.metric("sallyport_active_tunnels") == 0
    await gateway.tunnel()
    assert carried() > before


async def test_the_secret_never_goes_toward_the_sandbox(tmp_path: Path) -> None:
    async with stage(tmp_path) as scene:
        client = await scene.gateway.tunnel()
        end = client.ask(ASK)
        link = await scene.origin.link()
        head = await link.head()
        echo = json.dumps({"you sent": head.decode(), "again": SECRET}).encode()
        link.send(b"HTTP/1.1 200 OK\r\nX-Echo: %b\r\nContent-Length: %d\r\n\r\n" % (SECRET.encode(), len(echo)))
        for at in range(0, len(echo), 7):
            link.send(echo[at : at + 7])
            await link.flush()
        assert len((await end.answer()).body) == len(echo)
        assert SECRET.encode() in head
        assert SECRET.encode() not in client.keeping.received
