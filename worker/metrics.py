"""What the worker counts (docs/operations/metrics.md has a row for each name). Labels are closed lists."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from worker.application import ApplicationState
from worker.integrations.integration import Status
from worker.reconciliation import OUTCOMES, Rounds

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
# What an application that was carried out here can come to here; the other ends are somebody else's doing.
ENDED: Final = (ApplicationState.APPLIED, ApplicationState.FAILED)


class Metrics:
    """Reads what there is when someone scrapes."""

    def __init__(
        self,
        *,
        servers: Callable[[], Sequence[Status]],
        applications: Callable[[], Mapping[ApplicationState, int]],
        running: Callable[[], int],
        rounds: Callable[[], Mapping[str, Rounds]],
    ) -> None:
        self._servers = servers
        self._applications = applications
        self._running = running
        self._rounds = rounds
        self._registry = CollectorRegistry()
        self._registry.register(_Families(self))
        ProcessCollector(registry=self._registry)

    def render(self) -> bytes:
        """Return the exposition."""
        return generate_latest(self._registry)

    def families(self) -> Iterable[Metric]:
        """Yield every family."""
        running = "Applications that this worker carries out now."
        yield GaugeMetricFamily("sallyport_worker_applications_running", running, value=self._running())
        applications = CounterMetricFamily(
            "sallyport_worker_applications", "Applications that ended here.", labels=["state"]
        )
        for state in ENDED:
            applications.add_metric([state.value], self._applications().get(state, 0))
        yield applications
        servers = GaugeMetricFamily("sallyport_worker_servers", "Integration servers by status.", labels=["status"])
        counts = Counter(self._servers())
        for status in Status:
            servers.add_metric([status.value], counts[status])
        yield servers
        yield from self._drift()

    def _drift(self) -> Iterable[Metric]:
        drift = CounterMetricFamily(
            "sallyport_worker_drift", "Differences of declared and actual.", labels=["part", "outcome"]
        )
        left = GaugeMetricFamily(
            "sallyport_worker_drift_left", "Differences that the last round could not repair.", labels=["part"]
        )
        blind = GaugeMetricFamily(
            "sallyport_worker_reconciliation_blind", "1 while a part cannot be compared.", labels=["part"]
        )
        for name, rounds in self._rounds().items():
            for outcome in OUTCOMES:
                drift.add_metric([name, outcome], rounds.counts[outcome])
            left.add_metric([name], len(rounds.failing))
            blind.add_metric([name], int(rounds.issue is not None))
        yield from (drift, left, blind)


class _Families(Collector):
    """What prometheus_client calls at a scrape."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics.families()
