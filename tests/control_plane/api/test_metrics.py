"""The metrics' listener, and what becomes of each request in them."""

from pathlib import Path

import httpx
import pytest

from control_plane.api.metrics import CountedRequests
from control_plane.app import started
from control_plane.foundation import StartError
from control_plane.metrics import ControlMetrics
from control_plane.store.database import Database, DatabaseUnavailable
from tests.support.control_plane import SANDBOX, Replica, replica, resolve_body, settings
from tests.support.page_visitor import page_visitor

NAME = "sallyport_control_plane_"


async def scraped(api: Replica) -> str:
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.get(f"http://127.0.0.1:{api.plane.metrics_port}/metrics")
        assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
        return answer.text


async def test_what_was_asked_and_by_which_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = settings(tmp_path / "data", None, SALLYPORT_METRICS_LISTEN="127.0.0.1:0")
    async with replica(config) as api:
        await api.prepare()
        await api.ask("POST", "/internal/integration-credentials/resolve", resolve_body())
        refused = resolve_body(bindingId="bnd_other")
        await api.refused("POST", "/internal/integration-credentials/resolve", refused)
        await api.client.get(f"/v1/sandboxes/{SANDBOX}")
        await api.client.get("/nothing/of/ours")
        await api.client.request("BREW", "/healthz")
        async with page_visitor(api, "operator") as operator:
            await operator.see(f"/sandboxes/{SANDBOX}")
            await operator.client.get("/page/nothing")
        async with api.watch() as watch:
            await watch.next("snapshot")
            text = await scraped(api)
            assert f"{NAME}watch_streams 1.0" in text
        for method, route, status in (
            ("GET", "/v1/sandboxes/{sandbox_id}", "2xx"),
            ("GET", "/page/sandboxes/{sandbox_id}", "2xx"),
            ("GET", "none", "4xx"),
            ("POST", "/internal/integration-credentials/resolve", "4xx"),
        ):
            assert f'{NAME}requests_total{{method="{method}",route="{route}",status="{status}"}}' in text
        assert 'method="other"' in text
        assert SANDBOX not in text
        assert "BREW" not in text
        assert f'{NAME}resolutions_total{{result="ok"}} 1.0' in text
        assert f'{NAME}resolutions_total{{result="binding_not_in_plan"}} 1.0' in text
        assert f"{NAME}webhook_deliveries_pending 0.0" in text
        async with httpx.AsyncClient(trust_env=False) as client:  # nothing of the API is there
            for path in ("/healthz", "/v1/sandboxes", "/page/login"):
                assert (await client.get(f"http://127.0.0.1:{api.plane.metrics_port}{path}")).status_code == 404
            assert (await api.client.get("/metrics")).status_code == 404

        def fail(*_: object) -> None:
            raise DatabaseUnavailable

        with monkeypatch.context() as patched:
            patched.setattr(Database, "read", fail)
            assert f"{NAME}webhook_deliveries_pending 0" not in await scraped(api)


async def test_without_a_setting_there_is_no_listener(tmp_path: Path) -> None:
    async with replica(settings(tmp_path / "data", None)) as api:
        assert api.plane.metrics_port is None


async def test_a_taken_port_is_told_by_its_setting(tmp_path: Path) -> None:
    async with replica(settings(tmp_path / "one", None)) as api:
        taken = settings(tmp_path / "two", None, SALLYPORT_METRICS_LISTEN=f"127.0.0.1:{api.plane.port}")
        with pytest.raises(StartError, match=r"metrics\.listen: .* cannot be listened on"):
            async with started(taken):
                pass


async def test_one_that_is_never_answered_has_failed() -> None:
    metrics = ControlMetrics()

    async def fail(*_: object) -> None:
        raise RuntimeError

    counted = CountedRequests(fail, metrics)
    with pytest.raises(RuntimeError):
        await counted({"type": "http", "method": "GET"}, None, None)  # type: ignore[arg-type]  # neither is used
    assert b'requests_total{method="GET",route="none",status="5xx"} 1.0' in metrics.render()
    with pytest.raises(RuntimeError):
        await counted({"type": "lifespan"}, None, None)  # type: ignore[arg-type]  # as above
