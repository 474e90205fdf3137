"""Who may send a form, over HTTP."""

import httpx
import pytest
from fastapi import Request

from control_plane.api.page.visit import Form, refuse_foreign_origin
from control_plane.refusals import Refused
from tests.support.control_plane import ORGANIZATION, Replica
from tests.support.page_visitor import PageVisitor, page_visitor


@pytest.mark.parametrize(
    ("origin", "is_taken"),
    [
        ("https://page.example", True),
        ("http://127.0.0.1:7500", True),
        ("https://evil.example", False),
        ("null", False),
        ("http://127.0.0.1", False),
        ("file://127.0.0.1:7500", False),
        (None, False),
    ],
)
def test_forms_come_from_this_host(origin: str | None, is_taken: bool) -> None:
    headers = [(b"host", b"127.0.0.1:7500")] + ([] if origin is None else [(b"origin", origin.encode())])
    request = Request({"type": "http", "headers": headers})
    if is_taken:
        refuse_foreign_origin(request, "https://page.example")
    else:
        with pytest.raises(Refused):
            refuse_foreign_origin(request, "https://page.example")


def test_a_form_does_not_show_what_is_in_it() -> None:
    form = Form({"a": ["sk-secret"], "n": ["12"], "m": ["²"], "s.x": [""], "s.y": ["1"]})
    assert repr(form) == "<Form with 5 fields>"
    assert (form.number("n"), form.number("m"), form.number("a"), form.number("none")) == (12, 0, 0, 0)
    assert form.names("s.") == {"y": "1"}


async def test_a_form_of_another_site_or_another_login_does_nothing(api: Replica) -> None:
    await api.prepare(plan=False)
    async with page_visitor(api, "operator") as one, page_visitor(api, "operator") as two:
        [connection] = (await api.ask("GET", "/v1/integration/connections"))["items"]
        revoke = f"/page/connections/{connection['connectionId']}/revoke"

        async def refused(visitor: PageVisitor, token: str | None, origin: str | None = None) -> bool:
            headers = {} if origin is None else {"Origin": origin}
            data = {} if token is None else {"csrf": token}
            answer: httpx.Response = await visitor.client.post(revoke, data=data, headers=headers)
            return answer.status_code == 403 and "Request" in answer.text

        assert await refused(one, None)
        assert await refused(one, "")
        assert await refused(one, two.csrf_token)
        assert await refused(one, one.csrf_token, "https://evil.example")
        assert await refused(one, one.csrf_token, "null")
        assert (await one.client.get(revoke)).status_code == 405
        assert (await api.ask("GET", "/v1/integration/connections"))["items"] == [connection]
        too_much = await one.client.post(revoke, content=b"csrf=" + b"x" * 600_000)
        assert too_much.status_code == 413
        await one.send(revoke.removeprefix("/page"), {})


async def test_members_see_their_organization_only(api: Replica) -> None:
    await api.prepare(plan=False)
    profile = await api.ask("POST", "/v1/sandbox/profiles", {"organizationId": ORGANIZATION}, status=201)
    await api.ask("POST", f"/v1/sandbox/profiles/{profile['sandboxProfileId']}/versions", {}, status=201)
    ids = ["con_one", "sbx_one", profile["sandboxProfileId"]]
    paths = [f"/connections/{ids[0]}", f"/sandboxes/{ids[1]}", f"/profiles/{ids[2]}/versions/1"]
    async with page_visitor(api, "member", "org_other") as other, page_visitor(api, "member", ORGANIZATION) as own:
        for path, shown in zip(paths, ids, strict=True):
            assert shown in await own.see(path)
            unknown = path.replace(shown, shown[:4] + "none")
            seen = [(await other.client.get(f"/page{each}")).text for each in (path, unknown)]
            assert seen[0].partition("<code>")[0] == seen[1].partition("<code>")[0]
            assert "There is no such" in seen[0]
        for path in (paths[2] + "/plan", paths[2] + "/explain?url=https://a.example/", paths[2] + "/diff?other=1"):
            await other.see(path, status=404)
        for path in ("/connections", "/sandboxes", "/profiles"):
            assert "There is no " in await other.see(path)
        for action in ("revoke", "delete", "secrets", "authorize"):
            await other.send(f"{paths[0]}/{action}", {"secret.api_key": "x"}, status=404)
        await other.send(paths[2], {"do": "save", "count": "0"}, status=404)
        await other.send("/targets/linear-default", {"revision": "1"}, status=403)
