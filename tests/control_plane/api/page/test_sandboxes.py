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
