"""From tallies to figures: one sample per round, medians and spread over rounds, ratios between subjects."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from enum import Enum
from statistics import median

from benchmarks.load import Tally
from benchmarks.workloads.workload import Way, Workload


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One subject in one round. A figure that could not be taken is None.

    `load_share`: the share of its core that the load took; near 1 it was the limit. `resident_mib` only where the
    subject's memory was asked for, before each round's first request; `grown_mib`: by how much it was more at the
    end. `longest_us` is the longest that a request of the open loop took; `resolutions` is how often a control
    plane was asked for the credential; `kib_*` are of each idle tunnel, never used and after it was.
    """

    cpu_us_per_request: float | None
    requests_per_second: float
    p50_us: float | None
    p99_us: float | None
    mb_per_cpu_second: float | None
    load_share: float | None = None
    resident_mib: float | None = None
    grown_mib: float | None = None
    longest_us: float | None = None
    resolutions: float | None = None
    kib_unused: float | None = None
    kib_after_burst: float | None = None


FIGURES = tuple(field.name for field in fields(Sample))


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One subject over all rounds: medians, and for each figure its lowest and highest round in `spread`."""

    workload: str
    subject: str
    cpu_us_per_request: float | None
    requests_per_second: float | None
    p50_us: float | None
    p99_us: float | None
    mb_per_cpu_second: float | None
    load_share: float | None = None
    resident_mib: float | None = None
    grown_mib: float | None = None
    longest_us: float | None = None
    resolutions: float | None = None
    kib_unused: float | None = None
    kib_after_burst: float | None = None
    errors: int
    rounds: int
    spread: dict[str, tuple[float, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """`median` of the ratios (or differences) of the rounds; both sides of each come from the same round."""

    median: float
    lowest: float
    highest: float


def percentile(values: Sequence[float], share: float) -> float | None:
    """Return the smallest value that at least `share` (0 to 1) of `values` do not exceed; None when there are none."""
    if not values:
        return None
    rank = -(-len(values) * share // 1)
    return sorted(values)[max(0, int(rank) - 1)]


def take_sample(tally: Tally, workload: Workload) -> Sample | None:
    """Return the figures of one measurement, or None when nothing was answered."""
    if not tally.answered:
        return None
    cpu = tally.cpu_seconds or None  # less than a tick is no figure: the subject did not get to run
    if workload.tick_seconds:
        cpu = None  # most of it went into what was beside, which is not what was counted
    moved = tally.answered * (len(workload.answer_body) + len(workload.request_body)) / 1e6
    return Sample(
        cpu_us_per_request=None if cpu is None else cpu / tally.answered * 1e6,
        requests_per_second=tally.answered / tally.seconds,
        p50_us=percentile(tally.latencies_us, 0.50),
        p99_us=percentile(tally.latencies_us, 0.99),
        mb_per_cpu_second=moved / cpu if cpu and workload.way is not Way.IDLE else None,
        load_share=tally.load_share,
        resident_mib=tally.resident_mib if workload.way is Way.SANDBOXD else None,
        grown_mib=tally.grown_mib if workload.beside_bytes_per_second else None,
        longest_us=max(tally.latencies_us, default=None),
        resolutions=tally.resolutions,
        kib_unused=tally.kib_unused,
        kib_after_burst=tally.kib_after_burst,
    )


def summarize(workload: str, subject: str, samples: Sequence[Sample], errors: int) -> Row:
    """Return the row of one subject; `samples` may be empty when every round failed."""
    medians: dict[str, float | None] = {}
    spread: dict[str, tuple[float, float]] = {}
    for name in FIGURES:
        values = [value for sample in samples if (value := getattr(sample, name)) is not None]
        medians[name] = round(median(values), 2) if values else None
        if values:
            spread[name] = (round(min(values), 2), round(max(values), 2))
    return Row(
        workload=workload, subject=subject, errors=errors, rounds=len(samples), spread=spread, **medians
    )  # fmt: skip


class Comparison(Enum):
    """How two figures are held against each other, or one against a bound of its own."""

    RATIO = "/"
    DIFFERENCE = "-"
    ALONE = ""


def compare(
    figure: str,
    own: Sequence[Sample | None],
    peer: Sequence[Sample | None],
    comparison: Comparison = Comparison.RATIO,
) -> Ratio | None:
    """Return own / peer, round by round (None: that round failed), or None when no round has both.

    Alone, own is held against nothing, and peer is not looked at.
    """
    pairs = zip(own, own if comparison is Comparison.ALONE else peer, strict=False)
    ratios = sorted(
        _compare_one(mine, theirs, comparison)
        for left, right in pairs
        if (mine := getattr(left, figure, None)) is not None
        and (theirs := getattr(right, figure, None)) is not None
        and (theirs or comparison is not Comparison.RATIO)
    )
    if not ratios:
        return None
    return Ratio(median=median(ratios), lowest=ratios[0], highest=ratios[-1])


def _compare_one(mine: float, theirs: float, comparison: Comparison) -> float:
    match comparison:
        case Comparison.RATIO:
            return mine / theirs
        case Comparison.DIFFERENCE:
            return mine - theirs
        case Comparison.ALONE:
            return mine


def order_of_round(subjects: Sequence[str], number: int) -> list[str]:
    """Return the subjects rotated, so that none always follows the same other one."""
    turn = number % max(1, len(subjects))
    return [*subjects[turn:], *subjects[:turn]]
