"""`/api/push-subscribers`: made, changed and deleted, by operators and by members for their own instances."""

from typing import Any

import pytest

from tests.support.client_keys import make_instance
from tests.support.control_plane import ORGANIZATION, Replica

PATH = "/api/push-subscribers"
BODY = {"instanceId": "inst_1", "url": "https://hooks.test/x"}
SQLITE = pytest.mark.parametrize("url", ["sqlite"], indirect=True)


async def made(api: Replica, **members: object) -> Any:  # noqa: ANN401  JSON
    return await api.ask("POST", PATH, BODY | members, status=201)


async def test_its_whole_life(api: Replica) -> None:
    await make_instance(api)
    first = await made(api)
    secret = first.pop("secret")
    assert secret.startswith("whsec_")
    assert (first["tier"], first["events"], first["enabled"], first["source"]) == ("standard", [], True, "api")
    second = await made(api, tier="admin", events=["sandbox_stopped", "sandbox_started"])
    assert second["events"] == ["sandbox_started", "sandbox_stopped"]
    one = f"{PATH}/{first['pushSubscriberId']}"
    assert await api.ask("GET", one) == first
    listed = await api.ask("GET", f"{PATH}?instanceId=inst_1&limit=1")
    ids = sorted((first["pushSubscriberId"], second["pushSubscriberId"]))
    assert [each["pushSubscriberId"] for each in listed["items"]] == ids[:1]
    more = await api.ask("GET", f"{PATH}?cursor={listed['nextCursor']}")
    assert [each["pushSubscriberId"] for each in more["items"]] == ids[1:]
    changed = await api.ask("PATCH", one, {"enabled": False, "events": ["sandbox_started"], "rotateSecret": True})
    assert (changed["enabled"], changed["events"]) == (False, ["sandbox_started"])
    assert changed["secret"] not in (secret, "")
    assert "secret" not in await api.ask("GET", one)
    await api.ask("DELETE", one, status=204)
    assert await api.refused("GET", one) == "404 push_subscriber_not_found"
    assert await api.refused("PATCH", one, {}) == "404 push_subscriber_not_found"


@SQLITE
async def test_what_is_refused(api: Replica) -> None:
    await make_instance(api)
    assert await api.refused("POST", PATH, BODY | {"instanceId": "inst_none"}) == "404 instance_not_found"
    for wrong in ({"url": "http://hooks.test/x"}, {"tier": "root"}, {"events": ["config_changed"]}, {"secret": "mine"}):
        assert await api.refused("POST", PATH, BODY | wrong) == "400 invalid_request"


async def test_a_member_has_those_of_its_organization_and_of_the_tier_standard(api: Replica) -> None:
    await make_instance(api)
    await make_instance(api, "inst_2", "org_two")
    admin = await made(api, tier="admin")
    foreign = await made(api, instanceId="inst_2")
    async with api.caller("member", ORGANIZATION) as member:
        own = await made(member)
        assert await member.refused("POST", PATH, BODY | {"instanceId": "inst_2"}) == "404 instance_not_found"
        assert await member.refused("POST", PATH, BODY | {"tier": "admin"}) == "403 forbidden"
        listed = await member.ask("GET", PATH)
        assert [each["pushSubscriberId"] for each in listed["items"]] == [own["pushSubscriberId"]]
        for other in (foreign, admin):
            one = f"{PATH}/{other['pushSubscriberId']}"
            for method, body in (("GET", None), ("PATCH", {"enabled": False}), ("DELETE", None)):
                assert await member.refused(method, one, body) == "404 push_subscriber_not_found"
        await member.ask("DELETE", f"{PATH}/{own['pushSubscriberId']}", status=204)


async def test_an_instance_takes_its_subscribers_along(api: Replica) -> None:
    await make_instance(api)
    await made(api)
    await api.ask("DELETE", "/api/instances/inst_1", status=204)
    assert await api.ask("GET", PATH) == {"items": []}
