"""Writing the results: `latest.json` for programs, `latest.md` and tables on the terminal for people."""

import json
import os
import platform
import subprocess
import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from benchmarks.figures import Ratio, Row
from benchmarks.plot import plot
from benchmarks.subject import ROOT
from benchmarks.targets import Judgement, Target
from benchmarks.workloads.registry import WORKLOADS
from benchmarks.workloads.workload import Way, Workload

_COLUMNS = {
    "cpu_us_per_request": "CPU µs/request",
    "requests_per_second": "requests/s",
    "p50_us": "p50 µs",
    "p99_us": "p99 µs",
    "mb_per_cpu_second": "MB/CPU s",
}
# Shown as a share, beside the proxy's own; and not shown, because the targets have it.
_FIGURE_NAMES = _COLUMNS | {
    "resident_mib": "resident MiB",
    "grown_mib": "grown by MiB",
    "longest_us": "longest µs",
    "resolutions": "resolutions",
    "kib_unused": "KiB each, never used",
    "kib_after_burst": "KiB each, after use",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    target: Target
    ratio: Ratio | None
    judgement: Judgement


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One run. `missing` names every subject that was asked for and gave no figures, with the reason; `without`, by
    workload, those that run and offer no way for it: a peer takes no tunnel.

    `foreign_shares`: of each window, the share of the proxy's core that something else used.
    """

    machine: Mapping[str, object]
    commit: str
    date: datetime
    command: str
    versions: Mapping[str, str]
    missing: Mapping[str, str]
    foreign_shares: Sequence[float]
    rows: Sequence[Row]
    judged: Sequence[Judged]
    without: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def to_document(self) -> dict[str, object]:
        return {
            "machine": dict(self.machine),
            "commit": self.commit,
            "date": self.date.isoformat(timespec="seconds"),
            "command": self.command,
            "versions": dict(self.versions),
            "missing": [{"subject": name, "reason": reason} for name, reason in self.missing.items()],
            "without": {workload: list(names) for workload, names in self.without.items()},
            "foreign_share": {"median": round(self._usual, 3), "highest": round(self._highest, 3)},
            "rows": [asdict(row) for row in self.rows],
        }

    def to_markdown(self) -> str:
        machine = ", ".join(f"{name} {value}" for name, value in self.machine.items())
        lines = [
            "# Results of one run",
            "",
            f"`{self.command}` on {self.date.isoformat(timespec='seconds')}, commit {self.commit}.",
            f"Machine: {machine}. {self._disturbance}",
            "",
            "Median of the rounds; lowest and highest round in brackets. Core busy: the share of its core the proxy",
            "used in the closed loop. Well below 100 %: the load was the limit, or something else ran on that core.",
            "Load busy: the share of the other core that the load itself used; the origin is there too.",
            "",
        ]
        lines += _markdown_table(
            ("workload", "subject", *_COLUMNS.values(), "core busy", "load busy", "errors"), _cells(self.rows)
        )
        lines += ["", "Versions: " + ", ".join(f"{name} {version}" for name, version in self.versions.items()) + "."]
        lines += [""] if self.missing else []
        lines += [*(f"Missing: {name}: {reason}." for name, reason in self.missing.items())]
        if self.without:
            told = "; ".join(f"{workload}: {', '.join(names)}" for workload, names in self.without.items())
            lines += ["", f"Running, but without a way for the workload: {told}."]
        if self.judged:
            lines += ["", "## Ratios", "", "Each from the same round; lowest and highest round in brackets.", ""]
            lines += _markdown_table(_RATIO_COLUMNS, [_ratio_cells(judged) for judged in self.judged])
        return "\n".join(lines).rstrip("\n") + "\n"

    @property
    def _usual(self) -> float:
        return median(self.foreign_shares) if self.foreign_shares else 0.0

    @property
    def _highest(self) -> float:
        return max(self.foreign_shares, default=0.0)

    @property
    def _disturbance(self) -> str:
        return (
            f"Something else used {self._usual:.0%} of the proxy's core in the median window, "
            f"{self._highest:.0%} in the worst."
        )

    def write(self, directory: Path) -> None:
        """Write `latest.json`, `latest.md` and one `latest.<workload>.svg` for each workload."""
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "latest.json").write_text(json.dumps(self.to_document(), indent=2, ensure_ascii=False) + "\n")
        (directory / "latest.md").write_text(self.to_markdown())
        for name in dict.fromkeys(row.workload for row in self.rows):
            workload = WORKLOADS[name]
            figure = _main_figure(workload)
            drawn = plot(
                workload.title, figure, _FIGURE_NAMES[figure], [row for row in self.rows if row.workload == name]
            )
            if drawn:
                (directory / f"latest.{name}.svg").write_text(drawn)

    def show(self, console: Console) -> None:
        results = Table(
            "workload", "subject", *_COLUMNS.values(), "core busy", "load busy", "errors", title="median (low - high)"
        )
        for cells in _cells(self.rows):
            results.add_row(*cells)
        console.print(results)
        console.print(self._disturbance)
        for name, reason in self.missing.items():
            console.print(f"[bold]missing[/]: {name}: {reason}")
        if self.judged:
            ratios = Table(*_RATIO_COLUMNS, title="ratios against the targets")
            for judged in self.judged:
                ratios.add_row(*_ratio_cells(judged), style="red" if judged.judgement is Judgement.MISSED else None)
            console.print(ratios)


def _main_figure(workload: Workload) -> str:
    if workload.way is Way.CHAIN:
        return "p50_us"
    if workload.way is Way.CONTROLLED:
        return "p99_us"
    if workload.way is Way.IDLE:
        return "kib_unused"
    if workload.plan_pushes:
        return "longest_us"
    if workload.beside is not None:
        return "p99_us"
    return "mb_per_cpu_second" if workload.bulk else "cpu_us_per_request"


def describe_machine() -> dict[str, object]:
    """Return what a reader needs to judge the figures; never a host's name."""
    cpu = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            cpu = line.partition(":")[2].strip()
            break
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "kernel": platform.release().partition("-")[0],
        "python": platform.python_version() + _python_build(),
        "load_average_before": round(os.getloadavg()[0], 2),
    }


