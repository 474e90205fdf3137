"""What `status` and `top` show: gathered from a control plane and its gateways, then turned into rows."""

import re
import ssl
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from control_client.documents import DocumentError, DocumentSession

# Asked side by side; a gateway that hangs costs the others nothing.
MAX_GATEWAYS_AT_ONCE: Final = 16
_SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$")
_LABEL = re.compile(r'(\w+)="([^"]*)"')


class Metrics:
    """One scrape: samples by name and labels, so that sums can be asked for."""

    def __init__(self, text: str = "") -> None:
        self._samples: list[tuple[str, dict[str, str], float]] = []
        for line in text.splitlines():
            found = _SAMPLE.match(line)
            if found is not None and not line.startswith("#"):
                self._samples.append((found[1], dict(_LABEL.findall(found[2] or "")), float(found[3])))

    def total(self, name: str, **labels: str) -> float:
        """Return the sum of the samples of one metric that carry these labels."""
        return self.by(name, *labels).get(tuple(labels.values()), 0.0)

    def by(self, name: str, *labels: str) -> dict[tuple[str, ...], float]:
        """Return the samples of one metric, summed by the values of these labels."""
        found: dict[tuple[str, ...], float] = {}
        for sample, given, value in self._samples:
            if sample == name:
                key = tuple(given.get(label, "") for label in labels)
                found[key] = found.get(key, 0.0) + value
        return found


class GatewayAccess(NamedTuple):
    """How gateways off loopback are asked: a service token for them, and whom to trust where not the system's roots."""

    token: str | None = None
    trust: ssl.SSLContext | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayView:
    """One gateway as it answers now; fault says why it does not."""

    gateway_id: str
    admin_url: str
    sandboxes: tuple[Mapping[str, object], ...] = ()
    metrics: Metrics = field(default_factory=Metrics)
    readiness: str = ""
    fault: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """Everything at one moment. `at` is in seconds of any clock that does not jump."""

    at: float
    sandboxes: tuple[Mapping[str, object], ...]
    gateways: tuple[GatewayView, ...]


def gather(control: DocumentSession, access: GatewayAccess, at: float) -> Overview:
    """Ask the control plane and every gateway it knows; raises DocumentError when the control plane does not answer."""
    gateways = _items(control.get("/internal/gateways"))
    sandboxes = tuple(_all_items(control, "/v1/sandboxes"))
    with ThreadPoolExecutor(MAX_GATEWAYS_AT_ONCE) as threads:
        views = tuple(threads.map(lambda entry: _view(entry, access), gateways))
    return Overview(at=at, sandboxes=sandboxes, gateways=views)


def sandbox_rows(overview: Overview) -> list[tuple[str, ...]]:
    """Return a row for each sandbox: id, organization, plan revision, gateway, tunnel, streams."""
    held = {
        str(sandbox.get("sandboxId")): (view.gateway_id, sandbox)
        for view in overview.gateways
        for sandbox in sorted(view.sandboxes, key=lambda sandbox: bool(sandbox.get("tunnel")))
    }
    rows: list[tuple[str, ...]] = []
    for sandbox in overview.sandboxes:
        sandbox_id = str(sandbox.get("sandboxId"))
        gateway_id, seen = held.get(sandbox_id, ("-", {}))
        rows.append(
            (
                sandbox_id,
                str(sandbox.get("organizationId")),
                str(seen.get("planRevision") or "-"),
                gateway_id,
                "up" if seen.get("tunnel") else "-",
                str(seen.get("streams", 0)),
            )
        )
    return rows


def gateway_rows(overview: Overview, before: Overview | None) -> list[tuple[str, ...]]:
    """Return a row for each gateway: id, state, tunnels, streams, requests, denied, failed; rates where `before` is."""
    earlier = {view.gateway_id: view for view in before.gateways} if before is not None else {}
    seconds = overview.at - before.at if before is not None else 0.0
    rows: list[tuple[str, ...]] = []
    for view in overview.gateways:
        if view.fault is not None:
            rows.append((view.gateway_id, view.fault, "-", "-", "-", "-", "-"))
            continue
        now, then = view.metrics, earlier[view.gateway_id].metrics if view.gateway_id in earlier else None
        counts = [
            _rate(_requests(now, outcomes), None if then is None else _requests(then, outcomes), seconds)
            for outcomes in (None, ("denied",), ("failed",))
        ]
        tunnels, streams = (f"{now.total(f'sallyport_active_{what}'):.0f}" for what in ("tunnels", "streams"))
        rows.append((view.gateway_id, view.readiness, tunnels, streams, *counts))
    return rows


