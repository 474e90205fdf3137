"""What a control plane counts (docs/operations/metrics.md has a row for each name).

Whoever counts adds to plain integers, which become text when someone scrapes. Labels are closed lists: never a host, an
id, an organization; of a path only what the API calls it.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Final

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from control_plane.oauth.provider_error import Fault
from control_plane.push.emitter import ATTEMPT_RESULTS
from control_plane.refusals import ControlCode

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
PREFIX: Final = "sallyport_control_plane_"

STATUSES: Final = ("1xx", "2xx", "3xx", "4xx", "5xx")
RESOLVED: Final = "ok"
RESOLUTION_RESULTS: Final = (RESOLVED, *sorted({code.wire for code in ControlCode}))
MADE: Final = "made"
REFRESH_RESULTS: Final = (MADE, *(fault.value for fault in Fault))
# From an answer out of memory to a provider that is asked for ten seconds.
DURATION_BOUNDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
# A change is known to the second; a subscriber who is back after a night hears of it then.
PUSH_DELAY_BOUNDS: Final = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 21600.0)
# Sizes that their owners know.
WATCHED: Final = ("watch_streams", "live_pages", "database_errors")


class ControlMetrics:
    """The counters of one process."""

    def __init__(self) -> None:
        # Events on their way to subscribers, of all replicas; None where the database did not say.
        self.deliveries_pending: int | None = None
        self._requests: Counter[tuple[str, str, str]] = Counter()
        self._durations = [0] * (len(DURATION_BOUNDS) + 1)
        self._seconds = 0.0
        self._resolutions = dict.fromkeys(RESOLUTION_RESULTS, 0)
        self._refreshes = dict.fromkeys(REFRESH_RESULTS, 0)
        self._pushes = dict.fromkeys(ATTEMPT_RESULTS, 0)
        self._push_delays = [0] * (len(PUSH_DELAY_BOUNDS) + 1)
        self._push_seconds = 0.0
        self._watched: dict[str, Callable[[], int]] = {}
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_Families(self))
        ProcessCollector(registry=self._registry)

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one request, by the path that the API calls it by; what is no path of it has none."""
        self._requests[method, route, STATUSES[status // 100 - 1]] += 1
        self._durations[bisect_left(DURATION_BOUNDS, seconds)] += 1
        self._seconds += seconds

    def resolved(self, result: str) -> None:
        """Count one resolution. result is one of RESOLUTION_RESULTS."""
        self._resolutions[result] += 1

    def refreshed(self, result: str) -> None:
        """Count one question to a provider for a credential. result is one of REFRESH_RESULTS."""
        self._refreshes[result] += 1

    def pushed(self, result: str, seconds: float | None) -> None:
        """Count one attempt to tell a subscriber, and how long after its change it was delivered.

        result is one of ATTEMPT_RESULTS.
        """
        self._pushes[result] += 1
        if seconds is not None:
            self._push_delays[bisect_left(PUSH_DELAY_BOUNDS, seconds)] += 1
            self._push_seconds += seconds

    def watch(self, name: str, read: Callable[[], int]) -> None:
        """Read a size at each scrape; name is one of WATCHED."""
        if name not in WATCHED:
            raise ValueError(f"{name} is not one of {', '.join(WATCHED)}")
        self._watched[name] = read

    def render(self) -> bytes:
        """Return everything in Prometheus' text format."""
        return generate_latest(self._registry)

    def families(self) -> Iterator[Metric]:
        """Yield every metric of ours with its present values."""
        requests = CounterMetricFamily(
            f"{PREFIX}requests", "Requests that were answered.", labels=["method", "route", "status"]
        )
        for labels, number in sorted(self._requests.items()):
            requests.add_metric(list(labels), number)
        yield requests
        answered = "From a request's head to the head of its answer."
        yield _histogram("request_duration_seconds", answered, DURATION_BOUNDS, self._durations, self._seconds)
        yield _counters("resolutions", "Credentials that gateways asked for.", self._resolutions)
        yield _counters("refreshes", "Credentials that providers were asked for.", self._refreshes)
        yield _counters("pushes", "Attempts to tell subscribers of pushes.", self._pushes)
        delivered = "From a change to the push of it that was delivered."
        yield _histogram("push_delay_seconds", delivered, PUSH_DELAY_BOUNDS, self._push_delays, self._push_seconds)
        yield self._gauge("watch_streams", "Watch streams open now.")
        yield self._gauge("live_pages", "Live pages open now.")
        pending = GaugeMetricFamily(f"{PREFIX}webhook_deliveries_pending", "Events on their way to subscribers.")
        if self.deliveries_pending is not None:
            pending.add_metric([], self.deliveries_pending)
        yield pending
        yield CounterMetricFamily(
            f"{PREFIX}database_errors", "Transactions that the database failed.", value=self._watch("database_errors")
        )

    def _gauge(self, name: str, meaning: str) -> Metric:
        return GaugeMetricFamily(f"{PREFIX}{name}", meaning, value=self._watch(name))

    def _watch(self, name: str) -> int:
        read = self._watched.get(name)
        return 0 if read is None else read()


class _Families(Collector):
    """What prometheus_client calls at a scrape."""

    def __init__(self, metrics: ControlMetrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics.families()


def _histogram(name: str, meaning: str, bounds: Sequence[float], counts: Sequence[int], total: float) -> Metric:
    named = zip([*map(str, bounds), "+Inf"], accumulate(counts), strict=True)
    buckets = [(bound, float(count)) for bound, count in named]
    return HistogramMetricFamily(f"{PREFIX}{name}", meaning, buckets=buckets, sum_value=total)


def _counters(name: str, meaning: str, numbers: dict[str, int]) -> Metric:
    family = CounterMetricFamily(f"{PREFIX}{name}", meaning, labels=["result"])
    for value, number in numbers.items():
        family.add_metric([value], number)
    return family
