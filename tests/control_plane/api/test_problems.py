"""Every refusal is a problem document, whoever makes it."""

import httpx
import pytest
import structlog

from control_plane.plans import PlanDesk
from tests.support.control_plane import SANDBOX, Replica

# What is tested here knows no database: one is enough.
pytestmark = pytest.mark.parametrize("url", ["sqlite"], indirect=True)


async def test_what_the_framework_refuses(api: Replica) -> None:
    assert await api.refused("GET", "/nowhere") == "404 not_found"
    assert await api.refused("GET", "/v1/sandboxes/") == "404 not_found"
    answer = await api.client.put("/v1/sandboxes", json={})
    assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
    assert answer.headers["allow"] == "GET, POST"
    answer = await api.client.get("/v1/integration/connections/con_1/api-key")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST, PUT")


async def test_a_fault_of_ours_tells_nothing_but_its_id(api: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object) -> None:
        raise RuntimeError("canary-inside")

    monkeypatch.setattr(PlanDesk, "current", fail)
    with structlog.testing.capture_logs() as events:
        answer = await api.client.get(f"/internal/sandboxes/{SANDBOX}/plan")
    [told] = [event for event in events if event["event"] == "request_failed"]
    assert (told["error"], told["request_id"]) == ("RuntimeError", answer.headers["x-request-id"])
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert "canary" not in answer.text
    assert answer.json()["requestId"] == answer.headers["x-request-id"]
    assert (await api.client.get("/healthz")).status_code == 200


async def test_each_request_has_an_id_of_its_own(api: Replica) -> None:
    answers: list[httpx.Response] = [await api.client.get("/healthz") for _ in range(3)]
    assert len({answer.headers["x-request-id"] for answer in answers}) == 3
