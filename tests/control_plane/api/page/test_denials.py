"""Denials on the page: as a list without a script, as events with one, and nothing a sandbox wrote is markup."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest

from control_plane.api.page import denials
from tests.support.control_plane import ORGANIZATION, SANDBOX, Replica, sealed_plan
from tests.support.page_visitor import PageVisitor, page_visitor
from tests.support.scripted_http import ScriptedHttp, scripted_http
from tests.support.told_denials import NAME, report_gateway, tell, told_denial

pytestmark = pytest.mark.parametrize("url", ["sqlite"], indirect=True)

PATH = f"/sandboxes/{SANDBOX}/denials"


@pytest.fixture
async def gateway(api: Replica, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ScriptedHttp]:
    monkeypatch.setattr(denials, "LOOK_SECONDS", 0.02)
    profile = await api.ask("POST", "/v1/sandbox/profiles", {"organizationId": ORGANIZATION}, status=201)
    profile_id = profile["sandboxProfileId"]
    await api.ask("POST", f"/v1/sandbox/profiles/{profile_id}/versions", {}, status=201)
    named = {"organizationId": ORGANIZATION, "sandboxId": SANDBOX, "sandboxProfileId": profile_id, "version": 1}
    await api.ask("POST", "/v1/sandboxes", named, status=201)
    await api.connect()
    await api.ask("POST", f"/v1/sandboxes/{SANDBOX}/plans", content=sealed_plan(), status=201)
    with scripted_http() as gateway:
        await report_gateway(api, gateway.url)
        tell(gateway, [])
        yield gateway


async def events(visitor: PageVisitor, number: int, **headers: str) -> list[dict[str, str]]:
    """Return the first events of the stream that the page names."""
    found = re.search(r'data-stream="([^"]+)"', await visitor.see(PATH))
    assert found is not None
    stream = found[1].replace("&amp;", "&")
    events: list[dict[str, str]] = []
    fields: dict[str, str] = {}
    async with asyncio.timeout(10), visitor.client.stream("GET", stream, headers=headers) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        async for line in answer.aiter_lines():
            name, _, value = line.partition(": ")
            if line:
                fields[name] = value
            elif "event" in fields:
                events.append(fields)
                fields = {}
                if len(events) == number:
                    return events
    raise AssertionError("it has ended")


async def test_a_list_without_a_script(api: Replica, gateway: ScriptedHttp) -> None:
    async with page_visitor(api, "member", ORGANIZATION) as member:
        assert "Nothing was denied lately" in await member.see(PATH)
        hostile = "<img src=x onerror=alert(1)>"
        tell(gateway, [told_denial("/1"), told_denial(f"/{hostile}", method=hostile, detail=hostile, retryable=True)])
        page = await member.see(PATH)
        assert hostile not in page
        assert page.index("&lt;img") < page.index("/1</code>")  # the newest first
        assert "path is not /v1" in page
        assert "may pass by itself" in page
        assert "Nothing was denied lately" not in page
        assert re.search(r'/versions/1/explain\?method=GET&amp;url=https%3A%2F%2Fapi.example.com%3A443%2F1"', page)
        assert "#bnd_one" in page


async def test_only_this_page_may_run_our_script(api: Replica, gateway: ScriptedHttp) -> None:
    async with page_visitor(api, "operator") as operator:
        live = (await operator.client.get(f"/page{PATH}")).headers["content-security-policy"]
        still = (await operator.client.get(f"/page/sandboxes/{SANDBOX}")).headers["content-security-policy"]
        assert "script-src 'self'" in live
        assert "unsafe" not in live
        assert "script" not in still
        script = await operator.client.get("/page/live.js")
        assert (script.status_code, script.headers["content-type"]) == (200, "text/javascript; charset=utf-8")


@pytest.mark.parametrize(
    ("members", "explained"),
    [
        ({"method": "CONNECT", "path": None}, "method=GET&amp;url=https%3A%2F%2Fapi.example.com%3A443%2F"),
        ({"host": "2001:db8::1"}, "url=https%3A%2F%2F%5B2001%3Adb8%3A%3A1%5D%3A443%2Fv2"),
        ({"path": "/cut…"}, None),
        ({"host": None, "scheme": None, "port": None}, None),
        ({"path": "no path"}, None),
    ],
)
async def test_what_is_known_whole_is_explained(
    api: Replica, gateway: ScriptedHttp, members: dict[str, Any], explained: str | None
) -> None:
    async with page_visitor(api, "operator") as operator:
        tell(gateway, [told_denial(**members)])
        page = await operator.see(PATH)
        assert (explained in page) if explained else ("/explain?" not in page)


async def test_what_comes_is_told_with_where_to_go_on(api: Replica, gateway: ScriptedHttp) -> None:
    async with page_visitor(api, "operator") as operator:
        tell(gateway, [told_denial("/<b>")], 4)
        first, second = await events(operator, 2)
        told = json.loads(first["data"])
        assert (first["event"], first["id"]) == ("denials", f"{NAME}-4")
        assert "/&lt;b&gt;" in told["rows"]
        assert told["gateways"].strip() == ""
        assert second["event"] == "denials"
        await events(operator, 1, **{"Last-Event-ID": f"{NAME}-9"})
        assert any(f"after={NAME}-9" in each.path for each in gateway.asked)


async def test_a_gateway_that_goes_is_told(api: Replica, gateway: ScriptedHttp) -> None:
    async with page_visitor(api, "operator") as operator:
        gateway.status = 500
        assert "Not all gateways have told" in await operator.see(PATH)
        [event] = await events(operator, 1)
        assert "answers 500" in json.loads(event["data"])["gateways"]


async def test_the_stream_ends_with_the_session_and_is_one_of_few(
    api: Replica, gateway: ScriptedHttp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(denials, "QUIET_LOOKS", 1)
    monkeypatch.setattr(denials, "MAX_STREAMS", 1)
    async with page_visitor(api, "operator") as operator, page_visitor(api, "operator") as second:
        async with operator.client.stream("GET", f"/page{PATH}/stream") as answer, asyncio.timeout(10):
            lines = answer.aiter_lines()
            while (await anext(lines)) != ": heartbeat":
                pass
            refused = await second.client.get(f"/page{PATH}/stream")
            assert refused.status_code == 503
            await operator.send("/logout", {})
            async for _ in lines:
                pass
        assert (await operator.client.get(f"/page{PATH}/stream")).status_code == 303
        async with second.client.stream("GET", f"/page{PATH}/stream") as answer:
            assert answer.status_code == 200


async def test_a_sandbox_of_another_organization_has_no_page(api: Replica, gateway: ScriptedHttp) -> None:
    async with page_visitor(api, "member", "org_two") as stranger:
        await stranger.see(PATH, status=404)
        await stranger.see(f"{PATH}/stream", status=404)
        assert gateway.asked == []


async def test_a_sandbox_without_profile_or_plan_has_its_list(api: Replica) -> None:
    await api.prepare(plan=False)
    with scripted_http() as gateway:
        tell(gateway, [told_denial(code="plan_unavailable", nearest=None, retryable=True)])
        async with page_visitor(api, "operator") as operator:
            assert "No gateway reports" in await operator.see(PATH)
            await report_gateway(api, gateway.url)
            page = await operator.see(PATH)
            assert "plan_unavailable" in page
            assert "Explain" not in page


async def test_the_stream_ends_where_the_sandbox_does(api: Replica, gateway: ScriptedHttp) -> None:
    async with (
        page_visitor(api, "operator") as operator,
        operator.client.stream("GET", f"/page{PATH}/stream") as answer,
        asyncio.timeout(10),
    ):
        await api.ask("DELETE", f"/v1/sandboxes/{SANDBOX}", status=204)
        async for _ in answer.aiter_lines():
            pass
