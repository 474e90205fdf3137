"""API keys on the page: for operators, and a key is on one page, once."""

import re

from tests.support.control_plane import ORGANIZATION, Replica
from tests.support.page_visitor import PageVisitor, page_visitor


async def test_a_key_is_made_shown_once_used_and_ended(api: Replica) -> None:
    async with page_visitor(api, "operator") as operator:
        assert 'href="/page/keys"' in await operator.see("/targets")
        fields = {"role": "member", "organizationId": ORGANIZATION, "displayName": "<b>Ours</b>", "days": "2"}
        made = await operator.send("/keys", fields, status=201)
        found = re.search(r"<pre>(sp_ak_[0-9a-f]{64})</pre>", made)
        assert found is not None
        listed = await operator.see("/keys")
        assert found[1] not in listed
        assert "&lt;b&gt;Ours" in listed
        assert "<b>Ours" not in listed + made
        member = PageVisitor(operator.client)
        member.client.cookies.clear()
        assert (await member.log_in(found[1])).status_code == 303
        assert "/page/keys" not in await member.see("/targets")
        await member.see("/keys", status=403)
        await member.send("/keys", {"role": "operator"}, status=403)
    async with page_visitor(api, "operator") as operator:
        [key_id] = [each["apiKeyId"] for each in (await api.ask("GET", "/v1/api-keys"))["items"] if "Ours" in str(each)]
        assert await operator.send(f"/keys/{key_id}/end", {}) == "/page/keys?done=ended"
        assert "ended" in await operator.see("/keys")
        await operator.send("/keys/key_none/end", {}, status=404)


async def test_every_fault_is_at_its_field(api: Replica) -> None:
    async with page_visitor(api, "operator") as operator:
        for fields in (
            {"role": "member"},
            {"role": "operator", "organizationId": ORGANIZATION},
            {"role": "operator", "days": "soon"},
            {"role": "nobody"},
        ):
            page = await operator.send("/keys", {"displayName": "Typed", **fields}, status=400)
            assert page.count('class="field faulty"') == 1
            assert 'value="Typed"' in page
