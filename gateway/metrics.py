"""What the gateway counts (docs/operations/metrics.md has a row for each name).

The data path adds to plain integers; names, labels and text come into being when someone scrapes. Labels are
closed lists: never a host, a path, a sandbox or a request.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate
from typing import Final

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from control_client.session import OPERATIONS
from gateway.audit import Outcome
from gateway.build import codec_kind, version
from sallyport.problem import AuditCode, Code

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

OUTCOMES: Final = tuple(outcome.value for outcome in Outcome)
SOURCES: Final = ("explicit", "tunnel")
RESOLUTION_RESULTS: Final = ("resolved", "temporary", "permanent")
APPLY_RESULTS: Final = ("applied", "unchanged", "removed", "conflict", "invalid", "refused")
HANDSHAKE_RESULTS: Final = ("completed", "failed", "timeout", "http2_unsupported", "sni_mismatch")
DIRECTIONS: Final = ("up", "down")
# What the gateway itself shows, and what ends with a day that is written in it.
EXPIRIES: Final = ("admin_certificate", "tunnel_certificate", "service_token")
CONTROL_RESULTS: Final = ("ok", "temporary", "permanent")
PLAN_FETCH_RESULTS: Final = ("ok", "temporary", "permanent", "invalid", "mismatch")
# Everything a refusal can be called: the wire words, those only the audit log shows, and one for a word that is
# neither, so that a new one can never grow the label set by itself.
OTHER: Final = "other"
DENIED_CODES: Final = tuple(dict.fromkeys([*(code.wire for code in Code), *(code.wire for code in AuditCode), OTHER]))

# From a link on loopback to a language model that thinks: two to three steps per decade.
DURATION_BOUNDS: Final[tuple[float, ...]] = (
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
    60.0,
    300.0,
)
CONNECT_BOUNDS: Final[tuple[float, ...]] = (
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
)


class Histogram:
    """Counts of values in fixed buckets; the last count is of those above every bound."""

    __slots__ = ("_bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Add one value. A bound belongs to the bucket below it, as Prometheus' `le` says."""
        self.counts[bisect_left(self._bounds, value)] += 1
        self.total += value

    def buckets(self) -> list[tuple[str, float]]:
        """Return (upper bound, values up to it), cumulative, as the exposition format wants them."""
        bounds = [*map(str, self._bounds), "+Inf"]
        return list(zip(bounds, map(float, accumulate(self.counts)), strict=True))


