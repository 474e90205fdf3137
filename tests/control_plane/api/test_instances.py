import pytest

from tests.support.control_plane import ORGANIZATION, Replica

INSTANCES, KEYS = "/api/instances", "/api/auth/keys"


async def make(api: Replica, **more: str) -> str:
    made = await api.ask("POST", INSTANCES, {"organizationId": ORGANIZATION} | more, status=201)
    return str(made["instanceId"])


async def test_the_life_of_an_instance(api: Replica) -> None:
    instance_id = await make(api, instanceId="default", displayName="Chat")
    assert instance_id == "default"
    shown = await api.ask("GET", f"{INSTANCES}/default")
    assert shown == {
        "instanceId": "default",
        "organizationId": ORGANIZATION,
        "displayName": "Chat",
        "createdAt": shown["createdAt"],
    }
    assert (await api.ask("GET", f"{INSTANCES}?organizationId={ORGANIZATION}")) == {"items": [shown]}
    assert (await api.ask("GET", f"{INSTANCES}?organizationId=org_two"))["items"] == []
    again = {"organizationId": "org_two", "instanceId": "default"}
    assert await api.refused("POST", INSTANCES, again) == "409 already_exists"
    await api.ask("DELETE", f"{INSTANCES}/default", status=204)
    assert await api.refused("GET", f"{INSTANCES}/default") == "404 instance_not_found"
    assert await api.refused("DELETE", f"{INSTANCES}/default") == "404 instance_not_found"


async def test_the_life_of_a_client_key(api: Replica) -> None:
    instance_id = await make(api)
    answer = await api.client.post(KEYS, json={"instanceId": instance_id, "tier": "admin", "displayName": "Ops"})
    assert (answer.status_code, answer.headers["cache-control"]) == (201, "no-store")
    made = answer.json()
    key_id = made["clientKeyId"]
    shown = await api.ask("GET", f"{KEYS}/{key_id}")
    assert shown == {name: value for name, value in made.items() if name != "key"}
    assert await api.ask("GET", f"{KEYS}?instanceId={instance_id}") == {"items": [shown]}
    assert await api.refused("GET", KEYS) == "400 invalid_request"
    assert await api.refused("GET", f"{KEYS}?instanceId=inst_none") == "404 instance_not_found"
    await api.ask("DELETE", f"{KEYS}/{key_id}", status=204)
    assert "revokedAt" in await api.ask("GET", f"{KEYS}/{key_id}")
    assert await api.refused("DELETE", f"{KEYS}/ckey_none") == "404 client_key_not_found"
    unknown = {"instanceId": "inst_none", "tier": "standard"}
    assert await api.refused("POST", KEYS, unknown) == "404 instance_not_found"


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
async def test_a_member_makes_and_sees_standard_keys_alone(api: Replica) -> None:
    async with api.caller("member", ORGANIZATION) as member:
        instance_id = (await member.ask("POST", INSTANCES, {}, status=201))["instanceId"]
        body = {"instanceId": instance_id, "tier": "admin"}
        assert await member.refused("POST", KEYS, body) == "403 forbidden"
        admin = (await api.ask("POST", KEYS, body, status=201))["clientKeyId"]
        mine = (await member.ask("POST", KEYS, body | {"tier": "standard"}, status=201))["clientKeyId"]
        listed = await member.ask("GET", f"{KEYS}?instanceId={instance_id}")
        assert [each["clientKeyId"] for each in listed["items"]] == [mine]
        assert await member.refused("GET", f"{KEYS}/{admin}") == "404 client_key_not_found"
        assert await member.refused("DELETE", f"{KEYS}/{admin}") == "404 client_key_not_found"
        # A member gives no ids of its own choosing.
        assert await member.refused("POST", INSTANCES, {"instanceId": "inst_new"}) == "404 instance_not_found"


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)  # no database is asked
@pytest.mark.parametrize(
    ("path", "body", "pointers"),
    [
        (INSTANCES, {}, ["/organizationId"]),
        (INSTANCES, {"organizationId": "o", "instanceId": "a/b", "revision": 1}, ["/instanceId", "/revision"]),
        (KEYS, {"tier": "root"}, ["/instanceId", "/tier"]),
        (KEYS, {"instanceId": "i", "tier": "standard", "key": "sp_sk_"}, ["/key"]),
    ],
)
async def test_faulty_bodies(api: Replica, path: str, body: dict[str, object], pointers: list[str]) -> None:
    answer = await api.client.post(path, json=body)
    assert answer.status_code == 400, answer.text
    assert sorted(issue["pointer"] for issue in answer.json()["issues"]) == pointers
