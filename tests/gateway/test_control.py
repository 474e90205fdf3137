"""A gateway under a control plane, from outside: what it serves, waits for, and does while that is away."""

import asyncio
import json
import ssl
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
from aiohttp import web

from control_client import backoff
from gateway import key_refresh, plan_bodies
from gateway.starting import StartError
from sallyport.net.interception import CaStore
from tests.support.fake_control import Answer, Document, FakeControl, answer, fake_control, hang, refusal
from tests.support.figures import InTime
from tests.support.gateway_plans import SANDBOX, plan, route
from tests.support.in_process import GatewayInProcess, in_process_gateway, proxy_token, signing_jwk
from tests.support.passing_time import let_time_pass
from tests.support.raw_end import WAIT_SECONDS, RawAnswer, RawEnd, RawOrigin, raw_origin
from tests.support.signed_tokens import jwk
from tests.support.until import until

# With a close, so that each request has a link of its own.
OK = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"
API = "http://api.test/"
SECRET = "canary-of-the-control-plane"


def the_plan(revision: int = 1, host: str = "api.test") -> bytes:
    return plan([route("managed", [host], "con_one", allowCleartext=True)], revision=revision)


pytestmark = pytest.mark.uvloop


@pytest.fixture(autouse=True)
def _quick_returns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff, "FIRST_SECONDS", 0.05)


@pytest.fixture
async def control() -> AsyncIterator[FakeControl]:
    async with fake_control() as fake:
        fake.keys = [signing_jwk()]
        fake.plans[SANDBOX] = the_plan()
        fake.credentials["con_one"] = {"kind": "value", "value": SECRET, "version": "v1"}
        yield fake


@pytest.fixture
async def origin() -> AsyncIterator[RawOrigin]:
    async with raw_origin() as origin:
        yield origin


class Stage:
    """A fake control plane, an origin, and gateways between them, one after the other."""

    def __init__(self, folder: Path, control: FakeControl, origin: RawOrigin) -> None:
        self.folder = folder
        self.control = control
        self.origin = origin

    def gateway(self, **further: Mapping[str, object]) -> AbstractAsyncContextManager[GatewayInProcess]:
        settings = {
            "url": self.control.url,
            "token_file": str(self.control.token_file(self.folder)),
            "gateway_id": "gw_1",
            "state_dir": str(self.folder / "state"),
        }
        return in_process_gateway(
            self.folder,
            connect_to={"api.test:80": self.origin.port, "api.test:443": self.origin.port},
            control=settings | dict(further.pop("control", {})),
            further=further,
        )


@pytest.fixture
def stage(tmp_path: Path, control: FakeControl, origin: RawOrigin) -> Stage:
    return Stage(tmp_path, control, origin)


