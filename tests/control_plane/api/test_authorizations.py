"""The way to a provider and back, over HTTP."""

import pytest

from tests.support.authorization_server import INSTALLATION, AuthorizationServer
from tests.support.control_plane import ORGANIZATION, Replica
from tests.support.oauth_stage import VARIANT, browse

PATH = f"/v1/integration/connections/{VARIANT}"


async def test_a_code_by_api(connecting: Replica, provider: AuthorizationServer) -> None:
    body = {"organizationId": ORGANIZATION, "config": {"scopes": ["read"]}, "displayName": "Ours"}
    started = await connecting.ask("POST", f"{PATH}/oauth2/start", body)
    back = await browse(provider, started["authorizationUrl"])
    given = {"organizationId": ORGANIZATION, "state": back["state"], "code": back["code"]}
    made = await connecting.ask("POST", f"{PATH}/oauth2/complete", given)
    assert (made["status"], made["config"]) == ("active", {"scopes": ["read"], "workspace": "ws_1"})
    assert await connecting.refused("POST", f"{PATH}/oauth2/complete", given) == "409 authorization_refused"
    again = body | {"connectionId": made["connectionId"]}
    assert "authorizationUrl" in await connecting.ask("POST", f"{PATH}/oauth2/start", again)


async def test_a_redirect_by_api(connecting: Replica) -> None:
    started = await connecting.ask("POST", f"{PATH}/redirect/start", {"organizationId": ORGANIZATION})
    given = {"organizationId": ORGANIZATION, "state": started["state"], "parameters": {"installation_id": INSTALLATION}}
    made = await connecting.ask("POST", f"{PATH}/redirect/complete", given)
    assert made["config"] == {"installationId": INSTALLATION}


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)  # no database is asked
async def test_faulty_bodies(connecting: Replica) -> None:
    answer = await connecting.client.post(f"{PATH}/oauth2/start", json={"config": {"scopes": 7}, "x": 1})
    assert sorted(issue["pointer"] for issue in answer.json()["issues"]) == ["/organizationId", "/x"]
    answer = await connecting.client.post(f"{PATH}/oauth2/complete", json={"state": "", "code": 7})
    assert sorted(issue["pointer"] for issue in answer.json()["issues"]) == ["/code", "/organizationId", "/state"]
    answer = await connecting.client.post(f"{PATH}/oauth2/start", json={}, headers={"Authorization": ""})
    assert answer.status_code == 401
