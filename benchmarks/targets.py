"""What the gateway must reach beside its peers, and the judgement of one run."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from benchmarks.figures import Ratio

_CPU = "cpu_us_per_request"
_BULK = "mb_per_cpu_second"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """subject's figure / peer's figure. `must` and `aim` are upper bounds for cost and lower bounds for throughput.

    Without `must` the ratio is shown and judges nothing.
    """

    workload: str
    subject: str
    peer: str
    figure: str = _CPU
    must: float | None = None
    aim: float | None = None

    @property
    def higher_is_better(self) -> bool:
        return self.figure == _BULK

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


TARGETS = (
    Target(workload="small_get", subject="sallyport-pure", peer="envoy", must=0.60, aim=0.50),
    Target(workload="small_get", subject="sallyport-pure", peer="nginx"),
    Target(workload="small_get", subject="sallyport-pure", peer="mitmproxy"),
    Target(workload="post_10k", subject="sallyport-pure", peer="envoy"),
    Target(workload="post_10k", subject="sallyport-pure", peer="nginx"),
    Target(workload="get_1m", subject="sallyport-pure", peer="envoy", figure=_BULK),
    Target(workload="get_1m", subject="sallyport-pure", peer="nginx", figure=_BULK),
    Target(workload="small_get", subject="sallyport", peer="envoy", must=0.50),
    Target(workload="small_get", subject="sallyport", peer="nginx", must=1.8, aim=1.2),
    Target(workload="small_get", subject="sallyport", peer="mitmproxy", must=0.02),
    Target(workload="post_10k", subject="sallyport", peer="nginx", must=1.8, aim=1.2),
    Target(workload="get_1m", subject="sallyport", peer="nginx", figure=_BULK, must=0.8, aim=1.0),
)


def targets_for(workloads: Sequence[str], subjects: Sequence[str]) -> list[Target]:
    """Return the targets of what was asked for; a peer that was not asked for leaves its target not measured."""
    return [target for target in TARGETS if target.workload in workloads and target.subject in subjects]


def judge(target: Target, ratio: Ratio | None) -> Judgement:
    if ratio is None:
        return Judgement.NOT_MEASURED
    if target.must is None:
        return Judgement.SHOWN
    return Judgement.MET if target.admits(ratio.median) else Judgement.MISSED
