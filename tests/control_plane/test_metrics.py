"""What a control plane counts, as it is exposed and as it is documented."""

import re

import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from control_plane.metrics import PREFIX, REFRESH_RESULTS, RESOLUTION_RESULTS, STATUSES, ControlMetrics
from control_plane.push.emitter import ATTEMPT_RESULTS
from tests.support.monitoring import documented_metrics


def families(metrics: ControlMetrics) -> dict[str, Metric]:
    found = text_string_to_metric_families(metrics.render().decode())
    named = {f"{each.name}_total" if each.type == "counter" else each.name: each for each in found}
    return {name.removeprefix(PREFIX): each for name, each in named.items() if name.startswith(PREFIX)}


def value(metrics: ControlMetrics, name: str, **labels: str) -> float:
    for family in families(metrics).values():
        for sample in family.samples:
            if sample.name == PREFIX + name and sample.labels == labels:
                return float(sample.value)
    raise AssertionError(name)


def test_everything_counted_is_exposed() -> None:
    metrics = ControlMetrics()
    for status in (101, 200, 204, 303, 404, 503):
        metrics.answered("GET", "/x/{id}", status, 0.003)
    metrics.answered("GET", "none", 404, 60)
    for result in RESOLUTION_RESULTS:
        metrics.resolved(result)
    for result in REFRESH_RESULTS:
        metrics.refreshed(result)
    for result in ATTEMPT_RESULTS:
        metrics.pushed(result, 1.5 if result == "delivered" else None)
    metrics.pushed("delivered", None)
    metrics.watch("watch_streams", lambda: 3)
    metrics.deliveries_pending = 7
    assert value(metrics, "requests_total", method="GET", route="/x/{id}", status="2xx") == 2
    assert value(metrics, "requests_total", method="GET", route="none", status="4xx") == 1
    assert value(metrics, "request_duration_seconds_bucket", le="0.005") == 6
    assert value(metrics, "request_duration_seconds_count") == 7
    assert value(metrics, "request_duration_seconds_sum") == pytest.approx(60.018)
    assert value(metrics, "resolutions_total", result="ok") == 1
    assert value(metrics, "refreshes_total", result="made") == 1
    assert value(metrics, "pushes_total", result="delivered") == 2
    assert value(metrics, "pushes_total", result="refused") == 1
    assert [value(metrics, "push_delay_seconds_bucket", le=bound) for bound in ("1.0", "2.0", "+Inf")] == [0, 1, 1]
    assert value(metrics, "push_delay_seconds_sum") == 1.5
    assert (value(metrics, "watch_streams"), value(metrics, "live_pages")) == (3, 0)
    assert value(metrics, "webhook_deliveries_pending") == 7
    assert b"process_open_fds" in metrics.render()


def test_a_size_that_nobody_knows_is_not_shown() -> None:
    metrics = ControlMetrics()
    assert families(metrics)["webhook_deliveries_pending"].samples == []
    with pytest.raises(ValueError, match="rumours"):
        metrics.watch("rumours", lambda: 1)


def test_each_has_its_row_with_its_labels_and_their_values() -> None:
    documented = {name: row for name, row in documented_metrics().items() if name.startswith(PREFIX)}
    exposed = families(ControlMetrics())
    assert {name.removeprefix(PREFIX) for name in documented} == exposed.keys()
    for name, row in documented.items():
        labels = {label for sample in exposed[name.removeprefix(PREFIX)].samples for label in sample.labels}
        assert row.type == exposed[name.removeprefix(PREFIX)].type
        assert row.labels == (labels - {"le"} or row.labels)
    assert documented[f"{PREFIX}requests_total"].values == set(STATUSES)
    assert documented[f"{PREFIX}refreshes_total"].values == set(REFRESH_RESULTS)
    assert documented[f"{PREFIX}pushes_total"].values == set(ATTEMPT_RESULTS)
    assert all(re.fullmatch("[a-z_]+", result) for result in RESOLUTION_RESULTS)
