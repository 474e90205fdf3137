"""A credential that is unfit, of a name like another's, or over (C4, C8, C10): a gateway process, by both ways."""

import asyncio
import json
import re
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from aiohttp import web

from sallyport.plan.codec import seal
from tests.support.controlled_gateway import RESOLVE, Controlled, controlled_gateway
from tests.support.egress_ways import WAYS, both_ways
from tests.support.fake_control import refusal
from tests.support.gateway_plans import plan, route
from tests.support.gateway_process import GatewayProcess, Setting, gateway_process
from tests.support.origin import recording_origin
from tests.support.plan_documents import Document, plan_document
from tests.support.raw_end import RawAnswer

pytestmark = pytest.mark.timeout(120)

# ---- C4: what would break a head

UNFIT = {
    "a line break": "a-secret-of-length\r\nX-Evil: 1",
    "a carriage return": "a-secret-of-length\rX-Evil: 1",
    "a line feed": "a-secret-of-length\nX-Evil: 1",
    "two line ends": "a-secret-of-length\n\n",
    "NUL": "a-secret\0-of-length",
    "beyond latin-1": "a-secret-\u20ac-of-length",
    "a space at its end": "a-secret-of-length ",
    "nothing": "",
}
CONNECTIONS = {f"con_unfit{number}": value for number, value in enumerate(UNFIT.values())}


def unfit_plan() -> bytes:
    routes = [
        route(f"r{number}", [f"unfit{number}.test"], connection_id, allowCleartext=True)
        for number, connection_id in enumerate(CONNECTIONS)
    ]
    return plan(routes)


def unfit_hosts() -> list[str]:
    return [f"unfit{number}.test" for number in range(len(CONNECTIONS))]


def check_refused(answer: RawAnswer) -> None:
    assert answer.status == 502, answer
    document = json.loads(answer.body)
    assert (document["code"], document["retryable"]) == ("credential_unavailable", False)
    assert b"a-secret" not in answer.head + answer.body
    assert b"X-Evil" not in answer.head + answer.body


def check_alert(gateway: GatewayProcess, asked: int) -> None:
    """The operator is told: a line of the log for each, and what the alert SallyportCredentialRefused looks at."""
    lines = gateway.told("credential_not_resolved", asked)
    assert {(line["code"], line["temporary"], line["level"]) for line in lines} == {
        ("credential_unusable", False, "warning")
    }
    assert {line["connection_id"] for line in lines} == set(CONNECTIONS)
    for line in lines:
        assert "a-secret" not in json.dumps(line)
    assert gateway.metric("sallyport_credential_resolutions_total", result="permanent") == asked


