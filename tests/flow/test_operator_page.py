"""The operator page in a real browser: from the login to the explanation of a request. One page has a script."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.browser import Browser, browser, missing_programs
from tests.support.control_plane import (
    KEYS_TAKEN,
    LEASE_TAKEN,
    ORGANIZATION,
    SANDBOX,
    Replica,
    replica,
    sealed_plan,
    settings,
)
from tests.support.in_process import GatewayInProcess, in_process_gateway
from tests.support.page_visitor import page_key
from tests.support.plan_documents import route_document
from tests.support.until import until

MISSING = missing_programs()
HOSTILE = "Agents <script>document.title='gone'</script>"

pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(bool(MISSING), reason=f"{', '.join(MISSING)} missing: apt-get install chromium chromium-driver"),
]


async def test_from_login_to_explanation(tmp_path: Path) -> None:
    async with replica(settings(tmp_path / "data", None)) as api:
        named = {"organizationId": ORGANIZATION, "displayName": HOSTILE}
        profile = await api.ask("POST", "/v1/sandbox/profiles", named, status=201)
        versions = f"/v1/sandbox/profiles/{profile['sandboxProfileId']}/versions"
        await api.ask("POST", versions, {}, status=201)
        key = await page_key(api, "operator")
        # The browser is asked on a thread: the control plane answers it on this loop.
        await asyncio.to_thread(_walk, api, key, tmp_path / "profile")
        [binding] = (await api.ask("GET", f"{versions}/1/integration-bindings"))["bindings"]
        assert binding["kind"] == "agent"


async def test_what_a_sandbox_and_its_organization_need_is_made_on_the_page(tmp_path: Path) -> None:
    async with replica(settings(tmp_path / "data", None)) as api:
        key = await page_key(api, "operator")
        await asyncio.to_thread(_make, api, key, tmp_path / "profile")
        [profile] = (await api.ask("GET", "/v1/sandbox/profiles"))["items"]
        assert (profile["displayName"], profile["organizationId"], profile["latestVersion"]) == (HOSTILE, "org_new", 2)
        sandboxes = (await api.ask("GET", "/v1/sandboxes"))["items"]
        assert {(each["organizationId"], each.get("version")) for each in sandboxes} == {
            ("org_new", 2),
            ("org_new", None),
        }


async def test_denials_come_in_while_the_page_is_open(tmp_path: Path) -> None:
    async with replica(settings(tmp_path / "data", None)) as api:
        named = {"organizationId": ORGANIZATION}
        profile = (await api.ask("POST", "/v1/sandbox/profiles", named, status=201))["sandboxProfileId"]
        await api.ask("POST", f"/v1/sandbox/profiles/{profile}/versions", {}, status=201)
        of_profile = {"sandboxId": SANDBOX, "sandboxProfileId": profile, "version": 1}
        await api.ask("POST", "/v1/sandboxes", named | of_profile, status=201)
        await api.connect()
        match = {"hosts": ["api.test"], "pathPrefixes": ["/v1"]}
        plan = sealed_plan(2, routes=[route_document(match=match, allowCleartext=True)], default="deny")
        await api.ask("POST", f"/v1/sandboxes/{SANDBOX}/plans", content=plan, status=201)
        key = await page_key(api, "member", ORGANIZATION)
        async with in_process_gateway(tmp_path, control=api.followed_by(tmp_path)) as gateway:
            gateway.token = await api.mint("proxy")
            await until(lambda: gateway.metric(LEASE_TAKEN) >= 1 and gateway.metric(KEYS_TAKEN) == 1)
            loop = asyncio.get_running_loop()

            def deny(target: str) -> None:
                asyncio.run_coroutine_threadsafe(_denied(gateway, target), loop).result(10)

            await asyncio.to_thread(_watch, api, key, tmp_path / "profile", deny)


async def _denied(gateway: GatewayInProcess, target: str) -> None:
    client = await gateway.client()
    client.send(gateway.request(target))
    assert (await client.answer()).status == 403


def _watch(api: Replica, key: str, folder: Path, deny: Callable[[str], None]) -> None:
    with browser(folder) as window:
        window.open(f"http://127.0.0.1:{api.plane.port}/page")
        window.write("#key", key)
        window.press("Log in")
        window.follow("Sandboxes")
        window.follow(SANDBOX)
        window.follow("Denials")
        assert "Nothing was denied lately" in window.text
        window.await_text("live")
        deny("http://api.test/v2/models?key=secret")
        window.await_text("/v2/models")
        assert "Nothing was denied lately" not in window.text
        assert "path is not /v1" in window.text
        assert "secret" not in window.text
        deny("http://elsewhere.test/<script>document.title='gone'</script>")
        window.await_text("elsewhere.test")
        assert window.text.index("elsewhere.test") < window.text.index("/v2/models")  # the newest first
        assert not [each for each in window.complaints() if "Content Security Policy" in each]
        window.open(window.url)  # and what came while it was open is there when it is made anew
        assert "/v2/models" in window.text
        window.follow("Explain")
        assert "elsewhere.test" in window.text


def _make(api: Replica, key: str, folder: Path) -> None:
    with browser(folder) as window:
        window.open(f"http://127.0.0.1:{api.plane.port}/page")
        window.write("#key", key)
        window.press("Log in")
        _make_profile(window)
        _make_version(window)
        _make_sandbox(window)
        _make_key(window)
        assert not [each for each in window.complaints() if "Content Security Policy" in each]


def _make_profile(window: Browser) -> None:
    window.follow("Profiles")
    assert "There is no profile yet." in window.text
    window.write("[name='displayName']", HOSTILE)
    window.press("Make")
    assert window.value("[name='displayName']") == HOSTILE  # what was typed is still there
    assert window.faulty == ["organizationId"]
    window.write("[name='organizationId']", "org_new")
    window.press("Make")
    assert window.url.endswith("/versions/1")
    assert "Nothing is bound" in window.text


def _make_version(window: Browser) -> None:
    window.write("#egress", '{"default": "perhaps"}')
    window.press("Make")
    assert window.faulty == ["egress"]
    assert window.value("#egress") == '{"default": "perhaps"}'
    window.write("#egress", '{"default": "deny", "managedPassthrough": "deny", "rules": []}')
    window.press("Make")
    assert window.url.partition("?")[0].endswith("/versions/2")
    window.press("Make a sandbox of this version")
    assert "/page/sandboxes/sbx_" in window.url


def _make_sandbox(window: Browser) -> None:
    window.follow("Sandboxes")
    window.write("[name='organizationId']", "org_new")
    window.write("[name='sandboxId']", "sbx_by_hand")
    window.write("[name='version']", "newest")
    window.press("Make")
    assert window.faulty == ["version"]
    window.write("[name='version']", "")
    window.press("Make")
    assert "sbx_by_hand" in window.text


def _make_key(window: Browser) -> None:
    window.follow("API keys")
    window.choose("role", "member")
    window.write("[name='organizationId']", "org_new")
    window.write("[name='displayName']", "Of the new ones")
    window.write("[name='days']", "soon")
    window.press("Make")
    assert window.faulty == ["days"]
    window.write("[name='days']", "30")
    window.press("Make")
    assert "sp_ak_" in window.text
    window.follow("All keys")
    assert "Of the new ones" in window.text
    assert "sp_ak_" not in window.text
    window.press("End", row="Of the new ones")
    assert "ended" in window.text


def _walk(api: Replica, key: str, folder: Path) -> None:
    with browser(folder) as window:
        window.open(f"http://127.0.0.1:{api.plane.port}/page")
        window.write("#key", "sp_ak_nobody's")
        window.press("Log in")
        assert "not accepted" in window.text
        window.write("#key", key)
        window.press("Log in")
        cookie = window.cookie("sallyport_page")
        assert (cookie["httpOnly"], cookie["sameSite"], cookie["path"]) == (True, "Strict", "/page")
        _edit_target(window)
        _connect(window)
        _bind(window)
        _explain(window)
        window.press("Log out")
        assert window.url.endswith("/page/login")
        assert not [each for each in window.complaints() if "Content Security Policy" in each]


def _edit_target(window: Browser) -> None:
    window.follow("OpenAI")
    window.write("[name='displayName']", "Our OpenAI")
    window.write("[name='config.baseUrl']", "no URL")
    window.press("Save")
    assert "nothing changed" in window.text
    window.write("[name='config.baseUrl']", "")
    window.press("Save")
    assert "Saved." in window.text
    assert "Our OpenAI" in window.text


def _connect(window: Browser) -> None:
    window.follow("Connect")
    window.write("[name='organizationId']", ORGANIZATION)
    window.write("[name='displayName']", "Team key")
    window.write("[name='secret.api_key']", "sk-proj-" + "a" * 40)
    window.press("Connect")
    assert "Connected." in window.text
    assert "No gateway has asked" in window.text


def _bind(window: Browser) -> None:
    window.follow("Profiles")
    window.follow(HOSTILE)
    window.choose("connection", "Team key")
    window.press("Add")
    window.write("[name='config.0.version']", "newest")
    window.press("Save all bindings")
    assert "A binding does not fit" in window.text
    window.write("[name='config.0.version']", "")
    window.press("Save all bindings")
    assert "Saved." in window.text


def _explain(window: Browser) -> None:
    window.follow("Plan")
    assert "api.openai.com" in window.text
    window.follow("Explain")
    window.write("#url", "https://api.openai.com/v1/models")
    window.press("Explain")
    assert "claims this" in window.text
    window.follow("Compare")
    window.write("#other", "1")
    window.press("Compare")
    assert "answered alike" in window.text
