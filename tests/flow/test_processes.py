"""A gateway of two processes, from outside: it is one to whoever uses, operates or controls it."""

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from sallyport.net.clock import Clock
from sallyport.plan.codec import seal
from sallyport.wire.websocket import REPLACED
from sallyport_cli.overview import Metrics
from tests.support.background import in_background
from tests.support.fake_control import fake_control
from tests.support.gateway_plans import SANDBOX, plan, route
from tests.support.gateway_process import Setting, gateway_process
from tests.support.in_process import proxy_token, signed_token, signing_jwk
from tests.support.load_origin import LoadOrigin, load_origin
from tests.support.plan_documents import plan_document
from tests.support.raw_end import RawEnd
from tests.support.several_processes import MANY, Several, controlled, recorded, stopped
from tests.support.until import until

pytestmark = [pytest.mark.timeout(180), pytest.mark.uvloop]

SECRET = "processes-canary-51c7d2"
ROUTES = [route("load", ["api.test"], "con_one", allowCleartext=True)]
OTHER = [route("load", ["other.test"], "con_one", allowCleartext=True)]
URL, OTHER_URL = "http://api.test/", "http://other.test/"
DENIED = "http://denied.test/"
UNTIL = 2_000_000_000
# A recording ends by itself, and what is to be in it has to be over by then.
RECORDED_SECONDS = 4.0


@pytest.fixture(scope="module")
def origin() -> Iterator[LoadOrigin]:
    with in_background(load_origin({SECRET: "con_one"})) as origin:
        yield origin


def setting(origin: LoadOrigin) -> Setting:
    return Setting(
        plan=plan(ROUTES),
        credentials={"con_one": SECRET},
        connect_to={f"{host}:80": f"127.0.0.1:{origin.port}" for host in ("api.test", "other.test")},
        workers=2,
    )


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, origin: LoadOrigin) -> Iterator[Several]:
    with gateway_process(tmp_path_factory.mktemp("two"), setting(origin)) as gateway:
        yield Several(gateway)
        assert SECRET.encode() not in gateway.log


@pytest.fixture
async def two(shared: Several) -> AsyncIterator[Several]:
    """Both processes serve, by the first plan."""
    await shared.until(shared.is_ready)
    await shared.ask("DELETE", f"/v1/sandboxes/{SANDBOX}/plan")
    await asyncio.to_thread(shared.gateway.put_plan, plan(ROUTES))
    yield shared
    shared.close()


@pytest.fixture
async def clock() -> AsyncIterator[Clock]:
    clock = Clock(asyncio.get_running_loop())
    yield clock
    clock.close()


def alive(two: Several) -> list[int]:
    return [pid for pid in two.pids().values() if Path(f"/proc/{pid}").exists()]


def setup_status(two: Several) -> int:
    """Ask for the sandbox's set-up: 409 without a tunnel, 404 before it has told of one."""
    return two.gateway.ask_admin("GET", f"/v1/sandboxes/{SANDBOX}/setup")[0]


async def statuses(two: Several, clients: list[RawEnd], url: str) -> list[int]:
    return [(await two.get(client, url)).status for client in clients]


async def test_connections_go_to_both_and_both_serve(two: Several) -> None:
    clients = await two.clients_of_both(DENIED)
    for each in clients.values():
        assert await statuses(two, each, URL) == [200] * len(each)


async def test_denials_of_both_are_one_list(two: Several, clock: Clock) -> None:
    by_process = await two.clients_of_both(DENIED)
    for prefix, clients in by_process.items():
        await two.get(clients[0], f"{DENIED}{prefix}?key=secret")
    tunnel, _ = await two.tunnel(clock, two.gateway.mint_token("sallyport-tunnel"))
    await tunnel.ask(f"GET {DENIED}tunnelled HTTP/1.1\r\nHost: denied.test\r\n\r\n".encode()).answer()

    def seen() -> set[str]:
        return {each["path"] for each in json.loads(two.gateway.ask_admin("GET", f"/v1/denials{query}")[1])["items"]}

    query = f"?sandboxId={SANDBOX}&limit=1000"
    await two.until(lambda: seen() >= {"/tunnelled", *(f"/{prefix}" for prefix in by_process)})
    query += "&after=" + json.loads(two.gateway.ask_admin("GET", f"/v1/denials{query}")[1])["next"]
    assert seen() == set()
    await two.get(await two.client(), f"{DENIED}later")
    await two.until(lambda: seen() == {"/later"})


