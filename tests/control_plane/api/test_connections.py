"""Connections over HTTP: no answer and no refusal holds a value."""

import pytest

from tests.support.control_plane import CONNECTION, ORGANIZATION, SECRET, TARGET, Replica

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
