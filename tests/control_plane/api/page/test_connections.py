"""Connections on the page: made by a key, by a way to the provider, rotated, revoked, deleted."""

from tests.support.control_plane import ORGANIZATION, SECRET, Replica, resolve_body
from tests.support.page_visitor import page_visitor


async def test_the_life_of_a_connection(api: Replica) -> None:
    async with page_visitor(api, "member", ORGANIZATION) as member:
        assert "There is no connection yet" in await member.see("/connections")
        ways = "/targets/linear-default/connect"
        assert "Personal API key" in await member.see(ways)
        fields = {"method": "api-key", "displayName": "<i>Mine", "do": "connect"}
        missing = await member.send(ways, fields, status=400)
        assert "<code>/secrets</code>" in missing
        assert "&lt;i&gt;Mine" in missing
        faulty = await member.send(ways, fields | {"secret.api_key": SECRET}, status=400)
        assert SECRET not in faulty
        made = await member.send(ways, fields | {"secret.api_key": "lin_api_" + "a" * 40})
        path = made.removeprefix("/page").partition("?")[0]
        assert "Connected." in await member.see(made.removeprefix("/page"))
        assert await member.send(f"{path}/secrets", {"secret.api_key": "lin_api_" + "b" * 40}) == (
            f"/page{path}?done=rotated"
        )
        assert "this field" not in await member.see(path)
        assert "is not what" in await member.send(f"{path}/secrets", {"secret.api_key": SECRET}, status=400)
        assert await member.send(f"{path}/revoke", {}) == f"/page{path}?done=revoked"
        shown = await member.see(path)
        assert "revoked" in shown
        assert "Replace" not in shown
        assert await member.send(f"{path}/delete", {}) == "/page/connections?done=deleted"
        await member.see(path, status=404)
        # Without the operator's client there is no way to the provider; with it the page shows the link and no more.
        oauth = {"method": "oauth2-authorization-code", "do": "connect"}
        await member.send(ways, oauth, status=409)
        secrets = {"revision": 1, "set": {"clientId": "our-client", "clientSecret": SECRET}}
        await api.ask("PUT", "/v1/integration/targets/linear-default/secrets", secrets)
        away = await member.send(ways, oauth, status=200)
        assert "https://linear.app/oauth/authorize</code>" in away
        assert "client_id=our-client&amp;" in away


async def test_who_asked_for_its_credentials_is_shown(api: Replica) -> None:
    await api.prepare()
    resolve = "/internal/integration-credentials/resolve"
    await api.ask("POST", resolve, resolve_body())
    assert await api.refused("POST", resolve, resolve_body(bindingId="bnd_none")) == "403 binding_not_in_plan"
    found = await api.ask("GET", "/v1/integration/connections/con_one/resolutions")
    assert [each["result"] for each in found["items"]] == ["binding_not_in_plan", "ok"]
    first = await api.ask("GET", "/v1/integration/connections/con_one/resolutions?limit=1")
    rest = await api.ask("GET", f"/v1/integration/connections/con_one/resolutions?cursor={first['nextCursor']}")
    assert first["items"] + rest["items"] == found["items"]
    async with page_visitor(api, "operator") as operator:
        page = await operator.see("/connections/con_one")
        assert "binding_not_in_plan" in page
        assert SECRET not in page