def _python_build() -> str:
    # An interpreter built without profile-guided optimization is markedly slower, and many are built so.
    is_optimized = "--enable-optimizations" in (sysconfig.get_config_var("CONFIG_ARGS") or "")
    return "" if is_optimized else " (built without profile-guided optimization)"


def describe_commit() -> str:
    """Return the short commit, `-dirty` when files differ from it, or "none" outside a repository."""
    head = _git("rev-parse", "--short=12", "HEAD")
    if head is None:
        return "none"
    return f"{head}-dirty" if _git("status", "--porcelain") else head


def _git(*arguments: str) -> str | None:
    try:
        answer = subprocess.run(("git", *arguments), capture_output=True, text=True, cwd=ROOT, check=False)
    except FileNotFoundError:
        return None
    return answer.stdout.strip() if answer.returncode == 0 else None


def _cells(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    return [
        (
            row.workload,
            row.subject,
            *(_figure(row, name) for name in _COLUMNS),
            _busy(row),
            _load_busy(row),
            str(row.errors),
        )
        for row in rows
    ]


def _figure(row: Row, name: str) -> str:
    if name not in row.spread:
        return "-"
    low, high = row.spread[name]
    return f"{_number(getattr(row, name))} ({_number(low)} - {_number(high)})"


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}"


def _busy(row: Row) -> str:
    if row.cpu_us_per_request is None or row.requests_per_second is None:
        return "-"
    return f"{row.cpu_us_per_request * row.requests_per_second / 1e4:.0f} %"


def _load_busy(row: Row) -> str:
    return "-" if row.load_share is None else f"{row.load_share:.0%}".replace("%", " %")


_RATIO_COLUMNS = ("workload", "ratio", "figure", "measured", "must", "aim", "judgement")


def _ratio_cells(judged: Judged) -> tuple[str, ...]:
    target, ratio = judged.target, judged.ratio
    measured = "-" if ratio is None else f"{ratio.median:.3f} ({ratio.lowest:.3f} - {ratio.highest:.3f})"
    return (
        target.workload,
        target.sides,
        _FIGURE_NAMES[target.figure],
        measured,
        _bound(target, target.must),
        _bound(target, target.aim),
        judged.judgement.value,
    )


def _bound(target: Target, bound: float | None) -> str:
    if bound is None:
        return "-"
    return f"{'>=' if target.higher_is_better else '<='} {bound:.2f}"


def _markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    return lines + ["| " + " | ".join(cells) + " |" for cells in rows]
