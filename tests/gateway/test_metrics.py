"""What is counted, how it is exposed, and that the documentation names all of it."""

import re
from pathlib import Path

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from gateway.build import codec_kind, version
from gateway.metrics import (
    APPLY_RESULTS,
    DENIED_CODES,
    EXPIRIES,
    HANDSHAKE_RESULTS,
    OUTCOMES,
    RESOLUTION_RESULTS,
    SOURCES,
    WATCHED,
    Histogram,
    Metrics,
)
from sallyport.problem import Code

ROOT = Path(__file__).resolve().parent.parent.parent

# Contracts section 10: the least there must be.
CONTRACT = {
    "requests_total": {"outcome", "source"},
    "request_duration_seconds": set[str](),
    "upstream_connect_seconds": set[str](),
    "credential_resolutions_total": {"result"},
    "credential_cache_entries": set[str](),
    "active_tunnels": set[str](),
    "active_streams": set[str](),
    "tunnel_bytes_total": {"direction"},
    "plans_active": set[str](),
    "plan_apply_total": {"result"},
    "denied_total": {"code"},
    "interception_handshakes_total": {"result"},
    "audit_dropped_total": set[str](),
}


def families(metrics: Metrics) -> dict[str, Metric]:
    found = {}
    for family in text_string_to_metric_families(metrics.render().decode("utf-8")):
        found[family.name + ("_total" if family.type == "counter" else "")] = family
    return found


def value(metrics: Metrics, name: str, **labels: str) -> float:
    for family in families(metrics).values():
        for sample in family.samples:
            if sample.name == name and sample.labels == labels:
                return float(sample.value)
    raise AssertionError(f"{name} {labels} is not exposed")


@pytest.mark.parametrize(("name", "labels"), CONTRACT.items())
def test_the_contract_names_are_there_from_the_start(name: str, labels: set[str]) -> None:
    family = families(Metrics())[f"sallyport_{name}"]
    assert {label for sample in family.samples for label in sample.labels} - {"le"} == labels
    assert {sample.value for sample in family.samples} == {0.0}


def test_exchanges_are_counted_by_outcome_and_source() -> None:
    metrics = Metrics()
    for outcome in OUTCOMES:
        for source in SOURCES:
            metrics.finished(outcome, source, 0.003)
    metrics.finished("denied", "tunnel", 400)
    assert value(metrics, "sallyport_requests_total", outcome="injected", source="explicit") == 1
    assert value(metrics, "sallyport_requests_total", outcome="denied", source="tunnel") == 2
    assert value(metrics, "sallyport_request_duration_seconds_count") == len(OUTCOMES) * len(SOURCES) + 1
    assert value(metrics, "sallyport_request_duration_seconds_bucket", le="300.0") == len(OUTCOMES) * len(SOURCES)
    assert value(metrics, "sallyport_request_duration_seconds_sum") == pytest.approx(400.042)


def test_what_ends_is_shown_while_its_end_is_known() -> None:
    metrics = Metrics()
    assert families(metrics)["sallyport_expiry_seconds"].samples == []
    metrics.watch_expiry("service_token", lambda: None)
    metrics.watch_expiry("tunnel_certificate", lambda: -1.5)
    (sample,) = families(metrics)["sallyport_expiry_seconds"].samples
    assert (sample.labels, sample.value) == ({"of": "tunnel_certificate"}, -1.5)
    with pytest.raises(ValueError, match="ca is not one of"):
        metrics.watch_expiry("ca", lambda: None)


def test_a_value_on_a_bound_belongs_below_it() -> None:
    histogram = Histogram((1.0, 2.0))
    for each in (0.5, 1.0, 1.5, 2.0, 2.5):
        histogram.observe(each)
    assert histogram.buckets() == [("1.0", 2), ("2.0", 4), ("+Inf", 5)]
    assert histogram.total == 7.5


@pytest.mark.parametrize("code", Code)
def test_refusals_are_counted_by_their_word(code: Code) -> None:
    metrics = Metrics()
    metrics.denied(code.wire)
    assert value(metrics, "sallyport_denied_total", code=code.wire) == 1


def test_an_unknown_word_cannot_grow_the_labels() -> None:
    metrics = Metrics()
    for number in range(100):
        metrics.denied(f"word-{number}")
    assert value(metrics, "sallyport_denied_total", code="other") == 100
    assert len(families(metrics)["sallyport_denied_total"].samples) == len(DENIED_CODES)


