"""What operators are given agrees with itself and with the gateway: metrics, dashboard, rules, slo.md, runbook.md."""

import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from gateway.metrics import DENIED_CODES
from tests.support.monitoring import (
    MONITORING,
    OPERATIONS,
    alerts,
    dashboard,
    dashboard_expressions,
    documented_metrics,
    rules,
)
from tests.support.prometheus import promtool

# What Prometheus makes itself.
OF_PROMETHEUS = {"up", "ALERTS"}
SEVERITIES = {"page", "ticket"}
RUNBOOK_PARTS = ("Means.", "The sandbox sees.", "Look first.", "Do.", "Wake.")
_NAME = re.compile(r"\b(?:sallyport(?::\w+)+|sallyport_\w+|process_\w+|up|ALERTS)\b")
_SELECTOR = re.compile(r"\b((?:sallyport|process)_\w+)\{([^}]*)\}")
_MATCHER = re.compile(r'(\w+)\s*(=~|!=|!~|=)\s*"([^"]*)"')
_OF_A_HISTOGRAM = re.compile(r"_(?:bucket|sum|count)$")


# ---- every expression, wherever it stands


def written_expressions(name: str) -> list[str]:
    """Return the expressions of a page: its `promql` blocks."""
    return re.findall(
        r"^```promql\n(.*?)^```", (OPERATIONS / name).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )


def expressions() -> dict[str, list[str]]:
    annotations = [each["expr"] for each in dashboard()["annotations"]["list"] if "expr" in each]
    variables = [each["definition"] for each in dashboard()["templating"]["list"] if "definition" in each]
    return {
        "dashboard": [*dashboard_expressions(), *annotations, *variables],
        "rules": [rule["expr"] for rule in rules()],
        "slo.md": written_expressions("slo.md"),
        "runbook.md": written_expressions("runbook.md"),
    }


@pytest.mark.parametrize("place", expressions())
def test_every_name_in_an_expression_exists(place: str) -> None:
    known = {*documented_metrics(), *(rule["record"] for rule in rules() if "record" in rule), *OF_PROMETHEUS}
    histograms = {name for name, row in documented_metrics().items() if row.type == "histogram"}
    named = set(itertools.chain.from_iterable(_NAME.findall(expression) for expression in expressions()[place]))
    assert named
    unknown = {name for name in named if name not in known and _OF_A_HISTOGRAM.sub("", name) not in histograms}
    assert unknown == set()


@pytest.mark.parametrize("place", ["dashboard", "rules", "slo.md"])
def test_every_label_in_an_expression_exists_with_each_value(place: str) -> None:
    """A selector that matches nothing is an alert that never fires."""
    seen = 0
    for metric, matchers in itertools.chain.from_iterable(map(_SELECTOR.findall, expressions()[place])):
        row = documented_metrics().get(metric)
        for label, _, pattern in _MATCHER.findall(matchers):
            if label in ("job", "instance", "le"):
                continue
            assert row is not None, metric
            assert label in row.labels, metric
            values = DENIED_CODES if metric == "sallyport_denied_total" else row.values
            for word in pattern.split("|"):
                assert any(re.fullmatch(word, value) for value in values), (metric, word)
            seen += 1
    assert seen


def test_bounds_in_expressions_are_buckets_of_their_histogram() -> None:
    for place in expressions().values():
        for bound in itertools.chain.from_iterable(re.findall(r'le="([^"]*)"', expression) for expression in place):
            assert bound in {"0.025", "5.0"}, "both are bounds of gateway/metrics.py, written as it writes them"


# ---- the dashboard


def left_out() -> set[str]:
    """Return the metrics that metrics.md says are not in the dashboard."""
    text = (
        (OPERATIONS / "metrics.md")
        .read_text(encoding="utf-8")
        .partition("## Not in the dashboard")[2]
        .partition("\n## ")[0]
    )
    return {name for row in re.findall(r"^\| (`.*?) \|", text, re.MULTILINE) for name in re.findall(r"`([^`]*)`", row)}


def test_every_metric_is_in_the_dashboard_or_says_why_not() -> None:
    named = set(itertools.chain.from_iterable(map(_NAME.findall, dashboard_expressions())))
    shown = named | {_OF_A_HISTOGRAM.sub("", name) for name in named}
    assert documented_metrics().keys() - shown == left_out()


