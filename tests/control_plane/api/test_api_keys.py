import pytest

from tests.support.control_plane import Replica

PATH = "/v1/api-keys"


async def test_the_life_of_a_key(api: Replica) -> None:
    body = {"role": "member", "organizationId": "org_one", "displayName": "CI", "expiresInSeconds": 60}
    answer = await api.client.post(PATH, json=body)
    assert (answer.status_code, answer.headers["cache-control"]) == (201, "no-store")
    made = answer.json()
    assert made["expiresAt"] == made["createdAt"] + 60
    shown = await api.ask("GET", f"{PATH}/{made['apiKeyId']}")
    assert shown == {name: value for name, value in made.items() if name != "key"}
    listed = await api.client.get(f"{PATH}?organizationId=org_one")
    assert listed.json() == {"items": [shown]}
    assert (await api.ask("GET", f"{PATH}?organizationId=org_two"))["items"] == []
    await api.ask("DELETE", f"{PATH}/{made['apiKeyId']}", status=204)
    assert "revokedAt" in await api.ask("GET", f"{PATH}/{made['apiKeyId']}")
    assert await api.refused("GET", f"{PATH}/key_none") == "404 api_key_not_found"
    assert await api.refused("DELETE", f"{PATH}/key_none") == "404 api_key_not_found"


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        ({}, ["/role"]),
        ({"role": "admin"}, ["/role"]),
        ({"role": "member"}, ["/organizationId"]),
        ({"role": "operator", "organizationId": "org_one"}, ["/organizationId"]),
        ({"role": "operator", "expiresInSeconds": 0, "key": "x"}, ["/expiresInSeconds", "/key"]),
    ],
)
@pytest.mark.parametrize("url", ["sqlite"], indirect=True)  # no database is asked
async def test_faulty_bodies(api: Replica, body: dict[str, object], pointers: list[str]) -> None:
    answer = await api.client.post(PATH, json=body)
    assert answer.status_code == 400, answer.text
    assert sorted(issue["pointer"] for issue in answer.json()["issues"]) == pointers