class Metrics:
    """The counters of one process. Attributes without underscore are added to directly by whoever counts."""

    def __init__(self) -> None:
        self.upstream_link_reuse = 0
        self.credential_rejections = 0
        self.defects = 0
        self.scrub_matches = 0
        self.scrub_unscanned = 0
        self.scrub_short_secrets = 0
        self.streams_shed = 0
        self.request_duration = Histogram(DURATION_BOUNDS)
        self.upstream_connect = Histogram(CONNECT_BOUNDS)
        self.loop_lag = Histogram(CONNECT_BOUNDS)
        self.plan_propagation = Histogram(DURATION_BOUNDS)
        self._requests = {source: dict.fromkeys(OUTCOMES, 0) for source in SOURCES}
        self._denied = dict.fromkeys(DENIED_CODES, 0)
        self._resolutions = dict.fromkeys(RESOLUTION_RESULTS, 0)
        self._applied = dict.fromkeys(APPLY_RESULTS, 0)
        self._handshakes = dict.fromkeys(HANDSHAKE_RESULTS, 0)
        self.watch_connected = False
        self.watch_events = 0
        self._control = {operation: dict.fromkeys(CONTROL_RESULTS, 0) for operation in OPERATIONS}
        self._plan_fetches = dict.fromkeys(PLAN_FETCH_RESULTS, 0)
        # Sizes that their owners know: asked for at scrape instead of being kept twice.
        self._watched: dict[str, Callable[[], int]] = {}
        self._expiries: dict[str, Callable[[], float | None]] = {}
        self._build = {"version": version(), "codec": codec_kind()}
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_Families(self))
        ProcessCollector(registry=self._registry)

    def finished(self, outcome: str, source: str, seconds: float) -> None:
        """Count one exchange that ended. outcome is one of OUTCOMES, source one of SOURCES. Hot path."""
        self._requests[source][outcome] += 1
        durations = self.request_duration
        durations.counts[bisect_left(DURATION_BOUNDS, seconds)] += 1
        durations.total += seconds

    def denied(self, code: str) -> None:
        """Count one refusal by its wire word."""
        self._denied[code if code in self._denied else OTHER] += 1

    def connected(self, seconds: float) -> None:
        """Count one upstream link that was opened, TLS included."""
        self.upstream_connect.observe(seconds)

    def credential_resolved(self, result: str) -> None:
        """Count one resolution that ended. result is one of RESOLUTION_RESULTS."""
        self._resolutions[result] += 1

    def plan_applied(self, result: str) -> None:
        """Count one plan that came in. result is one of APPLY_RESULTS."""
        self._applied[result] += 1

    def handshake(self, result: str) -> None:
        """Count one interception handshake. result is one of HANDSHAKE_RESULTS."""
        self._handshakes[result] += 1

    def control_answered(self, operation: str, result: str) -> None:
        """Count one request to the control plane that ended."""
        self._control[operation][result] += 1

    def plan_fetched(self, result: str) -> None:
        """Count one plan body that was asked for. result is one of PLAN_FETCH_RESULTS."""
        self._plan_fetches[result] += 1

    def watch(self, name: str, read: Callable[[], int]) -> None:
        """Read a size at each scrape; name is one of WATCHED."""
        if name not in WATCHED:
            raise ValueError(f"{name} is not one of {', '.join(WATCHED)}")
        self._watched[name] = read

    def watched(self, name: str) -> int:
        """Return a watched size, 0 if nobody keeps it."""
        read = self._watched.get(name)
        return 0 if read is None else read()

    def watch_expiry(self, name: str, read: Callable[[], float | None]) -> None:
        """Read at each scrape in how many seconds something ends, None while nobody knows; name is of EXPIRIES."""
        if name not in EXPIRIES:
            raise ValueError(f"{name} is not one of {', '.join(EXPIRIES)}")
        self._expiries[name] = read

    def render(self) -> bytes:
        """Return everything in Prometheus' text format (CONTENT_TYPE)."""
        return generate_latest(self._registry)

    def families(self) -> Iterator[Metric]:
        """Yield every metric of ours with its present values."""
        yield from self._of_process()
        yield self._requests_total()
        yield _histogram("request_duration_seconds", "From a request's first byte to its end.", self.request_duration)
        yield _histogram("upstream_connect_seconds", "Opening an upstream link, TLS included.", self.upstream_connect)
        yield _counters("credential_resolutions", "Resolutions that ended.", "result", self._resolutions)
        rejections = self.credential_rejections
        yield _counter("credential_rejections", "401 answers of upstreams to an injected credential.", rejections)
        yield self._gauge("credential_cache_entries", "Credentials held in memory.")
        yield self._gauge("active_tunnels", "Tunnels open now.")
        yield self._gauge("active_streams", "Downstream streams open now.")
        carried = {direction: self.watched(f"tunnel_bytes_{direction}") for direction in DIRECTIONS}
        yield _counters("tunnel_bytes", "Bytes carried by tunnels.", "direction", carried)
        yield self._gauge(
            "tunnel_buffer_bytes",
            "Bytes held for streams of tunnels that do not take them, and of bodies kept to be signed.",
        )
        yield self._gauge("backlogged_sandboxes", "Sandboxes whose slow peers hold as much as they may.")
        yield self._gauge("plans_active", "Sandboxes with a plan.")
        yield _counters("plan_apply", "Plans that came in.", "result", self._applied)
        yield _counters("denied", "Refusals by the gateway.", "code", self._denied)
        yield _counters("interception_handshakes", "TLS handshakes with clients.", "result", self._handshakes)
        yield _counter("audit_dropped", "Audit records lost.", self.watched("audit_dropped"))
        yield self._gauge("audit_waiting", "Audit records that wait to be written.")
        yield self._gauge("upstream_links_open", "Upstream links open now.")
        yield self._gauge("upstream_links_idle", "Upstream links that wait in the pool.")
        yield _counter("upstream_link_reuse", "Exchanges that found an idle link.", self.upstream_link_reuse)
        yield _counter("scrub_matches", "Injected secrets found in answers and blanked.", self.scrub_matches)
        yield _counter("scrub_unscanned", "Answers whose coding kept them from being scanned.", self.scrub_unscanned)
        yield _counter("scrub_short_secrets", "Credentials too short to be looked for.", self.scrub_short_secrets)
        yield _counter("streams_shed", "Streams reset because the process held too much memory.", self.streams_shed)
        dropped = self.watched("anonymous_dropped")
        yield _counter("anonymous_dropped", "Streams without a token that made room for others.", dropped)
        yield from self._of_control()

    def _of_process(self) -> Iterator[Metric]:
        build = GaugeMetricFamily("sallyport_build_info", "Which gateway this is; always 1.", labels=list(self._build))
        build.add_metric(list(self._build.values()), 1)
        yield build
        yield self._gauge("ready", "Whether the gateway should get traffic.")
        yield _histogram("event_loop_lag_seconds", "How late the event loop came to a timer.", self.loop_lag)
        yield _counter("defects", "Tasks and callbacks of the gateway that failed.", self.defects)
        deaths = self.watched("serving_process_deaths")
        yield _counter("serving_process_deaths", "Serving processes that were started again.", deaths)
        expiry = GaugeMetricFamily("sallyport_expiry_seconds", "In how many seconds it ends.", labels=["of"])
        for name, read in self._expiries.items():
            seconds = read()
            if seconds is not None:
                expiry.add_metric([name], seconds)
        yield expiry

    def _of_control(self) -> Iterator[Metric]:
        family = CounterMetricFamily(
            "sallyport_control_requests", "Requests to the control plane that ended.", labels=["operation", "result"]
        )
        for operation, results in self._control.items():
            for result, number in results.items():
                family.add_metric([operation, result], number)
        yield family
        yield _gauge("control_watch_connected", "Whether the watch stream is open.", int(self.watch_connected))
        yield _counter("control_watch_events", "Events of the watch stream.", self.watch_events)
        yield _counters("plan_fetches", "Plan bodies that were asked for.", "result", self._plan_fetches)
        propagation = self.plan_propagation
        yield _histogram("plan_propagation_seconds", "From lacking an announced plan to having it.", propagation)
        yield self._gauge("plans_lacking_seconds", "How long the plan that is lacking for longest has been.")
        yield self._gauge("plans_stale_seconds", "How long the control plane has been silent.")
        failures = self.watched("state_write_failures")
        yield _counter("state_write_failures", "Files of the state directory that were not written.", failures)

    def _requests_total(self) -> Metric:
        family = CounterMetricFamily("sallyport_requests", "Exchanges that ended.", labels=["outcome", "source"])
        for source, outcomes in self._requests.items():
            for outcome, number in outcomes.items():
                family.add_metric([outcome, source], number)
        return family

    def _gauge(self, name: str, meaning: str) -> Metric:
        return _gauge(name, meaning, self.watched(name))


