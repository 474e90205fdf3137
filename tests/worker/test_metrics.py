"""What a worker counts, and that each name has its row."""

import re
from collections import Counter

from prometheus_client.parser import text_string_to_metric_families

from tests.support.monitoring import worker_metrics
from worker.application import ApplicationState
from worker.integrations.integration import Status
from worker.metrics import Metrics
from worker.reconciliation import Drift, Rounds

PARTS = ("server_processes", "declared_servers", "plan_servers", "plan_revisions", "sandboxes")


def rendered() -> str:
    rounds = {name: Rounds() for name in PARTS}
    rounds["plan_servers"].counts.update({"found": 3, "repaired": 2, "failed": 1})
    rounds["plan_servers"].failing = frozenset({Drift("x", None, "y")})
    rounds["declared_servers"].issue = "nobody answers"
    metrics = Metrics(
        servers=lambda: [Status.RUNNING, Status.RUNNING, Status.STOPPED],
        applications=lambda: Counter({ApplicationState.APPLIED: 4}),
        running=lambda: 2,
        rounds=lambda: rounds,
    )
    return metrics.render().decode()


def test_what_there_is_is_counted() -> None:
    lines = rendered().splitlines()
    for line in (
        "sallyport_worker_applications_running 2.0",
        'sallyport_worker_applications_total{state="applied"} 4.0',
        'sallyport_worker_applications_total{state="failed"} 0.0',
        'sallyport_worker_servers{status="running"} 2.0',
        'sallyport_worker_servers{status="crash_loop"} 0.0',
        'sallyport_worker_drift_total{outcome="repaired",part="plan_servers"} 2.0',
        'sallyport_worker_drift_left{part="plan_servers"} 1.0',
        'sallyport_worker_reconciliation_blind{part="declared_servers"} 1.0',
    ):
        assert line in lines


def test_the_documentation_has_a_row_for_each_with_its_labels_and_values() -> None:
    found = {}
    for family in text_string_to_metric_families(rendered()):
        if not family.name.startswith("process_"):
            name = f"{family.name}_total" if family.type == "counter" else family.name
            labels = {label for sample in family.samples for label in sample.labels}
            values = {value for sample in family.samples for value in sample.labels.values()}
            found[name] = (family.type, labels, values)
    rows = worker_metrics()
    assert rows.keys() == found.keys()
    for name, (kind, labels, values) in found.items():
        assert (rows[name].type, set(rows[name].labels), set(rows[name].values)) == (kind, labels, values), name
        assert re.fullmatch(r"sallyport_worker_[a-z_]+", name)
