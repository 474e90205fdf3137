"""What the result files say."""

import json
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path

from rich.console import Console

from benchmarks.figures import Ratio, Row
from benchmarks.report import Judged, Report, describe_machine
from benchmarks.targets import TARGETS, judge

_ROW = Row(
    workload="small_get",
    subject="envoy",
    cpu_us_per_request=54.0,
    requests_per_second=18_000.0,
    p50_us=210.0,
    p99_us=400.0,
    mb_per_cpu_second=None,
    load_share=0.25,
    errors=0,
    rounds=3,
    spread={"cpu_us_per_request": (53.0, 55.5)},
)
_TARGET = TARGETS[0]
_RATIO = Ratio(median=0.7, lowest=0.65, highest=0.75)


def _report() -> Report:
    return Report(
        machine={"cpu": "test", "cores": 2},
        commit="0123456789ab",
        date=datetime(2026, 1, 2, tzinfo=UTC),
        command="python -m benchmarks --quick",
        versions={"envoy": "1.40.0"},
        missing={"nginx": "nginx is not installed"},
        foreign_shares=[0.0, 0.01, 0.4],
        rows=[_ROW],
        judged=[Judged(target=_TARGET, ratio=_RATIO, judgement=judge(_TARGET, _RATIO))],
        without={"tunnel_64": ["envoy"]},
    )


def test_rows_have_the_published_fields() -> None:
    document = json.loads(json.dumps(_report().to_document()))
    assert {"machine", "commit", "date", "rows"} <= set(document)
    assert document["rows"] == [
        {
            "workload": "small_get",
            "subject": "envoy",
            "cpu_us_per_request": 54.0,
            "requests_per_second": 18000.0,
            "p50_us": 210.0,
            "p99_us": 400.0,
            "mb_per_cpu_second": None,
            "load_share": 0.25,
            "resident_mib": None,
            "grown_mib": None,
            "longest_us": None,
            "resolutions": None,
            "kib_unused": None,
            "kib_after_burst": None,
            "errors": 0,
            "rounds": 3,
            "spread": {"cpu_us_per_request": [53.0, 55.5]},
        }
    ]


def test_what_is_missing_is_named_everywhere(tmp_path: Path) -> None:
    _report().write(tmp_path)
    assert json.loads((tmp_path / "latest.json").read_text())["missing"] == [
        {"subject": "nginx", "reason": "nginx is not installed"}
    ]
    assert "nginx: nginx is not installed" in (tmp_path / "latest.md").read_text()
    assert "nginx: nginx is not installed" in _shown(_report())


def test_a_peer_without_a_tunnel_is_named_for_the_rows_it_is_not_in() -> None:
    assert _report().to_document()["without"] == {"tunnel_64": ["envoy"]}
    assert "without a way for the workload: tunnel_64: envoy." in _report().to_markdown()


def test_the_share_of_the_load_stands_beside_that_of_the_proxy() -> None:
    for text in (_report().to_markdown(), _shown(_report())):
        assert "25 %" in text


def test_figures_stand_with_their_spread_and_ratios_with_their_judgement() -> None:
    for text in (_report().to_markdown(), _shown(_report())):
        assert "54.0 (53.0 - 55.5)" in text
        assert "97 %" in text  # 54 us for each of 18,000 requests in a second
        assert "0.700 (0.650 - 0.750)" in text
        assert "missed" in text


def test_a_disturbed_run_says_so() -> None:
    assert _report().to_document()["foreign_share"] == {"median": 0.01, "highest": 0.4}
    for text in (_report().to_markdown(), _shown(_report())):
        assert "1% of the proxy's core in the median window, 40% in the worst" in text


def test_the_machine_is_described_without_its_name() -> None:
    assert {"cpu", "cores", "kernel", "python"} <= set(describe_machine())
    assert "node" not in describe_machine()


def _shown(report: Report) -> str:
    output = StringIO()
    report.show(Console(file=output, width=200))
    return output.getvalue()