def denial_rows(overview: Overview) -> list[tuple[str, str]]:
    """Return how often each code was answered, by all gateways together, the most frequent first."""
    return _counted("sallyport_denied_total", "code", overview)


def credential_rows(overview: Overview) -> list[tuple[str, str]]:
    """Return how credential resolutions ended, by all gateways together."""
    return _counted("sallyport_credential_resolutions_total", "result", overview)


def overview_document(overview: Overview) -> dict[str, object]:
    """Return all of it for programs."""
    return {
        "sandboxes": [
            dict(zip(("sandboxId", "organizationId", "planRevision", "gateway", "tunnel", "streams"), row, strict=True))
            for row in sandbox_rows(overview)
        ],
        "gateways": [
            dict(zip(("id", "state", "tunnels", "streams", "requests", "denied", "failed"), row, strict=True))
            for row in gateway_rows(overview, None)
        ],
        "denials": dict(denial_rows(overview)),
        "credentials": dict(credential_rows(overview)),
    }


def _view(entry: Mapping[str, object], access: GatewayAccess) -> GatewayView:
    gateway_id, admin_url = str(entry.get("id")), str(entry.get("adminUrl"))
    try:
        session = DocumentSession(admin_url, access.token, trust=access.trust, timeout_seconds=3.0)
        sandboxes = tuple(_items(session.get("/v1/sandboxes")))
        metrics = Metrics(session.ask("GET", "/metrics").decode("utf-8", "replace"))
        readiness = _readiness(session)
    except (DocumentError, ValueError) as error:
        return GatewayView(gateway_id=gateway_id, admin_url=admin_url, fault=str(error).partition("\n")[0])
    return GatewayView(
        gateway_id=gateway_id, admin_url=admin_url, sandboxes=sandboxes, metrics=metrics, readiness=readiness
    )


def _readiness(session: DocumentSession) -> str:
    try:
        reasons = session.get("/readyz").get("reasons")
    except DocumentError as error:
        if error.status == 503:
            return "not ready"
        raise
    return f"ready ({', '.join(map(str, reasons))})" if isinstance(reasons, list) and reasons else "ready"


def _all_items(control: DocumentSession, path: str) -> Iterable[Mapping[str, object]]:
    cursor = ""
    while True:
        page = control.get(f"{path}?limit=100{f'&cursor={cursor}' if cursor else ''}")
        yield from _items(page)
        following = page.get("nextCursor")
        if not isinstance(following, str) or following == cursor:
            return
        cursor = following


def _items(document: Mapping[str, object]) -> list[Mapping[str, object]]:
    items = document.get("items")
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []


def _requests(metrics: Metrics, outcomes: tuple[str, ...] | None) -> float:
    by_outcome = metrics.by("sallyport_requests_total", "outcome")
    return sum(value for (outcome,), value in by_outcome.items() if outcomes is None or outcome in outcomes)


def _rate(now: float, then: float | None, seconds: float) -> str:
    if then is None or seconds <= 0:
        return f"{now:.0f}"
    # A gateway that was restarted counts from nothing again.
    return f"{max(0.0, now - then) / seconds:.1f}/s"


def _counted(metric: str, label: str, overview: Overview) -> list[tuple[str, str]]:
    counted: dict[str, float] = {}
    for view in overview.gateways:
        for (value,), number in view.metrics.by(metric, label).items():
            counted[value] = counted.get(value, 0.0) + number
    ordered = sorted(counted.items(), key=lambda pair: (-pair[1], pair[0]))
    return [(value, f"{number:.0f}") for value, number in ordered if number]
