"""Denials as gateways tell them: put together, held to the sandbox and its organization; who has not told is said."""

import json
from collections.abc import AsyncIterator

import pytest

from control_plane import denials as denials_module
from tests.support.control_plane import SANDBOX, Replica
from tests.support.scripted_http import ScriptedHttp, scripted_http
from tests.support.told_denials import NAME, report_gateway, tell, told_denial

# Leases are tested on both.
pytestmark = pytest.mark.parametrize("url", ["sqlite"], indirect=True)
PATH = f"/v1/sandboxes/{SANDBOX}/denials"


@pytest.fixture
async def gateway(api: Replica) -> AsyncIterator[ScriptedHttp]:
    await api.prepare(plan=False)
    with scripted_http() as gateway:
        await report_gateway(api, gateway.url)
        yield gateway


async def test_what_several_tell_is_one_list_and_one_cursor(api: Replica, gateway: ScriptedHttp) -> None:
    tell(gateway, [told_denial("/1"), told_denial("/3", time="2026-11-29T04:00:02.000Z")], 7)
    with scripted_http() as second:
        tell(second, [told_denial("/2", time="2026-11-29T04:00:01.000Z")], 3, "11112222")
        await report_gateway(api, second.url, "gw_0", **{SANDBOX: 5})
        found = await api.ask("GET", PATH)
        assert [(each["path"], each["gatewayId"]) for each in found["items"]] == [
            ("/1", "gw_1"),
            ("/2", "gw_0"),
            ("/3", "gw_1"),
        ]
        # Who holds the sandbox is asked first.
        assert found["gateways"] == [{"id": "gw_0", "state": "asked"}, {"id": "gw_1", "state": "asked"}]
        assert found["nextCursor"] == f"11112222-3.{NAME}-7"
        assert [each["path"] for each in (await api.ask("GET", f"{PATH}?limit=1"))["items"]] == ["/3"]
        tell(second, [], 4, "11112222")
        later = await api.ask("GET", f"{PATH}?cursor={found['nextCursor']}")
        assert later["nextCursor"] == f"11112222-4.{NAME}-7"
        assert second.asked[-1].path == f"/v1/denials?sandboxId={SANDBOX}&limit=50&after=11112222-3.{NAME}-7"
        # In the clear, on this machine, no token is shown.
        assert {each.authorization for each in second.asked} == {None}


async def test_nothing_of_another_organization_or_sandbox_is_shown(api: Replica, gateway: ScriptedHttp) -> None:
    tell(gateway, [told_denial(organizationId="org_two"), told_denial(sandboxId="sbx_two"), told_denial("/mine")])
    assert [each["path"] for each in (await api.ask("GET", PATH))["items"]] == ["/mine"]


async def test_what_a_newer_gateway_adds_is_left_out(api: Replica, gateway: ScriptedHttp) -> None:
    tell(gateway, [told_denial(novel={"a": 1}, hint=None, status=None)])
    [item] = (await api.ask("GET", PATH))["items"]
    assert "novel" not in item
    assert "hint" not in item


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        (b"{}", 200, "answers what is no list of denials"),
        (b"nonsense", 200, "answers what is no list of denials"),
        (json.dumps({"items": [told_denial(time="now")], "next": "0a1b2c3d-1"}).encode(), 200, "answers what is no"),
        (json.dumps({"items": [], "next": "all"}).encode(), 200, "answers what is no list of denials"),
        (json.dumps({"items": [{"sandboxId": SANDBOX}], "next": "0a1b2c3d-1"}).encode(), 200, "answers what is no"),
        (b"{}", 302, "answers 302"),
        (b"{}", 404, "answers 404"),
        (b"x" * 3_000_000, 200, "answers more than 2097152 bytes"),
    ],
)
async def test_a_gateway_that_tells_something_else_is_away(
    api: Replica, gateway: ScriptedHttp, body: bytes, status: int, reason: str
) -> None:
    gateway.body, gateway.status = body, status
    found = await api.ask("GET", f"{PATH}?cursor={NAME}-9")
    [told] = found["gateways"]
    assert (told["state"], told["reason"][: len(reason)]) == ("away", reason)
    assert (found["items"], found["nextCursor"]) == ([], f"{NAME}-9")


async def test_gateways_that_cannot_be_asked_are_said(
    api: Replica, gateway: ScriptedHttp, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell(gateway, [told_denial()])
    addresses = {
        "gw_2": "http://127.0.0.1:1",
        "gw_3": "http://169.254.169.254:80",
        "gw_4": "http://gateways.example.com",
        "gw_5": f"http://127.0.0.1:{api.plane.port}",
    }
    for gateway_id, url in addresses.items():
        await report_gateway(api, url, gateway_id)
    found = await api.ask("GET", PATH)
    assert len(found["items"]) == 1
    told = {each["id"]: each.get("reason") for each in found["gateways"]}
    assert told.pop("gw_1") is None
    assert told["gw_3"] == told["gw_4"] == "has a URL that cannot be used: https is expected, or http on loopback"
    assert all(reason for reason in told.values())
    monkeypatch.setattr(denials_module, "MAX_GATEWAYS", 1)
    states = [each["state"] for each in (await api.ask("GET", PATH))["gateways"]]
    assert states == ["asked", "not_asked", "not_asked", "not_asked", "not_asked"]


async def test_without_gateways_nothing_is_known(api: Replica) -> None:
    await api.prepare(plan=False)
    assert await api.ask("GET", PATH) == {"items": [], "nextCursor": "", "gateways": []}