def test_everything_else_that_is_counted() -> None:
    metrics = Metrics()
    metrics.connected(0.02)
    for result in RESOLUTION_RESULTS:
        metrics.credential_resolved(result)
    for result in APPLY_RESULTS:
        metrics.plan_applied(result)
    for result in HANDSHAKE_RESULTS:
        metrics.handshake(result)
    metrics.watch("active_streams", lambda: 3)
    metrics.watch("upstream_links_open", lambda: 4)
    metrics.watch("upstream_links_idle", lambda: 2)
    metrics.upstream_link_reuse += 9
    metrics.scrub_matches += 1
    metrics.scrub_unscanned += 6
    metrics.credential_rejections += 5
    metrics.defects += 8
    metrics.loop_lag.observe(0.002)
    metrics.plan_propagation.observe(40)
    assert value(metrics, "sallyport_upstream_connect_seconds_bucket", le="0.025") == 1
    assert value(metrics, "sallyport_credential_resolutions_total", result="temporary") == 1
    assert value(metrics, "sallyport_plan_apply_total", result="conflict") == 1
    assert value(metrics, "sallyport_interception_handshakes_total", result="http2_unsupported") == 1
    assert value(metrics, "sallyport_active_streams") == 3
    assert value(metrics, "sallyport_upstream_links_open") == 4
    assert value(metrics, "sallyport_upstream_links_idle") == 2
    assert value(metrics, "sallyport_upstream_link_reuse_total") == 9
    assert value(metrics, "sallyport_scrub_matches_total") == 1
    assert value(metrics, "sallyport_scrub_unscanned_total") == 6
    assert value(metrics, "sallyport_credential_rejections_total") == 5
    assert value(metrics, "sallyport_defects_total") == 8
    assert value(metrics, "sallyport_event_loop_lag_seconds_bucket", le="0.0025") == 1
    assert value(metrics, "sallyport_plan_propagation_seconds_bucket", le="60.0") == 1
    assert value(metrics, "sallyport_build_info", version=version(), codec=codec_kind()) == 1


def test_sizes_are_asked_for_at_each_scrape() -> None:
    metrics, sizes = Metrics(), dict.fromkeys(WATCHED, 0)
    for name in WATCHED:
        metrics.watch(name, lambda name=name: sizes[name])  # type: ignore[misc]  # the default binds the name
    sizes |= {"credential_cache_entries": 7, "plans_active": 2, "audit_dropped": 5}
    assert value(metrics, "sallyport_credential_cache_entries") == 7
    assert value(metrics, "sallyport_plans_active") == 2
    assert value(metrics, "sallyport_audit_dropped_total") == 5
    with pytest.raises(ValueError, match="hosts is not one of"):
        metrics.watch("hosts", lambda: 1)


def test_a_word_that_is_not_in_a_list_is_our_bug() -> None:
    with pytest.raises(KeyError):
        Metrics().finished("vanished", "explicit", 0)


def test_the_process_is_measured() -> None:
    assert value(Metrics(), "process_resident_memory_bytes") > 0


def test_two_gateways_in_one_process_count_apart() -> None:
    one, two = Metrics(), Metrics()
    one.denied("denied_by_plan")
    assert value(two, "sallyport_denied_total", code="denied_by_plan") == 0


OTHERS = ("sallyport_control_plane_", "sallyport_worker_")


def documented() -> dict[str, str]:
    lines = (ROOT / "docs/operations/metrics.md").read_text(encoding="utf-8").splitlines()
    rows = [line.strip("|").split("|") for line in lines if line.startswith("| `")]
    found = {row[0].strip(" `"): row[2].strip() for row in rows if len(row) == 4}
    return {name: labels for name, labels in found.items() if not name.startswith(OTHERS)}


def test_the_documentation_has_a_row_for_each_metric_and_no_other() -> None:
    exposed = families(Metrics())
    assert documented().keys() == exposed.keys()


def test_the_documentation_names_each_label_and_its_values() -> None:
    rows = documented()
    for name, family in families(Metrics()).items():
        values = {v for sample in family.samples for label, v in sample.labels.items() if label != "le"}
        labels = {label for sample in family.samples for label in sample.labels if label != "le"}
        named = set(re.findall(r"`([^`]*)`", rows[name]))
        # The refusals are the codes of docs/errors.md and are not repeated; a version is whatever it is.
        if name == "sallyport_denied_total":
            values = {"other"}
        elif name == "sallyport_expiry_seconds":  # shows what there is
            labels, values = {"of"}, set(EXPIRIES)
        elif name == "sallyport_build_info":
            values = {"pure", "compiled"}
        assert named == labels | values, name
