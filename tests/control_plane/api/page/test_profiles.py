"""Bindings on the page, and what they compile to."""

import re
from collections.abc import Sequence

from tests.support.control_plane import ORGANIZATION, Replica
from tests.support.page_visitor import page_visitor


async def test_bindings_are_edited_as_forms(api: Replica) -> None:
    body = {"organizationId": ORGANIZATION, "secrets": {"api_key": "sk-proj-" + "a" * 40}, "displayName": "Key"}
    made = await api.ask("POST", "/v1/integration/connections/openai-default/api-key", body, status=201)
    named = {"organizationId": ORGANIZATION, "displayName": "<script>x</script>"}
    profile = await api.ask("POST", "/v1/sandbox/profiles", named, status=201)
    path = f"/profiles/{profile['sandboxProfileId']}"
    async with page_visitor(api, "member", ORGANIZATION) as member:
        assert "It has no version yet" in await member.see(path)
        for _ in range(2):
            await api.ask("POST", f"/v1/sandbox{path}/versions", {}, status=201)
        assert "<script" not in await member.see("/profiles")
        path += "/versions/1"
        assert "Nothing is bound" in await member.see(path)
        added = {"revision": "0", "count": "0", "do": "add", "connection": made["connectionId"]}
        assert "not saved yet" in await member.send(path, added, status=200)
        fields: dict[str, Sequence[str]] = {
            **{"revision": "0", "count": "1", "connection.0": made["connectionId"], "id.0": "", "do": "save"},
            **{"config.0.*": ["codex", "version"], "config.0.codex": "npm", "config.0.version": "none"},
        }
        shown = await member.send(path, fields | {"do": "fields"}, status=200)
        assert re.findall(r'name="do" value="([a-z0-9.]+)"', shown)[0] == "enter"  # what Enter presses
        faulty = await member.send(path, fields, status=422)
        assert 'class="field faulty"' in faulty
        assert 'value="none"' in faulty
        hidden = await member.send(path, fields | {"config.0.codex": "image", "do": "fields"}, status=200)
        assert "config.0.version" not in hidden
        assert await member.send(path, fields | {"config.0.version": "1.2.3"}) == f"/page{path}?done=saved"
        stored = await api.ask("GET", f"/v1/sandbox{path}/integration-bindings")
        [binding] = stored["bindings"]
        assert (binding["kind"], binding["config"]) == ("agent", {"version": "1.2.3"})
        assert "changed by another" in await member.send(path, fields | {"config.0.version": "1.2.3"}, status=409)
        assert "sha256:" in await member.see(f"{path}/plan")
        assert "a route claims this" in await member.see(f"{path}/explain?url=https://api.openai.com/v1/models")
        assert "inject" in await member.see(f"{path}/diff?other=2")
        assert "Every request is answered alike" in await member.see(f"{path}/diff?other=1")
        removed = fields | {"revision": "1", "id.0": binding["bindingId"], "do": "remove.0"}
        assert "Nothing is bound" in await member.send(path, removed, status=200)
        unknown = fields | {"revision": "1", "connection.0": "con_one/../x"}
        assert "There is no such connection" in await member.send(path, unknown, status=400)
        await api.ask("PATCH", "/v1/integration/connections/" + made["connectionId"], {"status": "error"})
        assert "The bindings make no plan" in await member.see(f"{path}/plan")


async def test_profiles_and_versions_are_made(api: Replica) -> None:
    body = {"organizationId": ORGANIZATION, "secrets": {"api_key": "sk-proj-" + "a" * 40}}
    made = await api.ask("POST", "/v1/integration/connections/openai-default/api-key", body, status=201)
    async with page_visitor(api, "operator") as operator:
        assert "There is no profile yet" in await operator.see("/profiles")
        faulty = await operator.send("/profiles", {"displayName": "Agents"}, status=400)
        assert 'class="field faulty"' in faulty
        assert 'value="Agents"' in faulty
    async with page_visitor(api, "member", ORGANIZATION) as member:
        page = await member.send("/profiles", {"displayName": "Agents"})
        profile = page.removeprefix("/page")
        version = (await member.client.get(page)).headers["location"]
        assert version == f"{page}/versions/1"
        bound = {"revision": "0", "count": "1", "connection.0": made["connectionId"], "id.0": "", "do": "enter"}
        assert await member.send(f"{profile}/versions/1", bound) == f"{version}?done=saved"
        for egress, message in (("{", "egress"), ('{"default": "open"}', "egress")):
            fields = {"from": "1", "bindings": "true", "egress": egress}
            faulty = await member.send(f"{profile}/versions", fields, status=400)
            assert 'class="field faulty"' in faulty
            assert f'name="{message}"' in faulty
            assert made["connectionId"] in faulty
        egress = '{"default": "deny", "managedPassthrough": "deny", "rules": []}'
        second = await member.send(f"{profile}/versions", {"from": "1", "bindings": "true", "egress": egress})
        assert second == f"{page}/versions/2?done=made"
        third = await member.send(f"{profile}/versions", {"from": "2"})
        assert third == f"{page}/versions/3?done=made"
        counts = []
        for number in (1, 2, 3):
            stored = await api.ask("GET", f"/v1/sandbox{profile}/versions/{number}/integration-bindings")
            counts.append(len(stored["bindings"]))
        assert counts == [1, 1, 0]
        shown = await api.ask("GET", f"/v1/sandbox{profile}/versions/2")
        assert shown["egress"]["default"] == "deny"
        assert (await member.send("/profiles/sbp_none/versions", {}, status=404)).count("no such sandbox profile")


async def test_a_profile_without_a_version_gets_one(api: Replica) -> None:
    made = await api.ask("POST", "/v1/sandbox/profiles", {"organizationId": ORGANIZATION}, status=201)
    path = f"/profiles/{made['sandboxProfileId']}"
    async with page_visitor(api, "member", ORGANIZATION) as member:
        assert "It has no version yet" in await member.see(path)
        assert 'class="field faulty"' in await member.send(f"{path}/versions", {"image": "[]"}, status=400)
        assert await member.send(f"{path}/versions", {}) == f"/page{path}/versions/1?done=made"


async def test_a_connection_is_found_however_many_there_are(api: Replica) -> None:
    for number in range(203):
        await api.connect(f"con_{number:03}", displayName=f"Account {number:03}")
    made = await api.ask("POST", "/v1/sandbox/profiles", {"organizationId": ORGANIZATION}, status=201)
    path = f"/profiles/{made['sandboxProfileId']}/versions"
    await api.ask("POST", f"/v1/sandbox{path}", {}, status=201)
    async with page_visitor(api, "member", ORGANIZATION) as member:
        page = await member.see(f"{path}/1")
        assert "There are more than these 200" in page
        assert "Account 202" not in page
        fields = {"revision": "0", "count": "0", "search": "aCCount 20", "searched": ""}
        for do in ("search", "enter"):
            found = await member.send(f"{path}/1", fields | {"do": do}, status=200)
            assert re.findall(r"Account \d+", found) == ["Account 200", "Account 201", "Account 202"]
            assert "There are more" not in found
        for nothing in ("100%", "con\\_", "none"):
            page = await member.send(f"{path}/1", fields | {"do": "search", "search": nothing}, status=200)
            assert "No connection has this" in page
