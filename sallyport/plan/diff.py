"""What changes between two plans, told by requests that would be answered differently.

Every claim of either plan cuts the requests into classes: a host it names, a port, a path prefix, a method. One witness
of each class is asked of both plans, so a difference that no witness shows does not exist, but for requests that are
refused because they have two readings.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final, assert_never

from sallyport.destination import DEFAULT_PORTS, Destination
from sallyport.host import HostPattern, HostPatternKind
from sallyport.plan.match import Answer, AnswerKind, Matcher
from sallyport.plan.model import CompiledRuntimePlan, EgressRoute
from sallyport.plan.precedence import Claimant
from sallyport.plan.ties import host_below

# Each costs two decisions, some microseconds; the largest plans have more classes, and then the answer says so.
MAX_ASKED: Final = 50_000
# An answer stays readable: entries of a diff, and requests shown in one entry.
MAX_CHANGES: Final = 500
MAX_EXAMPLES: Final = 5
# A name that nothing is registered below (RFC 6761): where no host is claimed.
_NOWHERE: Final = "any.invalid"
_OTHER_PORT: Final = 8443
_METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")

# What else a plan holds, and the member that tells one thing of a list from another.
_LISTS: Final = {
    "artifacts": ("artifactKey",),
    "workspaceSources": ("path",),
    "runtimeClients": ("clientId",),
    "agentRuntimes": ("bindingId", "runtimeKey"),
    "mcpServers": ("bindingId", "serverId"),
}

# An answer of each plan, and whether each manages the host. Answers are compared by identity.
type _Pair = tuple[Answer, bool, Answer, bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """What becomes of a request, apart from the names of what decided it."""

    decision: str
    code: str
    reason: str
    managed: bool
    upstream: str | None
    injection: Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """An effect with the route or rule that has it, None for the plan's default."""

    effect: Effect
    egress_rule_id: str | None

    def to_document(self) -> dict[str, object]:
        """The answer as JSON carries it; what does not apply is absent."""
        effect = self.effect
        resolver = effect.injection.get("credentialResolver")
        connection = resolver.get("connectionId") if isinstance(resolver, Mapping) else None
        fields = {
            "decision": effect.decision,
            "code": effect.code or None,
            "reason": effect.reason,
            "managed": effect.managed,
            "egressRuleId": self.egress_rule_id,
            "connectionId": connection,
            "upstream": effect.upstream,
        }
        return {name: value for name, value in fields.items() if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Requests that one route, rule or default answered before and one answers now. `changed` names what differs."""

    requests: Sequence[str]
    count: int
    changed: Sequence[str]
    before: Answered
    after: Answered

    def to_document(self) -> dict[str, object]:
        """The change as JSON carries it."""
        return {
            "requests": list(self.requests),
            "count": self.count,
            "changed": list(self.changed),
            "before": self.before.to_document(),
            "after": self.after.to_document(),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanDiff:
    """Everything that changes. `is_complete` is False where the plans have more classes of requests than were asked.

    `parts` has what is not egress: by list, the keys that were `added`, `removed` or `changed`.
    """

    changes: Sequence[Change]
    asked: int
    is_complete: bool
    parts: Mapping[str, Mapping[str, Sequence[str]]]

    def to_document(self) -> dict[str, object]:
        """The diff as JSON carries it."""
        return {
            "changes": [change.to_document() for change in self.changes],
            "asked": self.asked,
            "complete": self.is_complete,
            "parts": {name: {word: list(keys) for word, keys in each.items()} for name, each in self.parts.items()},
        }


def diff_plans(before: CompiledRuntimePlan, after: CompiledRuntimePlan) -> PlanDiff:
    """Compare two plans."""
    old, new = Matcher(before), Matcher(after)
    counts: Counter[_Pair] = Counter()
    examples: dict[_Pair, list[str]] = {}
    asked = 0
    is_complete = True
    for destination, method, path in _witnesses(before, after):
        if asked == MAX_ASKED:
            is_complete = False
            break
        asked += 1
        old_host, new_host = old.for_host(*destination), new.for_host(*destination)
        pair = old_host.decide(method, path), old_host.managed, new_host.decide(method, path), new_host.managed
        counts[pair] += 1
        if counts[pair] <= MAX_EXAMPLES:
            examples.setdefault(pair, []).append(f"{method} {destination.origin}{path}")
    changes = [change for pair in counts if (change := _change(pair, examples[pair], counts[pair])).changed]
    return PlanDiff(
        changes=changes[:MAX_CHANGES],
        asked=asked,
        is_complete=is_complete and len(changes) <= MAX_CHANGES,
        parts=_parts(before, after),
    )


def answered(answer: Answer, *, managed: bool) -> Answered:
    """Say what an answer means for a request."""
    # A route that refuses cleartext is named, and does nothing to the request.
    route = answer.route if answer.kind is AnswerKind.INJECT else None
    effect = Effect(
        decision=answer.kind.value,
        code=answer.code,
        reason=answer.reason,
        managed=managed,
        upstream=route.upstream.base_url if route is not None and route.upstream is not None else None,
        injection=_injection(route) if route is not None else {},
    )
    return Answered(effect=effect, egress_rule_id=answer.egress_rule_id)


def differences(before: Effect, after: Effect) -> list[str]:
    """Name what differs between two effects: decision, code, managed, upstream, and members of the route."""
    own = ("decision", "code", "managed", "upstream")
    names = [name for name in own if getattr(before, name) != getattr(after, name)]
    if before.injection and after.injection:
        members = sorted({*before.injection, *after.injection})
        names += [name for name in members if before.injection.get(name) != after.injection.get(name)]
    return names


def _change(pair: _Pair, examples: Sequence[str], count: int) -> Change:
    was, was_managed, is_now, is_managed = pair
    before, after = answered(was, managed=was_managed), answered(is_now, managed=is_managed)
    changed = differences(before.effect, after.effect)
    return Change(requests=examples, count=count, changed=changed, before=before, after=after)


def _injection(route: EgressRoute) -> dict[str, object]:
    """What a route does to a request: all of it but its names and its claim."""
    own = {"egress_rule_id", "binding_id", "family_id", "variant_id", "match", "upstream"}
    return route.model_dump(mode="json", by_alias=True, exclude=own, exclude_none=True)


# --- witnesses --------------------------------------------------------------------------------------------------------


def _witnesses(*plans: CompiledRuntimePlan) -> Iterator[tuple[Destination, str, str]]:
    """Yield one request of each class, ordered by host, then port, path and method."""
    claimants = [claimant for plan in plans for claimant in _claimants(plan)]
    patterns = {pattern for claimant in claimants for pattern in claimant.hosts}
    hosts = {_NOWHERE, *(_host(pattern, patterns) for pattern in patterns)}
    for host in sorted(hosts):
        claiming = [each for each in claimants if any(pattern.matches(host) for pattern in each.hosts)]
        paths = sorted({"/", *chain.from_iterable(each.path_prefixes or () for each in claiming)})
        methods = _methods(claiming)
        for destination in _destinations(host, claiming):
            for path in paths:
                for method in methods:
                    yield destination, method, path


def _claimants(plan: CompiledRuntimePlan) -> Iterator[Claimant]:
    yield from (route.match for route in plan.egress_routes)
    yield from plan.egress.rules


def _host(pattern: HostPattern, patterns: Iterable[HostPattern]) -> str:
    match pattern.kind:
        case HostPatternKind.EXACT:
            return pattern.value
        case HostPatternKind.WILDCARD:
            return host_below(pattern.value, patterns)
        case HostPatternKind.ANY:
            return _NOWHERE
        case _:
            assert_never(pattern.kind)


def _methods(claiming: Sequence[Claimant]) -> list[str]:
    """Return every listed method and one that none lists."""
    listed = set(chain.from_iterable(each.methods or () for each in claiming))
    other = next((method for method in _METHODS if method not in listed), "ANY")
    return [*sorted(listed), other]


def _destinations(host: str, claiming: Sequence[Claimant]) -> Iterator[Destination]:
    listed = set(chain.from_iterable(each.ports or () for each in claiming))
    other = next(port for port in range(_OTHER_PORT, 65536) if port not in listed)
    ports = [*DEFAULT_PORTS.values(), *sorted(listed - set(DEFAULT_PORTS.values())), other]
    for port in ports:
        for scheme in ("https", "http"):
            # https on port 80, or http on 443, is a listed port like any other.
            if port in listed or port == other or port == DEFAULT_PORTS[scheme]:
                yield Destination(scheme, host, port)


# --- what is not egress -----------------------------------------------------------------------------------------------


def _parts(before: CompiledRuntimePlan, after: CompiledRuntimePlan) -> dict[str, dict[str, list[str]]]:
    old, new = (plan.model_dump(mode="json", by_alias=True, exclude_none=True) for plan in (before, after))
    found: dict[str, dict[str, list[str]]] = {}
    for name, keys in _LISTS.items():
        was = {"/".join(str(item[key]) for key in keys): item for item in old[name]}
        is_now = {"/".join(str(item[key]) for key in keys): item for item in new[name]}
        words = {
            "added": sorted(is_now.keys() - was.keys()),
            "removed": sorted(was.keys() - is_now.keys()),
            "changed": sorted(key for key in was.keys() & is_now.keys() if was[key] != is_now[key]),
        }
        found[name] = {word: changed for word, changed in words.items() if changed}
    found["image"] = {"changed": ["image"]} if old["image"] != new["image"] else {}
    return {name: words for name, words in found.items() if words}
