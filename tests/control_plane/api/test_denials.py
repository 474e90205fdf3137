"""Denials over HTTP: to members of the sandbox's organization and to operators, and by a cursor that is ours."""

import pytest

from tests.support.control_plane import ORGANIZATION, SANDBOX, Replica
from tests.support.scripted_http import scripted_http
from tests.support.told_denials import report_gateway, tell, told_denial

PATH = f"/v1/sandboxes/{SANDBOX}/denials"


async def test_members_see_those_of_their_own_sandboxes(api: Replica) -> None:
    await api.prepare(plan=False)
    with scripted_http() as gateway:
        tell(gateway, [told_denial()])
        await report_gateway(api, gateway.url)
        async with api.caller("member", ORGANIZATION) as member, api.caller("member", "org_two") as stranger:
            assert len((await member.ask("GET", PATH))["items"]) == 1
            gateway.asked.clear()
            assert await stranger.refused("GET", PATH) == "404 sandbox_not_found"
            assert await stranger.refused("GET", "/v1/sandboxes/sbx_none/denials") == "404 sandbox_not_found"
            assert gateway.asked == []
        async with api.caller("service") as service:
            assert await service.refused("GET", PATH) == "403 forbidden"
        async with api.caller("operator") as operator:
            answer = await operator.client.get(PATH)
            assert answer.headers["cache-control"] == "no-store"
            assert len(answer.json()["items"]) == 1


@pytest.mark.parametrize("query", ["cursor=x", "cursor=0a1b2c3d-1%0A", "limit=0", "limit=201", "after=1"])
async def test_a_query_is_read_strictly(api: Replica, query: str) -> None:
    await api.prepare(plan=False)
    assert await api.refused("GET", f"{PATH}?{query}") == "400 invalid_request"
