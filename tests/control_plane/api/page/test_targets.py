"""Targets on the page: shown with their health, edited through their forms."""

from tests.support.control_plane import ORGANIZATION, SECRET, Replica
from tests.support.page_visitor import page_visitor


async def test_a_target_is_edited_through_its_forms(api: Replica) -> None:
    path = "/targets/openai-default"
    async with page_visitor(api, "operator") as operator, page_visitor(api, "member", ORGANIZATION) as member:
        assert "healthy" in await operator.see("/targets")
        base = {"revision": "1", "enabled": "true", "config.*": ["baseUrl"]}
        faulty = await operator.send(path, base | {"displayName": "O<b>", "config.baseUrl": "nonsense"}, status=400)
        assert 'class="issue"' in faulty
        assert 'value="nonsense"' in faulty
        assert "O&lt;b&gt;" in faulty
        shown = await operator.send(path, base | {"do": "fields", "config.baseUrl": "http://o.example"}, status=200)
        assert "config.allowCleartext" in shown
        assert "config.allowCleartext" not in await operator.see(path)
        fields = base | {"displayName": "Ours", "config.baseUrl": "https://o.example", "do": "save"}
        assert await operator.send(path, fields) == f"/page{path}?done=saved"
        assert "Saved." in await operator.see(f"{path}?done=saved")
        changed = await api.ask("GET", f"/v1/integration{path}")
        assert (changed["displayName"], changed["config"]) == ("Ours", {"baseUrl": "https://o.example"})
        assert "changed by another" in await operator.send(path, fields, status=409)
        assert await operator.send(path, {"revision": "2", "config.*": ["baseUrl"]}) == f"/page{path}?done=saved"
        found = await api.ask("GET", f"/v1/integration{path}")
        assert (found["displayName"], found["config"], found["enabled"]) == ("OpenAI", {}, False)
        assert "OpenAI" not in await member.see("/targets")
        await member.see(path, status=404)


async def test_secrets_go_in_and_never_out(api: Replica) -> None:
    path = "/targets/linear-default"
    async with page_visitor(api, "operator") as operator:
        fields = {"revision": "1", "secret.clientId": SECRET, "secret.clientSecret": SECRET, "secret.webhookSecret": ""}
        assert await operator.send(f"{path}/secrets", fields) == f"/page{path}?done=secrets"
        page = await operator.see(path)
        assert SECRET not in page
        assert page.count("forget it") == 2
        refused = await operator.send(f"{path}/secrets", fields | {"forget.clientId": "true", "revision": "2"}, 400)
        assert SECRET not in refused
        await operator.send(f"{path}/secrets", {"revision": "2", "forget.clientId": "true"})
        assert (await operator.see(path)).count("forget it") == 1