async def readiness(gateway: GatewayInProcess) -> tuple[int, list[str]]:
    end = await RawEnd.dial(gateway.gateway.admin_port)
    end.send(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    answer = await end.answer()
    end.writer.transport.abort()
    return answer.status, json.loads(answer.body).get("reasons", [])


async def until_ready(gateway: GatewayInProcess, *reasons: str) -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        while (found := await readiness(gateway)) != (200, list(reasons)):
            await asyncio.sleep(0.005)
            assert found


def revision(gateway: GatewayInProcess) -> int | None:
    table = gateway.parts.plans.table(SANDBOX)
    return None if table is None else table.revision


async def get(gateway: GatewayInProcess) -> RawAnswer:
    """Send one request that no origin has to answer."""
    client = await gateway.client()
    client.send(gateway.request(API))
    return await client.answer()


async def served(gateway: GatewayInProcess, origin: RawOrigin) -> bytes:
    """Send one request that the origin has to get, and return its head there."""
    client = await gateway.client()
    client.send(gateway.request(API))
    end = await origin.link()
    head = await end.head()
    end.send(OK)
    assert (await client.answer()).status == 200
    return head


async def test_everything_comes_from_the_control_plane(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    async with stage.gateway() as gateway:
        await until_ready(gateway)
        head = await served(gateway, stage.origin)
        assert f"Bearer {SECRET}".encode() in head
        [asked] = stage.control.bodies("/internal/integration-credentials/resolve")
        assert asked == {
            "sandboxId": SANDBOX,
            "planRevision": 1,
            "egressRuleId": "managed",
            "bindingId": "bnd_managed",
            "connectionId": "con_one",
            "secretType": "api_key",
        }
        assert gateway.metric("sallyport_control_watch_connected") == 1
        assert SECRET not in repr(gateway.parts.credentials) + gateway.parts.metrics.render().decode()
        logged = capsys.readouterr()
        assert "plan_applied" in logged.out
        assert SECRET not in logged.out + logged.err
        assert gateway.metric('sallyport_plan_fetches_total{result="ok"}') == 1
        assert gateway.metric('sallyport_control_requests_total{operation="credential",result="ok"}') == 1


# ---- plans


async def test_a_request_waits_for_its_plan(stage: Stage) -> None:
    let_go = asyncio.Event()

    async def slowly(_: web.Request) -> web.StreamResponse:
        await let_go.wait()
        return web.Response(body=stage.control.plans[SANDBOX])

    stage.control.misbehave(f"/internal/sandboxes/{SANDBOX}/plan", slowly)
    async with stage.gateway() as gateway:
        await until_ready(gateway)
        clients = [await gateway.client() for _ in range(3)]
        for client in clients:
            client.send(gateway.request(API))
        await until(lambda: stage.control.count(f"/internal/sandboxes/{SANDBOX}/plan") == 1)
        let_go.set()
        for _ in clients:
            link = await stage.origin.link()
            await link.head()
            link.send(OK)
        assert [(await client.answer()).status for client in clients] == [200, 200, 200]
        assert stage.control.count(f"/internal/sandboxes/{SANDBOX}/plan") == 1


async def test_a_plan_that_does_not_come_in_time_is_a_503(stage: Stage) -> None:
    stage.control.misbehave(f"/internal/sandboxes/{SANDBOX}/plan", hang)
    async with stage.gateway(timeouts={"plan": "100ms"}) as gateway:
        await until_ready(gateway)
        answer = await get(gateway)
        assert (answer.status, answer.value("X-Sallyport-Error")) == (503, "plan_unavailable")


async def test_a_connect_waits_for_its_plan_and_its_authority(stage: Stage, tmp_path: Path) -> None:
    stage.control.authorities[SANDBOX] = authority_document(tmp_path)
    async with stage.gateway() as gateway:
        await until_ready(gateway)
        client = await gateway.open_tunnel("api.test:443")
        context = ssl.create_default_context(cadata=stage.control.authorities[SANDBOX]["certificatePem"])
        await client.start_tls(context, "api.test")
        assert stage.control.count(f"/internal/sandboxes/{SANDBOX}/interception-ca") == 1
        again = await gateway.open_tunnel("api.test:443")
        await again.start_tls(context, "api.test")
        assert stage.control.count(f"/internal/sandboxes/{SANDBOX}/interception-ca") == 1


async def test_the_ca_of_a_sandbox_is_fetched_when_it_is_asked_for(stage: Stage, tmp_path: Path) -> None:
    stage.control.authorities[SANDBOX] = authority_document(tmp_path)
    async with stage.gateway() as gateway:
        await until_ready(gateway)
        client = await gateway.client()
        client.send(b"GET /v1/ca.pem HTTP/1.1\r\nHost: localhost\r\n" + gateway.authorization + b"\r\n\r\n")
        answer = await client.answer()
        assert (answer.status, answer.body.decode()) == (200, stage.control.authorities[SANDBOX]["certificatePem"])


async def test_without_an_authority_the_handshake_fails_and_says_so(stage: Stage) -> None:
    async with stage.gateway() as gateway:
        await until_ready(gateway)
        client = await gateway.open_tunnel("api.test:443")
        with pytest.raises(ssl.SSLError):
            await client.start_tls(ssl.create_default_context(), "api.test")
        assert gateway.metric('sallyport_interception_handshakes_total{result="failed"}') == 1


async def test_a_sandbox_without_a_plan_is_told_soon(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_bodies, "ANNOUNCEMENT_SECONDS", 0.05)
    del stage.control.plans[SANDBOX]
    async with stage.gateway() as gateway:
        await until_ready(gateway)
        answer = await get(gateway)
        assert (answer.status, answer.value("Retry-After")) == (503, "5")


async def test_a_plan_announced_behind_its_first_request_serves_it(stage: Stage) -> None:
    del stage.control.plans[SANDBOX]
    async with stage.gateway() as gateway:
        await until_ready(gateway)
        client = await gateway.client()
        client.send(gateway.request(API))
        await until(lambda: gateway.parts.streams.of_sandbox(SANDBOX) != ())
        await stage.control.publish(the_plan())
        link = await stage.origin.link()
        await link.head()
        link.send(OK)
        assert (await client.answer()).status == 200


async def test_a_newer_plan_and_its_removal_are_applied_at_once(stage: Stage) -> None:
    async with stage.gateway() as gateway:
        await until_ready(gateway)
        await served(gateway, stage.origin)
        await stage.control.publish(the_plan(2, "other.test"))
        await until(lambda: revision(gateway) == 2)
        assert (await get(gateway)).status == 403
        await stage.control.remove(SANDBOX)
        await until(lambda: revision(gateway) is None)
        assert gateway.metric('sallyport_plan_apply_total{result="removed"}') == 1


async def test_plans_are_not_put_on_a_gateway_that_is_told_them(stage: Stage) -> None:
    async with stage.gateway() as gateway:
        for method in ("PUT", "DELETE"):
            end = await RawEnd.dial(gateway.gateway.admin_port)
            end.send(f"{method} /v1/sandboxes/{SANDBOX}/plan HTTP/1.1\r\nHost: localhost\r\n".encode())
            end.send(b"Content-Length: 0\r\n\r\n")
            answer = await end.answer()
            end.writer.transport.abort()
            assert (answer.status, json.loads(answer.body)["code"]) == (409, "plan_conflict")


# ---- revocations, invalidations, keys


@pytest.mark.parametrize(
    ("kind", "name"), [("sandbox", SANDBOX), ("connection", "con_one"), ("binding", "bnd_managed")]
)
async def test_a_revocation_ends_what_is_open_by_its_event(stage: Stage, kind: str, name: str, in_time: InTime) -> None:
    async with stage.gateway() as gateway:
        await until_ready(gateway)
        client = await gateway.client()
        client.send(gateway.request(API))
        await (await stage.origin.link()).head()
        asked = len(stage.control.asked)
        began_at = asyncio.get_running_loop().time()
        await stage.control.revoke(kind, name, 2_000_000_000)
        assert await client.rest() == b""
        in_time(f"from the revocation of a {kind} to the end", asyncio.get_running_loop().time() - began_at, 1)
        # By the event alone: no timer has made the gateway ask for anything meanwhile.
        assert [path for _, path, _ in stage.control.asked[asked:] if not path.endswith("/lease")] == []
        status = (await get(gateway)).status
        assert status == (407 if kind == "sandbox" else 502)


async def test_an_invalidation_makes_the_credential_be_asked_again(stage: Stage) -> None:
    async with stage.gateway() as gateway:
        await until_ready(gateway)
        await served(gateway, stage.origin)
        stage.control.credentials["con_one"] = {"kind": "value", "value": "a-newer-value", "version": "v2"}
        assert SECRET.encode() in await served(gateway, stage.origin)
        await stage.control.tell("invalidation", {"kind": "connection", "id": "con_one"})
        await until(lambda: len(gateway.parts.credentials) == 0)
        assert b"a-newer-value" in await served(gateway, stage.origin)


async def test_a_key_that_is_not_known_is_asked_for_and_the_next_try_succeeds(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_refresh, "UNKNOWN_KEY_SECONDS", 0.0)
    stage.control.keys = [jwk(kid="another")]
    async with stage.gateway() as gateway:
        await until_ready(gateway)
        stage.control.keys.append(signing_jwk())
        assert (await get(gateway)).status == 407
        keys = 'sallyport_control_requests_total{operation="keys",result="ok"}'
        await until(lambda: gateway.metric(keys) >= 2)  # it has the answer, and so the key
        await served(gateway, stage.origin)


# ---- the lease


async def test_a_tunnel_is_reported_at_once_with_its_plan(stage: Stage) -> None:
    async with stage.gateway() as gateway:
        await until_ready(gateway)
        await gateway.tunnel()
        await until(lambda: bool(lease(stage).get("planRevisions")))
        report = lease(stage)
        [held] = report["sandboxes"]
        assert (held["sandboxId"], held["tunnel"], type(held["tunnelEpoch"])) == (SANDBOX, True, int)
        assert report["planRevisions"] == {SANDBOX: 1}
        assert report["adminUrl"] == f"http://127.0.0.1:{gateway.gateway.admin_port}"


async def test_a_superseded_tunnel_is_closed(stage: Stage) -> None:
    async with stage.gateway() as gateway:
        await until_ready(gateway)
        stage.control.superseded = [SANDBOX]
        await gateway.tunnel()
        await until(lambda: gateway.parts.tunnels.current(SANDBOX) is None)


def lease(stage: Stage) -> Document:
    reports = stage.control.bodies("/internal/gateways/gw_1/lease")
    return reports[-1] if reports else {}


# ---- the control plane is away


async def test_what_is_known_serves_on_while_the_control_plane_is_away(stage: Stage) -> None:
    async with stage.gateway() as gateway:
        await until_ready(gateway)
        await served(gateway, stage.origin)
        async with stage.control.away():
            await until_ready(gateway, "stale")
            let_time_pass(gateway.parts.clock, 600)
            await until_ready(gateway, "stale")
            assert SECRET.encode() in await served(gateway, stage.origin)
        await until_ready(gateway)


async def test_the_watch_is_resumed_without_loss(stage: Stage) -> None:
    async with stage.gateway() as gateway:
        await until_ready(gateway)
        await served(gateway, stage.origin)
        await stage.control.publish(the_plan(2))
        await until(lambda: revision(gateway) == 2)
        async with stage.control.away():
            await stage.control.publish(the_plan(3))
            await stage.control.revoke("jti", "tok_gone", 2_000_000_000)
        await until(lambda: revision(gateway) == 3)
        await until(lambda: gateway.parts.revocations.any)
        assert stage.control.resumed == [None, "1"]


async def test_after_too_long_nothing_is_served_until_the_control_plane_is_back(stage: Stage) -> None:
    async with stage.gateway(control={"max_stale": "10m"}) as gateway:
        await until_ready(gateway)
        await served(gateway, stage.origin)
        async with stage.control.away():
            await until_ready(gateway, "stale")
            let_time_pass(gateway.parts.clock, 601)
            assert await readiness(gateway) == (503, ["plans_too_old"])
            assert gateway.metric("sallyport_plans_stale_seconds") > 600
            assert gateway.metric("sallyport_ready") == 0
            answer = await get(gateway)
            assert (answer.status, answer.value("X-Sallyport-Error")) == (503, "plan_unavailable")
        await until_ready(gateway)
        assert gateway.metric("sallyport_ready") == 1
        await served(gateway, stage.origin)


async def test_a_restart_without_the_control_plane_serves_what_was_kept(stage: Stage) -> None:
    other = proxy_token("sbx_revoked")
    async with stage.gateway() as gateway:
        await until_ready(gateway)
        await served(gateway, stage.origin)
        await stage.control.revoke("sandbox", "sbx_revoked", 2_000_000_000)
        await until(lambda: gateway.parts.revocations.any)
    async with stage.control.away(), stage.gateway() as gateway:
        assert await readiness(gateway) == (200, ["stale"])
        answer = await get(gateway)
        # The plan is there; the credential never was on the disk.
        assert answer.value("X-Sallyport-Error") == "credential_temporarily_unavailable"
        gateway.token = other
        assert (await get(gateway)).status == 407
    assert SECRET not in "".join(path.read_text("latin-1") for path in (stage.folder / "state").iterdir())


async def test_a_first_start_without_the_control_plane_is_not_ready(stage: Stage) -> None:
    async with stage.control.away(), stage.gateway(timeouts={"plan": "100ms"}) as gateway:
        assert await readiness(gateway) == (503, ["no_snapshot", "no_keys"])
        assert (await get(gateway)).status == 407


async def test_what_was_kept_is_corrected_by_the_next_snapshot(stage: Stage) -> None:
    async with stage.gateway() as gateway:
        await until_ready(gateway)
        await served(gateway, stage.origin)
    stage.control.plans = {}
    async with stage.gateway() as gateway:
        await until(lambda: revision(gateway) is None)
    assert not list((stage.folder / "state").glob("*.plan"))


async def test_a_state_directory_of_others_stops_the_start(stage: Stage) -> None:
    (stage.folder / "state").mkdir(mode=0o755)
    with pytest.raises(StartError, match="chmod 700"):
        async with stage.gateway():
            pass


# ---- credentials


@pytest.mark.parametrize(
    ("wrong", "status", "code"),
    [
        (refusal(404, "connection_not_found"), 502, "credential_unavailable"),
        (refusal(409, "refresh_failed_permanent"), 502, "credential_unavailable"),
        (refusal(503, "refresh_failed_temporary", Retry_After="7"), 503, "credential_temporarily_unavailable"),
        (answer(302, Location="http://127.0.0.1/"), 503, "credential_temporarily_unavailable"),
        (answer(200, b"garbage"), 503, "credential_temporarily_unavailable"),
    ],
)
async def test_c11_a_credential_that_cannot_be_had(stage: Stage, wrong: Answer, status: int, code: str) -> None:
    stage.control.misbehave("/internal/integration-credentials/resolve", *[wrong] * 3)
    async with stage.gateway() as gateway:
        await until_ready(gateway)
        found = await get(gateway)
        assert (found.status, found.value("X-Sallyport-Error")) == (status, code)
        assert (found.values("Retry-After") != []) == (status == 503)
        assert stage.origin.ends == []


def authority_document(folder: Path) -> Document:
    """Return an authority as the control plane gives it."""
    store = CaStore(folder / "made")
    store.authority(SANDBOX, time.time_ns() / 1e9)
    return {
        "certificatePem": (folder / "made" / f"{SANDBOX}.pem").read_text(),
        "privateKeyPem": (folder / "made" / f"{SANDBOX}.key").read_text(),
        "notAfter": 2_000_000_000,
    }
