"""Sandboxes on the page."""

from tests.support.control_plane import ORGANIZATION, SANDBOX, Replica
from tests.support.page_visitor import page_visitor


async def test_a_sandbox_is_shown_with_its_plan(api: Replica) -> None:
    async with page_visitor(api, "operator") as operator:
        assert "There is no sandbox yet" in await operator.see("/sandboxes")
        await api.prepare(plan=False)
        assert "It has no plan" in await operator.see(f"/sandboxes/{SANDBOX}")
        await api.ask("DELETE", f"/v1/sandboxes/{SANDBOX}", status=204)
        await operator.see(f"/sandboxes/{SANDBOX}", status=404)


async def test_the_plan_in_force_is_shown(api: Replica) -> None:
    await api.prepare()
    async with page_visitor(api, "member", ORGANIZATION) as member:
        assert "revision 1" in await member.see("/sandboxes")
        page = await member.see(f"/sandboxes/{SANDBOX}")
        assert "api.example.com" in page
        assert "sha256:" in page


async def test_a_sandbox_is_made(api: Replica) -> None:
    made = await api.ask("POST", "/v1/sandbox/profiles", {"organizationId": ORGANIZATION}, status=201)
    profile_id = made["sandboxProfileId"]
    await api.ask("POST", f"/v1/sandbox/profiles/{profile_id}/versions", {}, status=201)
    async with page_visitor(api, "operator") as operator:
        faulty = await operator.send("/sandboxes", {"sandboxId": "no id", "version": "x"}, status=400)
        assert faulty.count('class="field faulty"') == 3
        assert 'value="no id"' in faulty
        given = {"organizationId": ORGANIZATION, "sandboxId": SANDBOX}
        assert await operator.send("/sandboxes", given) == f"/page/sandboxes/{SANDBOX}?done=made"
        assert "is taken" in await operator.send("/sandboxes", given, status=409)
    async with page_visitor(api, "member", ORGANIZATION) as member:
        of_version = {"organizationId": ORGANIZATION, "sandboxProfileId": profile_id, "version": "1"}
        place = (await member.send("/sandboxes", of_version)).removeprefix("/page")
        assert f"{profile_id} version 1" in await member.see(place.partition("?")[0])
        assert profile_id in await member.see("/sandboxes")
    async with page_visitor(api, "member", "org_two") as stranger:
        assert profile_id not in await stranger.see("/sandboxes")
        await stranger.send("/sandboxes", {"sandboxProfileId": profile_id}, status=404)