WATCHED: Final = (
    "ready",
    "serving_process_deaths",
    "credential_cache_entries",
    "plans_active",
    "audit_dropped",
    "audit_waiting",
    "active_streams",
    "anonymous_dropped",
    "active_tunnels",
    "backlogged_sandboxes",
    "plans_lacking_seconds",
    "plans_stale_seconds",
    "state_write_failures",
    "tunnel_buffer_bytes",
    "tunnel_bytes_up",
    "tunnel_bytes_down",
    "upstream_links_open",
    "upstream_links_idle",
)


class _Families(Collector):
    """What prometheus_client calls at a scrape."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics.families()


def _counters(name: str, meaning: str, label: str, numbers: dict[str, int]) -> Metric:
    family = CounterMetricFamily(f"sallyport_{name}", meaning, labels=[label])
    for value, number in numbers.items():
        family.add_metric([value], number)
    return family


def _counter(name: str, meaning: str, number: int) -> Metric:
    return CounterMetricFamily(f"sallyport_{name}", meaning, value=number)


def _gauge(name: str, meaning: str, number: int) -> Metric:
    return GaugeMetricFamily(f"sallyport_{name}", meaning, value=number)


def _histogram(name: str, meaning: str, histogram: Histogram) -> Metric:
    buckets = histogram.buckets()
    return HistogramMetricFamily(f"sallyport_{name}", meaning, buckets=buckets, sum_value=histogram.total)