async def test_a_plan_is_at_both_when_the_push_is_answered(two: Several) -> None:
    clients = [client for each in (await two.clients_of_both(DENIED)).values() for client in each]
    for revision in range(2, 12):
        is_other = revision % 2 == 0
        status, answer = await two.ask(
            "PUT", f"/v1/sandboxes/{SANDBOX}/plan", plan(OTHER if is_other else ROUTES, revision=revision)
        )
        assert (status, answer["changed"]) == (200, True)
        assert await statuses(two, clients, URL) == [403 if is_other else 200] * len(clients)
    assert (await two.ask("DELETE", f"/v1/sandboxes/{SANDBOX}/plan"))[0] == 204
    assert await statuses(two, clients, URL) == [503] * len(clients)
    # Told once, however many processes there are.
    assert two.gateway.metric("sallyport_plans_active") == 0


async def test_a_revocation_ends_streams_of_both(two: Several) -> None:
    own = two.gateway.mint_token("sallyport-proxy", sandbox_id="sbx_revoked")
    fresh = []
    for _ in range(MANY):
        client = await two.client()
        assert (await two.get(client, URL, own)).status == 503  # it has no plan
        fresh.append(client)
    status, answer = await two.ask(
        "POST", "/v1/tokens/revoke", {"kind": "sandbox", "id": "sbx_revoked", "until": UNTIL}
    )
    assert (status, answer) == (200, {"streamsEnded": MANY})
    for client in fresh:
        assert await client.gone() == b""
    again = [await two.client() for _ in range(MANY)]
    assert {(await two.get(client, URL, own)).status for client in again} == {407}


async def test_a_killed_process_loses_nobody_who_waits_for_it(two: Several) -> None:
    await two.ask("POST", "/v1/tokens/revoke", {"kind": "sandbox", "id": "sbx_before_the_kill", "until": UNTIL})
    revoked = two.gateway.mint_token("sallyport-proxy", sandbox_id="sbx_before_the_kill")
    clients = [client for each in (await two.clients_of_both(DENIED)).values() for client in each]
    await statuses(two, clients, URL)
    before = two.gateway.metric("sallyport_requests_total")
    pid = two.pids()[1]
    with stopped(pid):
        waiting = [await two.client() for _ in range(MANY)]
        for number, client in enumerate(waiting):
            client.send(two.request(URL, revoked if number % 2 else None))
    # Those who come before its successor does wait for it as well.
    for number in range(MANY, 2 * MANY):
        waiting.append(await two.client())
        waiting[-1].send(two.request(URL, revoked if number % 2 else None))
    # In the moments after, and with its successor there: never less than was shown.
    seen = [before]
    for _ in range(20):
        seen.append(await asyncio.to_thread(two.gateway.metric, "sallyport_requests_total"))
    assert seen == sorted(seen)
    answers = []
    for client in waiting:
        await two.until(lambda: bool(client._reader._buffer))  # type: ignore[attr-defined]  # noqa: B023
        answers.append((await client.answer()).status)
    # The successor accepted only when it knew plan and revocation.
    assert answers == [407 if number % 2 else 200 for number in range(2 * MANY)]
    await two.until(two.is_ready)
    assert two.pids()[1] != pid
    assert two.gateway.metric("sallyport_requests_total") > before + MANY
    assert two.gateway.metric("sallyport_plans_active") == 1
    assert two.gateway.metric("sallyport_ready") == two.gateway.metric("sallyport_build_info") == 1
    assert two.gateway.metric("sallyport_serving_process_deaths_total") >= 1
    assert two.gateway.metric("sallyport_event_loop_lag_seconds_count") > 0


async def test_a_newer_tunnel_replaces_one_at_the_other_process(two: Several, clock: Clock) -> None:
    token = two.gateway.mint_token("sallyport-tunnel")
    first, here = await two.tunnel(clock, token)
    opened = [first]
    while True:
        newer, there = await two.tunnel(clock, token)
        older = opened[-1]
        opened.append(newer)
        assert await older.ended() == REPLACED
        if there != here:
            break
        assert len(opened) < MANY
    await two.until(lambda: setup_status(two) == 404)
    (listed,) = (await two.ask("GET", "/v1/sandboxes"))[1]["items"]
    await two.until(lambda: two.gateway.metric("sallyport_active_tunnels") == 1)
    assert listed["tunnel"] is True
    # What is asked of the sandbox goes to the process that has the tunnel.
    newer.send_text(b'{"type": "setup.status", "revision": 7}')
    await two.until(lambda: setup_status(two) == 200)
    newer.abort()
    await two.until(lambda: setup_status(two) == 409)


