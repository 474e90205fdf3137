"""What the gateway must reach beside its peers, and the judgement of one run."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

from benchmarks.figures import Comparison, Ratio

_CPU = "cpu_us_per_request"
_BULK = "mb_per_cpu_second"
_RATE = "requests_per_second"
_P50, _P99 = "p50_us", "p99_us"
_RESIDENT, _GROWN = "resident_mib", "grown_mib"
_LONGEST = "longest_us"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """subject's figure / peer's figure. `must` and `aim` are upper bounds for cost and lower bounds for throughput.

    Without `must` the ratio is shown and judges nothing. The peer's figure may come from another workload of the run.
    On a machine with fewer `cores` the ratio says nothing and is judged by nobody.
    """

    workload: str
    subject: str
    peer: str
    figure: str = _CPU
    must: float | None = None
    aim: float | None = None
    peer_workload: str = ""
    comparison: Comparison = Comparison.RATIO
    cores: int = 2

    @property
    def sides(self) -> str:
        """Both sides as they stand in tables."""
        if self.comparison is Comparison.ALONE:
            return self.subject
        other = f"{self.peer} in {self.peer_workload}" if self.peer_workload else self.peer
        return f"{self.subject} {self.comparison.value} {other}"

    @property
    def higher_is_better(self) -> bool:
        return self.figure in (_BULK, _RATE)

    def admits(self, ratio: float) -> bool:
        """Say whether `ratio` keeps the `must`."""
        if self.must is None:
            return True
        return ratio >= self.must if self.higher_is_better else ratio <= self.must


class Judgement(Enum):
    MET = "met"
    MISSED = "missed"
    SHOWN = ""
    NOT_MEASURED = "not measured"
    TOO_FEW_CORES = "too few cores"


_OWN = ("sallyport-pure", "sallyport")


def _sandbox_side(subject: str) -> Iterator[Target]:
    """The rows with a tunnel have the same bounds whatever the code was made by."""
    explicit = "small_get"
    yield Target(workload="tunnel_1", subject=subject, peer=subject, peer_workload="small_get_1")
    yield Target(workload="tunnel_64", subject=subject, peer=subject, peer_workload=explicit, must=1.1, aim=0.9)
    yield Target(workload="tunnel_512", subject=subject, peer=subject, peer_workload=explicit)
    slow = "slow_reader"
    yield Target(workload=slow, subject=subject, peer=subject, peer_workload="tunnel_100", figure=_P99, must=1.5)
    yield Target(workload=slow, subject=subject, peer=subject, comparison=Comparison.ALONE, figure=_GROWN, must=32.0)
    yield Target(
        workload="sse_beside_bulk",
        subject=subject,
        peer=subject,
        comparison=Comparison.ALONE,
        figure=_P99,
        must=10_000.0,
        aim=3_000.0,
    )
    for workload, unused in (("idle_ws", 16.0), ("idle_wss", 64.0)):
        for figure, must in (("kib_unused", unused), ("kib_after_burst", 160.0)):
            yield Target(
                workload=workload, subject=subject, peer=subject, comparison=Comparison.ALONE, figure=figure, must=must
            )
    alone, chain = "sandboxd_intercepted", "chain_400"
    yield Target(workload=alone, subject=subject, peer=subject, comparison=Comparison.ALONE, must=45.0, aim=30.0)
    yield Target(
        workload=alone,
        subject=subject,
        peer=subject,
        comparison=Comparison.ALONE,
        figure=_RESIDENT,
        must=48.0,
        aim=32.0,
    )
    yield Target(
        workload=chain, subject=subject, peer="direct", comparison=Comparison.DIFFERENCE, figure=_P50, must=1000.0
    )
    for figure in (_P50, _P99):
        yield Target(workload=chain, subject=subject, peer="two-relays", figure=figure, must=3.0, aim=2.0)


def _by_door(subject: str) -> Iterator[Target]:
    """The rows with TLS, opaque bytes and plans of many routes: the same bounds again, whatever made the code."""
    yield Target(workload="tls_tls", subject=subject, peer="nginx", must=1.7, aim=1.2)
    yield Target(workload="cold_intercept", subject=subject, peer="mitmproxy", must=0.25, aim=0.1)
    yield Target(workload="passthrough_bulk", subject=subject, peer="go-std", figure=_BULK, must=0.6, aim=0.9)
    yield Target(
        workload="routes_1000",
        subject=subject,
        peer=subject,
        peer_workload="routes_10",
        comparison=Comparison.DIFFERENCE,
        must=2.0,
        aim=1.0,
    )
    yield Target(
        workload="plan_swap",
        subject=subject,
        peer=subject,
        comparison=Comparison.ALONE,
        figure=_LONGEST,
        must=20_000.0,
        aim=5_000.0,
    )
    yield Target(
        workload="cold_credential",
        subject=subject,
        peer=subject,
        comparison=Comparison.ALONE,
        figure="resolutions",
        must=1.0,
    )
    yield Target(workload="small_get", subject=f"{subject}-2", peer=subject, figure=_RATE, must=1.8, cores=3)


TARGETS = (
    Target(workload="small_get", subject="sallyport-pure", peer="envoy", must=0.60, aim=0.50),
    Target(workload="small_get", subject="sallyport-pure", peer="nginx"),
    Target(workload="small_get", subject="sallyport-pure", peer="mitmproxy"),
    Target(workload="post_10k", subject="sallyport-pure", peer="envoy"),
    Target(workload="post_10k", subject="sallyport-pure", peer="nginx"),
    Target(workload="get_1m", subject="sallyport-pure", peer="envoy", figure=_BULK),
    Target(workload="get_1m", subject="sallyport-pure", peer="nginx", figure=_BULK),
    Target(workload="small_get", subject="sallyport", peer="envoy", must=0.50),
    Target(workload="small_get", subject="sallyport", peer="sallyport-pure"),
    Target(workload="small_get", subject="sallyport", peer="nginx", must=1.8, aim=1.2),
    Target(workload="small_get_varied", subject="sallyport", peer="envoy"),
    Target(workload="small_get_varied", subject="sallyport", peer="nginx"),
    Target(workload="small_get_varied", subject="sallyport-pure", peer="envoy"),
    Target(workload="small_get", subject="sallyport", peer="haproxy"),
    Target(workload="small_get", subject="sallyport", peer="go-std"),
    Target(workload="small_get", subject="sallyport", peer="goproxy", must=0.60),
    Target(workload="small_get", subject="sallyport", peer="aiohttp", must=0.14),
    Target(workload="small_get", subject="sallyport", peer="mitmproxy", must=0.02),
    Target(workload="post_10k", subject="sallyport", peer="nginx", must=1.8, aim=1.2),
    Target(workload="get_1m", subject="sallyport", peer="nginx", figure=_BULK, must=0.8, aim=1.0),
    Target(workload="get_1m", subject="sallyport-unscrubbed", peer="nginx", figure=_BULK, must=1.2, aim=1.5),
    Target(workload="get_1m", subject="sallyport-pure-unscrubbed", peer="nginx", figure=_BULK),
    *(target for subject in _OWN for target in _by_door(subject)),
    *(target for subject in _OWN for target in _sandbox_side(subject)),
)


def targets_for(
    workloads: Sequence[str], subjects: Sequence[str], left_out: Collection[str] = frozenset()
) -> list[Target]:
    """Return the targets of what was asked for; a peer that was not asked for leaves its target not measured.

    One that judges nothing is left out where the other workload that it looks at was not asked for; so is any
    against who is `left_out` without having been asked about.
    """

    def is_told(target: Target) -> bool:
        return target.must is not None or (target.peer_workload or target.workload) in workloads

    asked = [
        target
        for target in TARGETS
        if target.workload in workloads and target.subject in subjects and target.peer not in left_out
    ]
    return [target for target in asked if is_told(target)]


def judge(target: Target, ratio: Ratio | None, cores: int = 2) -> Judgement:
    """Judge one target on a machine of so many cores."""
    if cores < target.cores:
        return Judgement.TOO_FEW_CORES
    if ratio is None:
        return Judgement.NOT_MEASURED
    if target.must is None:
        return Judgement.SHOWN
    return Judgement.MET if target.admits(ratio.median) else Judgement.MISSED