async def test_c4_a_secret_that_would_break_a_head_is_refused_and_told(tmp_path: Path) -> None:
    """Written down by the operator of a gateway that stands alone."""
    async with recording_origin() as origin:
        # A NUL cannot stand in a variable, and so all stand in files.
        setting = Setting(
            plan=unfit_plan(),
            credentials=CONNECTIONS,
            in_files=True,
            connect_to={f"{host}:80": f"127.0.0.1:{origin.port}" for host in unfit_hosts()},
        )
        process = gateway_process(tmp_path, setting)
        gateway = await asyncio.to_thread(process.__enter__)
        try:
            async with both_ways(gateway) as ways:
                for way in WAYS:
                    for host in unfit_hosts():
                        end = await ways[way].plain(f"GET http://{host}/x HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
                        check_refused(await end.answer())
            await asyncio.to_thread(check_alert, gateway, len(CONNECTIONS))
            # Each is told when it starts, before anybody asks.
            await asyncio.to_thread(gateway.told, "credential_not_readable", len(CONNECTIONS))
        finally:
            await asyncio.to_thread(process.__exit__, None, None, None)
        assert origin.links == []


async def test_c4_a_secret_of_the_control_plane_that_would_break_a_head_is_refused_and_told(tmp_path: Path) -> None:
    async with controlled_gateway(tmp_path, [unfit_plan()], unfit_hosts()) as scene:
        for connection_id, value in CONNECTIONS.items():
            scene.control.credentials[connection_id] = {"kind": "value", "value": value, "version": "1"}
        for way in WAYS:
            for host in unfit_hosts():
                check_refused(await scene.ask(way, host))
        await asyncio.to_thread(check_alert, scene.gateway, len(CONNECTIONS))
        assert scene.origin.links == []


# ---- C8: names that are alike once they are joined

# Binding, connection, secret type, slot: each pair is one text when its parts are joined by some separator.
ALIKE: list[tuple[str, str, str, str | None]] = [
    ("bnd_a", "con_b_con_c", "key", None),
    ("bnd_a_con_b", "con_c", "key", None),
    ("bnd_a", "con_b-con_c", "key", None),
    ("bnd_a-con_b", "con_c", "key", None),
    *(("bnd_a", "con_a", f"k{mark}l", "m") for mark in "._:-"),
    *(("bnd_a", "con_a", "k", f"l{mark}m") for mark in "._:-"),
    ("bnd_a", "con_a", "kl", "m"),
    ("bnd_a", "con_a", "k", "lm"),
    ("bnd_a", "con_a", "k", None),
    ("bnd_a", "con_a", "k", "None"),
]
# Organization and sandbox likewise; they call all else alike.
OWNERS = [
    ("org", "sbx_a_sbx_b"),
    ("org_sbx_a", "sbx_b"),
    ("org", "sbx_a-sbx_b"),
    ("org-sbx_a", "sbx_b"),
]


def alike_plan(sandbox_id: str, organization_id: str) -> bytes:
    routes = [alike_route(number, *names) for number, names in enumerate(ALIKE)]
    return seal(plan_document(routes, default="deny", sandboxId=sandbox_id, organizationId=organization_id))


def alike_route(number: int, binding_id: str, connection_id: str, secret_type: str, slot_key: str | None) -> Document:
    resolver = {"kind": "integration_connection", "connectionId": connection_id, "secretType": secret_type}
    slot = {} if slot_key is None else {"slotKey": slot_key}
    return route(
        f"r{number}",
        [f"alike{number}.test"],
        connection_id,
        bindingId=binding_id,
        allowCleartext=True,
        credentialResolver=resolver | slot,
    )


async def named_by_its_question(request: web.Request) -> web.StreamResponse:
    """Give a credential that says what it was asked for."""
    asked = await request.json()
    value = "/".join(str(asked.get(name)) for name in QUESTION)
    return web.json_response({"kind": "value", "value": value, "version": "1"})


QUESTION = ("sandboxId", "bindingId", "connectionId", "secretType", "slotKey")


@pytest.mark.parametrize("way", WAYS)
async def test_c8_names_that_are_alike_once_joined_are_different_credentials(tmp_path: Path, way: str) -> None:
    hosts = [f"alike{number}.test" for number in range(len(ALIKE))]
    # A sandbox has one organization: sbx_b is of the second of these, then of the fourth.
    first, later = OWNERS[:3], OWNERS[3:]
    plans = [alike_plan(sandbox_id, organization_id) for organization_id, sandbox_id in first]
    async with controlled_gateway(tmp_path, plans, hosts) as scene:
        scene.control.misbehave(RESOLVE, *[named_by_its_question] * (len(ALIKE) * len(OWNERS)))
        for organization_id, sandbox_id in first:
            await check_alike(scene, way, sandbox_id, organization_id)
        for organization_id, sandbox_id in first:
            await check_alike(scene, way, sandbox_id, organization_id)  # from the cache now
        assert scene.control.count(RESOLVE) == len(ALIKE) * len(first)
        for organization_id, sandbox_id in later:
            await scene.control.remove(sandbox_id)
            await scene.control.publish(alike_plan(sandbox_id, organization_id))
            async with asyncio.timeout(10):
                while await asyncio.to_thread(is_of_another, scene.gateway, sandbox_id, organization_id):
                    pass
            await check_alike(scene, way, sandbox_id, organization_id)
        assert scene.control.count(RESOLVE) == len(ALIKE) * len(OWNERS)


def is_of_another(gateway: GatewayProcess, sandbox_id: str, organization_id: str) -> bool:
    """Whether it has not heard yet; the plan itself it fetches when somebody asks."""
    status, plan = gateway.ask_admin("GET", f"/v1/sandboxes/{sandbox_id}/plan")
    return status == 200 and json.loads(plan)["organizationId"] != organization_id


async def check_alike(scene: Controlled, way: str, sandbox_id: str, organization_id: str) -> None:
    for number, (binding_id, connection_id, secret_type, slot_key) in enumerate(ALIKE):
        before = scene.injected()
        answer = await scene.ask(way, f"alike{number}.test", sandbox_id, organization_id)
        assert answer.status == 200, answer
        expected = f"{sandbox_id}/{binding_id}/{connection_id}/{secret_type}/{slot_key}"
        assert scene.injected() - before == Counter([expected])


# ---- C10: what ends

HOST = "api.test"
PLAN = plan([route("r", [HOST], "con_one", allowCleartext=True)])


def now() -> int:
    return time.time_ns() // 10**9


def given(value: str, **further: object) -> Document:
    return {"kind": "value", "value": value, "version": value, **further}


@pytest.mark.parametrize("way", WAYS)
async def test_c10_a_credential_that_has_ended_is_used_no_more(tmp_path: Path, way: str) -> None:
    """It is asked for again; while that fails nothing is sent, and the one that comes then is used."""
    async with controlled_gateway(tmp_path, [PLAN], [HOST]) as scene:
        ends_at = now() + 4
        scene.control.credentials["con_one"] = given("first-credential", expiresAt=ends_at)
        assert (await scene.ask(way, HOST)).status == 200
        scene.control.misbehave(RESOLVE, *[refusal(503, "refresh_failed_temporary")] * 1000)
        async with asyncio.timeout(30):
            while True:
                begun_at = time.time_ns() / 1e9
                answer = await scene.ask(way, HOST)
                if answer.status != 200:
                    break
                assert begun_at < ends_at + 1, "it was used after its end"  # the gateway's clock is coarse
                await asyncio.sleep(0.02)
        assert time.time_ns() / 1e9 > ends_at - 1, "it serves to its end, though asking for another fails"
        assert (answer.status, json.loads(answer.body)["code"]) == (503, "credential_temporarily_unavailable")
        assert re.fullmatch(r"[1-9]\d*", answer.value("Retry-After"))
        sent = scene.injected()
        assert list(sent) == ["first-credential"]
        assert (await scene.ask(way, HOST)).status == 503
        assert scene.injected() == sent, "nothing is sent without it"
        scene.control.behave(RESOLVE)
        scene.control.credentials["con_one"] = given("second-credential", expiresAt=now() + 3600)
        async with asyncio.timeout(30):
            # A refusal is remembered for a moment.
            while (await scene.ask(way, HOST)).status != 200:  # noqa: ASYNC110  it is another process
                await asyncio.sleep(0.02)
        assert scene.injected() - sent == Counter(["second-credential"])


@pytest.mark.parametrize("way", WAYS)
async def test_c10_a_credential_without_an_end_is_asked_for_once(tmp_path: Path, way: str) -> None:
    async with controlled_gateway(tmp_path, [PLAN], [HOST]) as scene:
        scene.control.credentials["con_one"] = given("credential-without-end")
        for _ in range(5):
            assert (await scene.ask(way, HOST)).status == 200
        assert scene.injected() == Counter({"credential-without-end": 5})
        assert scene.control.count(RESOLVE) == 1


SKEWED: dict[str, Callable[[], object]] = {
    "an hour ago": lambda: now() - 3600,
    "just now": now,
    "in milliseconds": lambda: now() * 1000 + 3_600_000,
    "as text": lambda: str(now() + 3600),
    "a fraction": lambda: now() + 3600.5,
}


@pytest.mark.parametrize("way", WAYS)
async def test_c10_an_end_of_another_clock_is_no_credential(tmp_path: Path, way: str) -> None:
    names = list(SKEWED)
    hosts = [f"skewed{number}.test" for number in range(len(names))]
    routes = [route(f"r{number}", [host], f"con_{number}", allowCleartext=True) for number, host in enumerate(hosts)]
    async with controlled_gateway(tmp_path, [plan(routes)], hosts) as scene:
        for number, name in enumerate(names):
            scene.control.credentials[f"con_{number}"] = given("skewed-credential", expiresAt=SKEWED[name]())
        for host in hosts:
            answer = await scene.ask(way, host)
            assert (answer.status, json.loads(answer.body)["code"]) == (503, "credential_temporarily_unavailable"), host
        assert scene.origin.links == []
