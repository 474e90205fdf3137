"""Workers over HTTP: what they report, what they are told, what operators see."""

import pytest

from control_plane.workers import LEASE_SECONDS
from tests.support.control_plane import Replica

PATH = "/internal/v1/workers/wrk_1"
SERVER = {"serverId": "time", "tier": "standard", "status": "running", "tools": ["now"]}
REPORT = {"epoch": 5, "apiUrl": "http://127.0.0.1:4200", "servers": [SERVER]}


async def test_a_worker_from_its_first_report_to_its_end(api: Replica) -> None:
    assert await api.ask("PUT", PATH, REPORT) == {"expiresInSeconds": LEASE_SECONDS}
    sandboxed = SERVER | {"serverId": "git", "sandboxId": "sbx_one"}
    body = REPORT | {"frontUrl": "https://front.test:443", "servers": [sandboxed, SERVER]}
    await api.ask("PUT", PATH, body)
    [shown] = (await api.ask("GET", "/api/workers"))["items"]
    assert shown.pop("expiresAt") > 0
    assert shown == {
        "workerId": "wrk_1",
        "state": "live",
        "epoch": 5,
        "apiUrl": "http://127.0.0.1:4200",
        "frontUrl": "https://front.test:443",
        "servers": [sandboxed, SERVER],
    }
    assert await api.refused("PUT", PATH, REPORT | {"epoch": 4}) == "409 lease_conflict"
    await api.ask("DELETE", f"{PATH}?epoch=5", status=204)
    await api.ask("DELETE", f"{PATH}?epoch=5", status=204)
    [shown] = (await api.ask("GET", "/api/workers"))["items"]
    assert (shown["state"], shown["servers"]) == ("withdrawn", [])


async def test_workers_are_listed_page_by_page(api: Replica) -> None:
    for number in range(3):
        await api.ask("PUT", f"/internal/v1/workers/wrk_{number}", REPORT)
    first = await api.ask("GET", "/api/workers?limit=2")
    second = await api.ask("GET", f"/api/workers?limit=2&cursor={first['nextCursor']}")
    assert [each["workerId"] for each in first["items"] + second["items"]] == ["wrk_0", "wrk_1", "wrk_2"]
    assert "nextCursor" not in second


async def test_one_that_is_away_can_be_forgotten_and_one_that_lives_cannot(api: Replica) -> None:
    shown = "/api/workers/wrk_1"
    assert await api.refused("DELETE", shown) == "404 worker_not_found"
    await api.ask("PUT", PATH, REPORT)
    assert await api.refused("DELETE", shown) == "409 worker_live"
    await api.ask("DELETE", f"{PATH}?epoch=5", status=204)
    await api.ask("DELETE", shown, status=204)
    assert (await api.ask("GET", "/api/workers"))["items"] == []
    # Nothing is left of it that would refuse one that comes back.
    await api.ask("PUT", PATH, REPORT | {"epoch": 1})


async def test_nothing_is_declared_where_nobody_declares(api: Replica) -> None:
    assert await api.ask("GET", f"{PATH}/declared") == {"servers": []}


@pytest.mark.parametrize(
    "change",
    [
        {"epoch": -1},
        {"apiUrl": "ftp://127.0.0.1"},
        {"more": 1},
        {"servers": [SERVER | {"tier": "other"}]},
        {"servers": [SERVER | {"serverId": "../x"}]},
        {"servers": [SERVER | {"status": "Running!"}]},
        {"servers": [SERVER | {"tools": [""]}]},
        {"servers": [SERVER] * 1001},
    ],
)
async def test_a_faulty_report_is_refused(api: Replica, change: dict[str, object]) -> None:
    assert await api.refused("PUT", PATH, REPORT | change) == "400 invalid_request"
    assert (await api.ask("GET", "/api/workers"))["items"] == []
