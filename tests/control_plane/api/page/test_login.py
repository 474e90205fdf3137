"""In and out, over HTTP."""

from pathlib import Path

from tests.support.control_plane import ORGANIZATION, Replica, replica, settings
from tests.support.page_visitor import page_key, page_visitor


async def test_the_way_in_and_out(api: Replica) -> None:
    async with page_visitor(api) as visitor:
        for path in ("/", "/targets", "/connections", "/profiles", "/sandboxes"):
            answer = await visitor.client.get(f"/page{path}")
            assert (answer.status_code, answer.headers["location"]) in [(303, "/page/login"), (303, "/page/targets")]
        assert "not accepted" in (await visitor.log_in("sp_ak_" + "0" * 64)).text
        service = await visitor.log_in(await page_key(api, "service"))
        assert service.status_code == 401
        assert "set-cookie" not in service.headers
        answer = await visitor.log_in(await page_key(api, "member", ORGANIZATION))
        cookie = answer.headers["set-cookie"]
        assert {"HttpOnly", "Max-Age=43200", "Path=/page", "SameSite=strict"} <= set(cookie.split("; "))
        kept = visitor.client.cookies["sallyport_page"]
        assert ORGANIZATION in await visitor.see("/targets")
        assert await visitor.send("/logout", {}) == "/page/login"
        visitor.client.cookies.set("sallyport_page", kept, path="/page")
        assert (await visitor.client.get("/page/targets")).headers["location"] == "/page/login"


async def test_failed_logins_are_limited(url: str, tmp_path: Path) -> None:
    limited = settings(tmp_path / "data", url, SALLYPORT_LIMITS_FAILED_LOGINS_PER_MINUTE="2")
    async with replica(limited) as api, page_visitor(api) as visitor:
        answers = [await visitor.log_in("x") for _ in range(3)]
        assert [answer.status_code for answer in answers] == [401, 401, 429]
        assert int(answers[2].headers["retry-after"]) >= 1
        assert (await visitor.log_in(await page_key(api, "operator"))).status_code == 303
