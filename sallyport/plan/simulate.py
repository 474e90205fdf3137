"""Recorded requests asked of a candidate plan: what would become of each, those that change first."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from sallyport.plan.explain import Explanation, explain
from sallyport.plan.match import Matcher
from sallyport.plan.model import CompiledRuntimePlan

# A refusal is compared with every route; this many take a second with a large plan.
MAX_REQUESTS: Final = 1_000
_ROUTE_NAMES: Final = {"egress_rule_id", "binding_id", "family_id", "variant_id", "match"}


class RecordedRequest(NamedTuple):
    """A request as it was made: the method, and the whole URL."""

    method: str
    url: str


class RecordingError(ValueError):
    """Not a recording; the text says what was expected."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulated:
    """What becomes of one request; `before` is None where there was nothing to compare with."""

    request: RecordedRequest
    count: int
    is_changed: bool
    before: Explanation | None
    after: Explanation

    def to_document(self) -> dict[str, object]:
        """The result as JSON carries it."""
        before = {} if self.before is None else {"before": _short(self.before)}
        own = {"method": self.request.method, "url": self.request.url, "count": self.count, "changed": self.is_changed}
        return own | before | {"after": _short(self.after)}


def read_har(document: object) -> list[RecordedRequest]:
    """Return the requests of a HAR document (1.2) in its order. Raises RecordingError."""
    log = document.get("log") if isinstance(document, Mapping) else None
    entries = log.get("entries") if isinstance(log, Mapping) else None
    if not isinstance(entries, list):
        raise RecordingError("a HAR document has log.entries")
    requests = []
    for entry in entries:
        request = entry.get("request") if isinstance(entry, Mapping) else None
        method, url = (request.get("method"), request.get("url")) if isinstance(request, Mapping) else (None, None)
        if not isinstance(method, str) or not isinstance(url, str):
            raise RecordingError("each entry of a HAR document has request.method and request.url")
        requests.append(RecordedRequest(method, url))
    return requests


def simulate(
    requests: Sequence[RecordedRequest], candidate: CompiledRuntimePlan, before: CompiledRuntimePlan | None
) -> list[Simulated]:
    """Ask each different request of a candidate plan, and of the plan before where there is one."""
    counts: dict[RecordedRequest, int] = {}
    for request in requests:
        counts[request] = counts.get(request, 0) + 1
    new, old = _Plan(candidate), None if before is None else _Plan(before)
    found = []
    for request, count in counts.items():
        after, was = new.explain(request), None if old is None else old.explain(request)
        is_changed = was is not None and old is not None and old.effect(was) != new.effect(after)
        found.append(Simulated(request=request, count=count, is_changed=is_changed, before=was, after=after))
    return sorted(found, key=lambda each: not each.is_changed)


class _Plan:
    """A plan compiled once for many questions."""

    def __init__(self, plan: CompiledRuntimePlan) -> None:
        self._plan = plan
        self._matcher = Matcher(plan)
        self._routes = {route.egress_rule_id: route for route in plan.egress_routes}

    def explain(self, request: RecordedRequest) -> Explanation:
        return explain(self._plan, *request, matcher=self._matcher)

    def effect(self, explained: Explanation) -> object:
        """Return what is compared: the decision and what the route does, not what it is called."""
        route = self._routes.get(explained.egress_rule_id or "")
        does = route.model_dump(exclude=_ROUTE_NAMES) if route is not None else None
        return explained.decision, explained.code, explained.managed, explained.sent_url, does


def _short(explained: Explanation) -> dict[str, object]:
    document = explained.to_document()
    return {name: value for name, value in document.items() if name not in ("method", "url")}
