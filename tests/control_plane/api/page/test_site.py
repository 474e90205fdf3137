"""What the page answers where there is nothing to show."""

import pytest
import structlog

from control_plane.store.database import DatabaseUnavailable
from control_plane.targets import TargetDesk
from tests.support.control_plane import Replica
from tests.support.page_visitor import page_visitor


async def test_refusals_and_failures_are_pages_with_their_request_id(
    api: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with page_visitor(api, "operator") as visitor:
        assert (await visitor.client.get("/page")).headers["location"] == "/page/"
        assert (await visitor.client.get("/page/")).headers["location"] == "/page/targets"
        style = await visitor.client.get("/page/page.css")
        assert (style.status_code, style.headers["content-type"]) == (200, "text/css; charset=utf-8")
        for path, status in [("/nothing", 404), ("/targets/none", 404), ("/sandboxes/x", 400), ("/logout", 405)]:
            answer = await visitor.client.get(f"/page{path}")
            assert answer.status_code == status
            assert answer.headers["x-request-id"] in answer.text
            assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        for error, status in [(DatabaseUnavailable("away"), 503), (RuntimeError("sk-secret"), 500)]:

            async def fail(*_: object, error: Exception = error, **__: object) -> None:
                raise error

            monkeypatch.setattr(TargetDesk, "page", fail)
            with structlog.testing.capture_logs() as told:
                answer = await visitor.client.get("/page/targets")
            assert answer.status_code == status
            assert answer.headers["x-request-id"] in {each.get("request_id") for each in told} or status == 503
            assert answer.headers["x-request-id"] in answer.text
            assert "sk-secret" not in answer.text
