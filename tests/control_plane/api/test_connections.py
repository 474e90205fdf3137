"""Connections over HTTP: no answer and no refusal holds a value."""

import pytest

from tests.support.control_plane import CONNECTION, ORGANIZATION, SECRET, TARGET, Replica
from tests.support.oauth_stage import VARIANT

PATH = "/v1/integration/connections"


async def test_the_life_of_a_connection(api: Replica) -> None:
    made = await api.connect(displayName="Ours")
    assert (made["status"], made["secretType"], made["targetKey"]) == ("active", "api_key", TARGET)
    assert await api.ask("GET", f"{PATH}/{CONNECTION}") == made
    rotated = await api.ask("PUT", f"{PATH}/{CONNECTION}/api-key", {"value": "another"})
    assert rotated["credentials"][0]["version"] != made["credentials"][0]["version"]
    await api.ask("PATCH", f"{PATH}/{CONNECTION}", {"status": "error"})
    await api.ask("PATCH", f"{PATH}/{CONNECTION}", {"status": "revoked", "displayName": "Gone"})
    assert await api.refused("PATCH", f"{PATH}/{CONNECTION}", {"status": "active"}) == "409 connection_not_active"
    await api.ask("DELETE", f"{PATH}/{CONNECTION}", status=204)
    assert await api.refused("DELETE", f"{PATH}/{CONNECTION}") == "404 connection_not_found"


async def test_several_secrets_in_one_request(connecting: Replica) -> None:
    path = f"{PATH}/{VARIANT}"
    body = {"organizationId": ORGANIZATION, "connectionId": CONNECTION, "secrets": {"api_key": "key-a", "app_id": "1"}}
    made = await connecting.ask("POST", f"{path}/api-key", body | {"config": {"note": "w"}}, status=201)
    assert [each["secretType"] for each in made["credentials"]] == ["api_key", "app_id"]
    pem = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"
    more = body | {"secrets": {"private_key": pem}}
    assert len((await connecting.ask("POST", f"{path}/api-key", more, status=201))["credentials"]) == 3
    both = {"secrets": {"api_key": "key-b", "app_id": "2"}}
    await connecting.ask("PUT", f"{PATH}/{CONNECTION}/api-key", both)
    await connecting.ask("PUT", f"{PATH}/{CONNECTION}/api-key", {"secretType": "app_id", "value": "3"})
    patched = await connecting.ask("PATCH", f"{PATH}/{CONNECTION}", {"config": {"note": "v"}, "revision": 4})
    assert patched["config"] == {"note": "v"}
    late = {"displayName": "Late", "revision": 4}
    assert await connecting.refused("PATCH", f"{PATH}/{CONNECTION}", late) == "409 revision_conflict"
    client = {"organizationId": ORGANIZATION, "config": {"clientId": "c"}, "secrets": {"client_secret": "s"}}
    made = await connecting.ask("POST", f"{path}/oauth2/client-credentials", client, status=201)
    assert made["method"] == "oauth2-client-credentials"
    wrong = {"organizationId": ORGANIZATION, "secrets": {"app_id": "1"}}
    assert await connecting.refused("POST", f"{path}/oauth2/client-credentials", wrong) == "400 invalid_request"
    assert await connecting.refused("POST", f"{PATH}/none/api-key", body) == "404 target_not_found"


async def test_a_connection_in_use_stays(api: Replica) -> None:
    await api.prepare()
    assert await api.refused("DELETE", f"{PATH}/{CONNECTION}") == "409 connection_in_use"


async def test_lists_hold_no_value(api: Replica) -> None:
    for number in range(3):
        await api.connect(f"con_{number}", organizationId="org_one" if number else "org_two")
    answer = await api.client.get(f"{PATH}?limit=1&organizationId=org_one")
    assert SECRET not in answer.text
    assert [item["connectionId"] for item in answer.json()["items"]] == ["con_1"]
    rest = await api.ask("GET", f"{PATH}?cursor={answer.json()['nextCursor']}")
    assert [item["connectionId"] for item in rest["items"]] == ["con_2"]


@pytest.mark.parametrize(
    ("changes", "pointers"),
    [
        ({"value": ""}, ["/value"]),
        ({"value": f" {SECRET}"}, ["/value"]),
        ({"value": f"{SECRET}\n"}, ["/value"]),
        ({"value": [SECRET]}, ["/value"]),
        ({"value": SECRET * 2000}, ["/value"]),
        ({"valu": SECRET}, ["/valu"]),
        ({"secretType": "a/b", "slotKey": "", "connectionId": "x"}, ["/connectionId", "/secretType", "/slotKey"]),
        ({"displayName": None}, ["/displayName"]),
        ({"secrets": {"api_key": SECRET}}, ["/secretType", "/value"]),
        ({"secrets": {"a/b": SECRET, "c": f"{SECRET}\n"}}, ["/secrets/a~1b", "/secrets/c"]),
        ({"secrets": {}}, ["/secrets"]),
    ],
)
@pytest.mark.parametrize("url", ["sqlite"], indirect=True)  # no database is asked
async def test_faulty_bodies_are_told_whole_and_without_the_value(
    api: Replica, changes: dict[str, object], pointers: list[str]
) -> None:
    body = {"organizationId": ORGANIZATION, "secretType": "api_key", "value": SECRET, **changes}
    answer = await api.client.post(f"{PATH}/{TARGET}/api-key", json=body)
    assert answer.status_code == 400, answer.text
    assert sorted(issue["pointer"] for issue in answer.json()["issues"]) == pointers
    assert SECRET not in answer.text


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
async def test_one_form_or_the_other(api: Replica) -> None:
    for body, pointers in (({}, ["/secretType", "/value"]), ({"value": SECRET}, ["/secretType"])):
        answer = await api.client.post(f"{PATH}/{TARGET}/api-key", json={"organizationId": ORGANIZATION, **body})
        assert sorted(issue["pointer"] for issue in answer.json()["issues"]) == pointers
