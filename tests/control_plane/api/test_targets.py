"""Targets over HTTP, as an operator and as a member."""

import pytest

from tests.support.control_plane import ORGANIZATION, SECRET, Replica

PATH = "/v1/integration/targets"
LINEAR = f"{PATH}/linear-default"


async def test_the_life_of_a_target(api: Replica) -> None:
    found = await api.ask("GET", LINEAR)
    assert found["enabled"]  # nothing was prepared, and a key of a member's own is enough
    body = {"revision": found["revision"], "enabled": False, "displayName": "Ours", "description": "Our issues."}
    changed = await api.ask("PATCH", LINEAR, body)
    assert (changed["enabled"], changed["displayName"], changed["overrides"]["description"]) == (
        False,
        "Ours",
        "Our issues.",
    )
    assert await api.refused("PATCH", LINEAR, body) == "409 revision_conflict"
    secrets = {"revision": changed["revision"], "set": {"clientId": "id", "clientSecret": SECRET}}
    answer = await api.client.put(f"{LINEAR}/secrets", json=secrets)
    assert SECRET not in answer.text
    assert {each["name"]: each["isSet"] for each in answer.json()["secrets"]} == {
        "clientId": True,
        "clientSecret": True,
        "webhookSecret": False,
    }
    cleared = await api.ask("PUT", f"{LINEAR}/secrets", {"revision": answer.json()["revision"], "clear": ["clientId"]})
    assert [each["isSet"] for each in cleared["secrets"]] == [False, True, False]
    again = await api.ask("PATCH", LINEAR, {"revision": cleared["revision"], "clear": ["displayName"]})
    assert again["displayName"] == "Linear"


async def test_a_second_target_of_a_variant(api: Replica) -> None:
    body = {"targetKey": "linear-two", "familyId": "linear", "variantId": "linear-default", "enabled": True}
    made = await api.ask("POST", PATH, body, status=201)
    assert (made["revision"], made["enabled"]) == (1, True)
    assert await api.refused("POST", PATH, body) == "409 already_exists"
    assert await api.refused("POST", PATH, body | {"variantId": "x"}) == "400 invalid_request"
    keys = [each["targetKey"] for each in (await api.ask("GET", PATH))["items"]]
    assert keys == sorted(keys)
    assert "linear-two" in keys
    first = await api.ask("GET", f"{PATH}?limit=1")
    assert "nextCursor" in first
    await api.ask("DELETE", f"{PATH}/linear-two", status=204)
    assert await api.refused("DELETE", f"{PATH}/linear-two") == "404 target_not_found"


async def test_members_see_enabled_targets_without_secrets(api: Replica) -> None:
    found = await api.ask("GET", LINEAR)
    await api.ask("PUT", f"{LINEAR}/secrets", {"revision": found["revision"], "set": {"clientId": "id"}})
    async with api.caller("member", ORGANIZATION) as member:
        seen = await member.ask("GET", LINEAR)
        assert not {"secrets", "overrides"} & set(seen)
        assert set(seen["targetHealth"]) == {"status"}
        assert seen["schemas"].keys() == {"target", "secret", "connection", "binding"}
        form = await member.ask("GET", f"{LINEAR}/forms/binding")
        assert "mcp" in [each["name"] for each in form["fields"]]
        for kind in ("target", "secret"):
            assert await member.refused("GET", f"{LINEAR}/forms/{kind}") == "403 forbidden"
        await api.ask("PATCH", LINEAR, {"revision": found["revision"] + 1, "enabled": False})
        listed = [each["targetKey"] for each in (await member.ask("GET", PATH))["items"]]
        assert "linear-default" not in listed
        disabled = (await member.client.get(LINEAR)).json()
        unknown = (await member.client.get(f"{PATH}/none")).json()
        assert disabled | {"requestId": ""} == unknown | {"requestId": ""}


async def test_forms_in_the_context_of_a_connection(api: Replica) -> None:
    path = "/v1/integration/connections/linear-default/api-key"
    body = {"organizationId": "org_two", "connectionId": "con_theirs", "secretType": "api_key"}
    await api.ask("POST", path, body | {"value": "lin_api_" + "a" * 40}, status=201)
    form = await api.ask("GET", f"{LINEAR}/forms/binding?connectionId=con_theirs")
    assert set(form) == {"schema", "fields"}
    assert await api.refused("GET", f"{LINEAR}/forms/binding?connectionId=con_none") == "404 connection_not_found"
    assert (await api.ask("GET", f"{LINEAR}/forms/target"))["schema"]["additionalProperties"] is False
    async with api.caller("member", ORGANIZATION) as member:
        for connection_id in ("con_theirs", "con_none"):
            asked = member.refused("GET", f"{LINEAR}/forms/connection?connectionId={connection_id}")
            assert await asked == "404 connection_not_found"


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        ({}, ["/revision"]),
        ({"revision": 1, "enabled": "yes", "clear": ["config"]}, ["/clear/0", "/enabled"]),
        ({"revision": 1, "config": {"x": 1}}, ["/config/x"]),
        ({"revision": 1, "secrets": {}}, ["/secrets"]),
        ({"revision": 1, "config": {"x": None}}, ["/config/x"]),
    ],
)
@pytest.mark.parametrize("url", ["sqlite"], indirect=True)  # the same code refuses
async def test_faulty_bodies(api: Replica, body: dict[str, object], pointers: list[str]) -> None:
    answer = await api.client.patch(LINEAR, json=body)
    assert answer.status_code == 400, answer.text
    assert sorted(issue["pointer"] for issue in answer.json()["issues"]) == pointers


async def test_a_form_is_for_what_stands_in_it(api: Replica) -> None:
    path = f"{PATH}/openai-default/forms/target"

    async def hidden(value: str) -> list[str]:
        answer = await api.client.get(path, params={"value": value})
        assert answer.status_code == 200, answer.text
        return [each["name"] for each in answer.json()["fields"] if each.get("hidden")]

    assert await hidden("{}") == ["allowCleartext"]
    assert await hidden('{"baseUrl": "http://o.example"}') == []
    for value in ("", "[]", "{", '{"a": 1, "a": 2}'):
        answer = await api.client.get(path, params={"value": value})
        assert (answer.status_code, [each["pointer"] for each in answer.json()["issues"]]) == (400, ["value"])
    assert await api.refused("GET", f"{PATH}/openai-default/forms/secret?value=%7B%7D") == "400 invalid_request"
