"""What docs/operations says of metrics, dashboard and alerts, read for tests."""

import json
import re
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

import yaml

from tests.support.gateway_process import ROOT

OPERATIONS = ROOT / "docs" / "operations"
MONITORING = OPERATIONS / "monitoring"
_QUOTED = re.compile(r"`([^`]*)`")


class DocumentedMetric(NamedTuple):
    """One row of metrics.md; labels and the values that are written down for them."""

    type: str
    labels: frozenset[str]
    values: frozenset[str]


_OF_A_WORKER = "sallyport_worker_"


def documented_metrics() -> dict[str, DocumentedMetric]:
    """Return the rows of metrics.md that are a gateway's, by name."""
    return {name: row for name, row in _documented().items() if not name.startswith(_OF_A_WORKER)}


def worker_metrics() -> dict[str, DocumentedMetric]:
    """Return the rows of metrics.md that are a worker's, by name."""
    return {name: row for name, row in _documented().items() if name.startswith(_OF_A_WORKER)}


@cache
def _documented() -> dict[str, DocumentedMetric]:
    found = {}
    for line in (OPERATIONS / "metrics.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| `") and len(cells) == 4:
            # `label`: `value`, `value`; `label`: ...
            parts = [_QUOTED.findall(part) for part in cells[2].split(";") if part]
            labels, values = {part[0] for part in parts}, {value for part in parts for value in part[1:]}
            found[cells[0].strip("`")] = DocumentedMetric(cells[1], frozenset(labels), frozenset(values))
    return found


@cache
def dashboard() -> dict[str, Any]:
    """Return the dashboard."""
    document: dict[str, Any] = json.loads((MONITORING / "dashboard.json").read_text(encoding="utf-8"))
    return document


def dashboard_expressions() -> list[str]:
    """Return what the panels ask for."""
    return [target["expr"] for panel in dashboard()["panels"] for target in panel.get("targets", ())]


@cache
def rule_groups() -> tuple[dict[str, Any], ...]:
    """Return the groups of alerts.yaml."""
    return tuple(yaml.safe_load((MONITORING / "alerts.yaml").read_text(encoding="utf-8"))["groups"])


def rules() -> list[dict[str, Any]]:
    """Return the rules of alerts.yaml, recordings and alerts."""
    return [rule for group in rule_groups() for rule in group["rules"]]


def alerts() -> Iterator[dict[str, Any]]:
    """Yield the rules that are alerts."""
    return (rule for rule in rules() if "alert" in rule)