ENDPOINT = {
    "clientId": "agent",
    "setup": {"env": {}, "files": []},
    "processes": [],
    "endpoints": [
        {"endpointKey": "ws", "transport": {"type": "ws", "url": "ws://127.0.0.1:4500/"}, "connectionMode": "shared"}
    ],
}
UPGRADE = b"Connection: Upgrade\r\nUpgrade: websocket\r\n"


async def test_an_endpoint_is_reached_through_the_process_with_the_tunnel(two: Several, clock: Clock) -> None:
    document = seal(plan_document(ROUTES, revision=2, runtimeClients=[ENDPOINT]))
    assert (await two.ask("PUT", f"/v1/sandboxes/{SANDBOX}/plan", document))[0] == 200
    tunnel, _ = await two.tunnel(clock, two.gateway.mint_token("sallyport-tunnel"))
    await two.until(lambda: setup_status(two) == 404)  # the parent knows of the tunnel
    caller = await RawEnd.dial(two.gateway.admin_port)
    target = f"/v1/sandboxes/{SANDBOX}/endpoints/agent/ws?from=caller"
    caller.send(f"GET {target} HTTP/1.1\r\nHost: localhost\r\nSec-WebSocket-Key: k\r\n".encode() + UPGRADE + b"\r\n")
    await until(lambda: bool(tunnel.opened))
    (inside,) = tunnel.opened
    assert (await inside.head()).startswith(b"CONNECT endpoint/agent/ws HTTP/1.1\r\n")
    inside.send(b"HTTP/1.1 200 OK\r\n\r\n")
    asked = await inside.head()
    assert asked.startswith(b"GET /?from=caller HTTP/1.1\r\n")
    assert b"Sec-WebSocket-Key: k\r\n" in asked
    inside.send(b"HTTP/1.1 101 Switching Protocols\r\n" + UPGRADE + b"Sec-WebSocket-Accept: a\r\n\r\nearly")
    head = await caller.head()
    assert head.startswith(b"HTTP/1.1 101 ")
    assert b"Sec-WebSocket-Accept: a\r\n" in head
    assert await caller.exactly(5) == b"early"
    caller.send(b"up\x00\xff" * 20_000)
    assert await inside.exactly(80_000) == b"up\x00\xff" * 20_000
    inside.send(b"down")
    assert await caller.exactly(4) == b"down"
    inside.close()
    assert await caller.rest() == b""
    caller.close()


async def test_a_recording_holds_the_flows_of_both(two: Several) -> None:
    found = await two.clients_of_both(DENIED)
    recording = asyncio.create_task(asyncio.to_thread(recorded, two.gateway.admin_port, RECORDED_SECONDS))  # noqa: TID251
    await two.until(lambda: len(two.said("recording_began")) % 2 == 0 and bool(two.said("recording_began")))
    for client in [each[0] for each in found.values()] * 5:
        assert (await two.get(client, URL)).status == 200
    begin, *lines, end = await recording
    exchanges = [line for line in lines if line["kind"] == "exchange"]
    assert (begin["kind"], end) == ("recording", {"kind": "end", "recorded": 10, "dropped": 0})
    assert [line["number"] for line in exchanges] == list(range(1, 11))
    assert {line["requestId"].rpartition("_")[0] for line in exchanges} == set(found)


async def test_metrics_are_those_of_one_gateway(two: Several) -> None:
    text = two.gateway.metrics()
    metrics = Metrics(text)
    assert metrics.total("sallyport_plans_active") == 1
    assert metrics.total("sallyport_request_duration_seconds_count") == metrics.total("sallyport_requests_total")
    # A moment, not a sum of moments.
    assert 1.6e9 < metrics.total("process_start_time_seconds") < 4e9
    assert text.count("# TYPE sallyport_requests_total counter") == 1