def test_the_dashboard_can_be_imported_anywhere() -> None:
    board = dashboard()
    assert (board["uid"], board["id"]) == ("sallyport-gateways", None)
    assert isinstance(board["version"], int)
    by_variable = {"type": "prometheus", "uid": "${datasource}"}
    source = board["templating"]["list"][0]
    assert (source["name"], source["type"], source["query"]) == ("datasource", "datasource", "prometheus")
    named = [each for each in values_of(board, "datasource") if isinstance(each, dict) and each["type"] != "grafana"]
    assert len(named) > len(board["panels"])
    assert [each for each in named if each != by_variable] == []
    for panel in board["panels"]:
        assert panel["title"]
        assert panel["type"] == "row" or panel["description"], panel["title"]
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids)


def values_of(document: object, member: str) -> Iterator[object]:
    """Yield every value of this member, however deep."""
    if isinstance(document, dict):
        if member in document:
            yield document[member]
        for value in document.values():
            yield from values_of(value, member)
    elif isinstance(document, list):
        for value in document:
            yield from values_of(value, member)


def test_no_panel_lies_on_another() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard()["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = set(
            itertools.product(range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"]))
        )
        assert not cells & taken, panel["title"]
        taken |= cells


# ---- rules and runbook


def sections() -> dict[str, str]:
    text = (OPERATIONS / "runbook.md").read_text(encoding="utf-8")
    return dict(re.findall(r"^## (Sallyport\w+)\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL))


def test_every_alert_has_its_section_in_the_runbook_and_no_other() -> None:
    assert sections().keys() == {alert["alert"] for alert in alerts()}


@pytest.mark.parametrize("name", sorted(sections()))
def test_a_section_says_what_somebody_who_was_woken_needs(name: str) -> None:
    places = [sections()[name].find(f"**{part}**") for part in RUNBOOK_PARTS]
    assert -1 not in places
    assert places == sorted(places)


def test_every_alert_has_a_severity_and_leads_to_its_section() -> None:
    for alert in alerts():
        assert alert["labels"]["severity"] in SEVERITIES
        assert alert["annotations"]["runbook"] == f"docs/operations/runbook.md#{alert['alert'].lower()}"
        assert alert["annotations"]["summary"]


def test_every_setting_that_is_named_exists() -> None:
    settings = (OPERATIONS.parent / "settings.md").read_text(encoding="utf-8")
    named = [
        name
        for page in ("slo.md", "runbook.md", "metrics.md")
        for name in re.findall(
            r"`((?:limits|timeouts|control|credentials|network|upstream|audit|tunnel|interception)\.[a-z_.]+)`",
            (OPERATIONS / page).read_text(encoding="utf-8"),
        )
    ]
    assert named
    assert [name for name in named if f"| `{name}` |" not in settings] == []


def objectives() -> dict[str, float]:
    """Return the objective of each service level, in percent, as slo.md has it."""
    text = (OPERATIONS / "slo.md").read_text(encoding="utf-8")
    return {name: float(told) for name, told in re.findall(r"^## (.+)\n\nObjective: ([\d.]+) %", text, re.MULTILINE)}


@pytest.mark.parametrize(
    ("slo", "heading"),
    [
        ("availability", "Availability"),
        ("latency", "Added latency"),
        ("credentials", "Credential freshness"),
        ("plans", "Plan propagation"),
    ],
)
def test_page_alerts_and_dashboard_have_the_same_objective(slo: str, heading: str) -> None:
    objective = objectives()[heading]
    budget, ratio = f"{(100 - objective) / 100:g}", f"sallyport:{slo}_errors:ratio_rate"
    fast, slow = [alert["expr"] for alert in alerts() if alert["labels"].get("slo") == slo]
    for window, factor in (("1h", 14.4), ("5m", 14.4), ("6h", 6), ("30m", 6)):
        assert f"{ratio}{window} > {factor} * {budget}\n" in fast
    assert slow == f"{ratio}3d > {budget}\nand {ratio}6h > {budget}"
    assert f'{ratio}1h{{job="$job"}} / {budget}' in dashboard_expressions()
    (panel,) = [panel for panel in dashboard()["panels"] if panel["title"] == f"{heading}, three days"]
    assert panel["fieldConfig"]["defaults"]["thresholds"]["steps"][-1]["value"] == pytest.approx(objective / 100)
    assert f"{objective}%" in panel["description"]


def test_promtool_takes_the_rules_and_the_example() -> None:
    promtool("check", "rules", MONITORING / "alerts.yaml")
    promtool("check", "config", MONITORING / "prometheus.yaml")


@pytest.mark.parametrize("page", ["slo.md", "runbook.md"])
def test_promtool_takes_what_is_written_on_a_page(tmp_path: Path, page: str) -> None:
    written = [{"record": f"written:{number}", "expr": text} for number, text in enumerate(written_expressions(page))]
    (tmp_path / "written.yaml").write_text(yaml.safe_dump({"groups": [{"name": "written", "rules": written}]}))
    promtool("check", "rules", tmp_path / "written.yaml")
