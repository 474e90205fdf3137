"""Where a browser comes back to: a page that repeats nothing that came with the request."""

from urllib.parse import urlencode

import httpx
import pytest

from control_plane.authorizations import OAUTH_CALLBACK, REDIRECT_CALLBACK
from tests.support.authorization_server import AuthorizationServer
from tests.support.control_plane import ORGANIZATION, Replica
from tests.support.oauth_stage import VARIANT, browse

PATH = f"/v1/integration/connections/{VARIANT}"
EVIL = "<script>alert(1)</script>"


async def get(api: Replica, path: str, query: str) -> httpx.Response:
    """Ask as a browser does: without a token."""
    url = f"http://127.0.0.1:{api.plane.port}{path}?{query}"
    async with httpx.AsyncClient(trust_env=False) as browser:
        answer = await browser.get(url)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert EVIL not in answer.text
    return answer


async def test_a_browser_comes_back_with_a_code(connecting: Replica, provider: AuthorizationServer) -> None:
    body = {"organizationId": ORGANIZATION, "displayName": EVIL}
    started = await connecting.ask("POST", f"{PATH}/oauth2/start", body)
    back = await browse(provider, started["authorizationUrl"])
    query = urlencode(back | {"iss": provider.url, "session_state": EVIL})
    answer = await get(connecting, OAUTH_CALLBACK, query)
    assert answer.status_code == 200, answer.text
    assert "is connected to acme-default" in answer.text
    again = await get(connecting, OAUTH_CALLBACK, query)
    assert (again.status_code, back["code"] in again.text) == (409, False)
    [made] = (await connecting.ask("GET", "/v1/integration/connections"))["items"]
    assert (made["displayName"], made["status"]) == (EVIL, "active")


async def test_a_browser_comes_back_without(connecting: Replica, provider: AuthorizationServer) -> None:
    provider.denies = True
    started = await connecting.ask("POST", f"{PATH}/oauth2/start", {"organizationId": ORGANIZATION})
    back = await browse(provider, started["authorizationUrl"])
    answer = await get(connecting, OAUTH_CALLBACK, urlencode(back))
    assert answer.status_code == 409
    assert "access_denied" in answer.text


async def test_a_browser_comes_back_from_an_installation(connecting: Replica) -> None:
    started = await connecting.ask("POST", f"{PATH}/redirect/start", {"organizationId": ORGANIZATION})
    query = urlencode({"custom_state": started["state"], "installation_id": "9", "setup_action": "install"})
    assert (await get(connecting, REDIRECT_CALLBACK, query)).status_code == 200
    [made] = (await connecting.ask("GET", "/v1/integration/connections"))["items"]
    assert made["config"] == {"installationId": "9"}


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("path", "query", "status"),
    [
        (OAUTH_CALLBACK, "", 409),
        (OAUTH_CALLBACK, urlencode({"state": EVIL, "code": EVIL}), 409),
        (OAUTH_CALLBACK, urlencode({"state": "x", "error": EVIL, "error_description": EVIL}), 409),
        (OAUTH_CALLBACK, "state=a&state=b&code=c", 400),
        (OAUTH_CALLBACK, "&".join(f"a{number}=1" for number in range(51)), 400),
        (REDIRECT_CALLBACK, urlencode({"installation_id": EVIL}), 409),
    ],
)
async def test_what_nobody_began(connecting: Replica, path: str, query: str, status: int) -> None:
    assert (await get(connecting, path, query)).status_code == status