async def test_a_drain_loses_no_request(tmp_path: Path, origin: LoadOrigin) -> None:
    with gateway_process(tmp_path, setting(origin)) as gateway, contextlib.closing(Several(gateway)) as two:
        found = await two.clients_of_both(DENIED)
        clients = [client for each in found.values() for client in each]
        origin.gate.clear()
        for client in clients:
            client.send(two.request(URL + "slow"))
        await until(lambda: origin.waiting == len(clients))
        gateway.process.send_signal(signal.SIGTERM)
        await two.until(lambda: len(two.said("draining")) == 3)
        assert (await two.ask("GET", "/readyz"))[1]["reasons"] == ["draining"]
        await two.until_refused()
        origin.gate._loop.call_soon_threadsafe(origin.gate.set)  # type: ignore[attr-defined]  # the origin's thread
        assert [(await client.answer()).status for client in clients] == [200] * len(clients)
        assert await asyncio.to_thread(gateway.wait) == 0
        assert not alive(two)
        assert [each["status"] for each in two.said("serving_process_gone")] == [0, 0]


async def test_processes_end_with_their_parent(tmp_path: Path, origin: LoadOrigin) -> None:
    with gateway_process(tmp_path, setting(origin)) as gateway, contextlib.closing(Several(gateway)) as two:
        os.kill(gateway.process.pid, signal.SIGKILL)
        await two.until(lambda: not alive(two))


async def test_under_a_control_plane_it_is_one_gateway(tmp_path: Path, origin: LoadOrigin, clock: Clock) -> None:
    async with fake_control() as control:
        control.keys = [{**signing_jwk(), "use": "sig"}]
        control.credentials["con_one"] = {"kind": "value", "value": SECRET, "version": "1"}
        await control.publish(plan(ROUTES))
        token = tmp_path / "token"
        token.write_text(signed_token("sallyport-control", ttl_seconds=3600))
        control.tokens = {token.read_text()}
        settings = {
            "url": control.url,
            "token_file": str(token),
            "gateway_id": "gw_two",
            "state_dir": str(tmp_path / "state"),
        }
        async with controlled(tmp_path, settings, {"api.test:80": origin.port}) as two:
            await two.until(two.is_ready)
            two.gateway.token = proxy_token()
            # A plan is fetched when it is first asked for, once for both.
            clients = [await two.client() for _ in range(10)]
            assert await statuses(two, clients, URL) == [200] * 10
            found = await two.clients_of_both(DENIED)
            assert control.count(f"/internal/sandboxes/{SANDBOX}/plan") == 1
            assert (control.count("/internal/plans/watch"), control.count("/.well-known/jwks.json")) == (1, 1)
            # The time left of its token is not that of each process added.
            assert 3000 < two.gateway.metric("sallyport_expiry_seconds", of="service_token") <= 3600
            # Its tunnel, and its lease.
            tunnel, _ = await two.tunnel(clock, signed_token("sallyport-tunnel"))
            lease = "/internal/gateways/gw_two/lease"

            def held() -> object:
                return [each["sandboxes"] for each in control.bodies(lease)][-1:]

            await until(lambda: bool(held()) and "'tunnel': True" in str(held()))
            assert {asked for _, asked, _ in control.asked if asked.endswith("/lease")} == {lease}
            assert len({body["epoch"] for body in control.bodies(lease)}) == 1
            # What it is told reaches both.
            await control.publish(plan(OTHER, revision=2))
            await two.until(lambda: len(two.said("plan_applied", revision=2)) == 3)
            for each in found.values():
                assert await statuses(two, each, URL) == [403] * len(each)
            status, problem = await two.ask("PUT", f"/v1/sandboxes/{SANDBOX}/plan", plan(ROUTES, revision=3))
            assert (status, problem["code"]) == (409, "plan_conflict")
            await control.revoke("sandbox", SANDBOX, UNTIL)
            for each in found.values():
                for client in each:
                    assert await client.gone() == b""
            assert await tunnel.ended() is not None
            assert two.gateway.metric("sallyport_control_watch_connected") == 1


def test_what_is_wrong_is_told_once(tmp_path: Path, origin: LoadOrigin) -> None:
    wrong = Setting(plan=b"{}", workers=2)
    with pytest.raises(AssertionError) as failure, gateway_process(tmp_path, wrong):
        pass
    assert str(failure.value).count("plan.json") >= 1
    assert "serving_process" not in str(failure.value)
