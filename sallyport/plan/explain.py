"""Why a request is answered as it is: the matcher's answer, and the closest route where it was not injected."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from sallyport.destination import DEFAULT_PORTS, Destination
from sallyport.plan.match import Answer, AnswerKind, Matcher
from sallyport.plan.model import CompiledRuntimePlan, EgressRoute
from sallyport.plan.precedence import patterns_claiming
from sallyport.plan.url import Url, UrlError, split_url
from sallyport.request_path import PathError, canonical_path

# Of a plan with more, the rest is not compared: a refusal costs every sandbox of a gateway its time.
MAX_COMPARED_ROUTES = 200
MAX_COMPARED_EACH = 20  # hosts and prefixes of each of them, where none claims the request
MAX_EXPECTED = 8  # values shown per part: the answer goes into a refusal's body

# What a caller would have to change, by how far that leads away: another host furthest, another scheme least.
_WEIGHTS: Final = {"host": 16, "port": 8, "path": 4, "method": 2, "scheme": 1}

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 section 5.6.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What becomes of one request. `sent_url` is None where nothing would be sent.

    It is the URL before injection: a query credential and `stripQuery` change the query still.
    """

    method: str
    url: str
    decision: AnswerKind
    code: str
    reason: str
    hint: str
    managed: bool
    egress_rule_id: str | None
    sent_url: str | None
    nearest: Mapping[str, object] | None

    def to_document(self) -> dict[str, object]:
        """The explanation as JSON carries it; what does not apply is absent."""
        fields: dict[str, object] = {
            "method": self.method,
            "url": self.url,
            "decision": self.decision.value,
            "code": self.code or None,
            "reason": self.reason,
            "hint": self.hint or None,
            "managed": self.managed,
            "egressRuleId": self.egress_rule_id,
            "sentUrl": self.sent_url,
            "nearest": self.nearest,
        }
        return {name: value for name, value in fields.items() if value is not None}


def explain(plan: CompiledRuntimePlan, method: str, url: str, *, matcher: Matcher | None = None) -> Explanation:
    """Say what the gateway would do with a request and why. Never raises: a bad URL or method is explained too.

    `matcher` is one of this plan, where many requests are to be explained.
    """
    try:
        parts = split_url(url)
    except UrlError as error:
        return _refused(method, url, str(error), managed=False)
    destination = parts.destination
    of_host = (matcher or Matcher(plan)).for_host(*destination)
    if _TOKEN.fullmatch(method) is None:
        return _refused(method, url, "a method is a token (RFC 9110 section 9.1)", managed=of_host.managed)
    path = parts.path or "/"
    if of_host.managed:
        try:
            path = canonical_path(path.encode("ascii"))
        except PathError as error:
            return _refused(method, url, error.hint, managed=True)
    answer = of_host.decide(method, path)
    is_injected = answer.kind is AnswerKind.INJECT
    return Explanation(
        method=method,
        url=url,
        decision=answer.kind,
        code=answer.code,
        reason=answer.reason,
        hint=answer.hint,
        managed=of_host.managed,
        egress_rule_id=answer.egress_rule_id,
        sent_url=_sent_url(answer, parts, path),
        nearest=None if is_injected else nearest(plan, *destination, method, path),
    )


def _refused(method: str, url: str, reason: str, *, managed: bool) -> Explanation:
    return Explanation(
        method=method,
        url=url,
        decision=AnswerKind.REFUSE,
        code="invalid_request",
        reason=reason,
        hint="",
        managed=managed,
        egress_rule_id=None,
        sent_url=None,
        nearest=None,
    )


def _sent_url(answer: Answer, parts: Url, path: str) -> str | None:
    if answer.kind not in (AnswerKind.INJECT, AnswerKind.FORWARD):
        return None
    query = "" if parts.query is None else f"?{parts.query}"
    return f"{_upstream(answer.route, parts.destination).origin}{path}{query}"


def _upstream(route: EgressRoute | None, asked: Destination) -> Destination:
    return route.upstream.destination if route is not None and route.upstream is not None else asked


# --- the closest route ------------------------------------------------------------------------------------------------


def nearest(
    plan: CompiledRuntimePlan, scheme: str, host: str, port: int, method: str | None, path: str | None
) -> Mapping[str, object] | None:
    """Describe the closest route, or give None where the plan has none.

    A method or path of None is one that nobody has seen, as in a CONNECT; it mismatches with nothing.
    `{"egressRuleId", "mismatch": [part, ...], "expected": {part: value}}`; a part is host, port, path, method or
    scheme. An empty `mismatch` is a route that claims the request (a rule, or a more specific route, came first).
    Linear in the number of routes: for refusals and `explain`, not for every request.
    """
    # A host weighs more than all the rest: where a route claims it, none that does not comes near.
    claiming = frozenset(patterns_claiming(host))
    of_host = [route for route in plan.egress_routes if any(str(each) in claiming for each in route.match.hosts)]
    best: tuple[tuple[int, int, int], EgressRoute, list[str]] | None = None
    for route in (of_host or plan.egress_routes)[:MAX_COMPARED_ROUTES]:
        mismatch = _mismatch(route, scheme, port, method, path)
        if not of_host:
            mismatch.insert(0, "host")
        weight = sum(map(_WEIGHTS.__getitem__, mismatch))
        if best is not None and weight > best[0][0]:
            continue
        distance = weight, -_common_labels(route, host), -_common_segments(route, path or "/")
        if best is None or distance < best[0]:
            best = distance, route, mismatch
    if best is None:
        return None
    _, route, mismatch = best
    expected = {part: _expected(route, part) for part in mismatch}
    return {"egressRuleId": route.egress_rule_id, "mismatch": mismatch, "expected": expected}


def _mismatch(route: EgressRoute, scheme: str, port: int, method: str | None, path: str | None) -> list[str]:
    """Return what beside the host it does not claim."""
    match = route.match
    prefixes, methods = match.path_prefixes, match.methods
    parts: list[str] = []
    if port != DEFAULT_PORTS[scheme] if match.ports is None else port not in match.ports:
        parts.append("port")
    if path is not None and prefixes is not None and not any(_claims(prefix, path) for prefix in prefixes):
        parts.append("path")
    if method is not None and methods is not None and method not in methods:
        parts.append("method")
    if scheme == "http" and not route.allow_cleartext:
        parts.append("scheme")
    return parts


def _claims(prefix: str, path: str) -> bool:
    return prefix == "/" or path == prefix or path.startswith(f"{prefix}/")


def _common_labels(route: EgressRoute, host: str) -> int:
    """How many labels, from the right, the host shares with the route's best pattern."""
    labels = host.split(".")[::-1]
    patterns = route.match.hosts[:MAX_COMPARED_EACH]
    return max(_common(pattern.value.split(".")[::-1], labels) for pattern in patterns)


def _common_segments(route: EgressRoute, path: str) -> int:
    """How many segments, from the left, the path shares with the route's best prefix."""
    segments = path.split("/")
    prefixes = (route.match.path_prefixes or ("/",))[:MAX_COMPARED_EACH]
    return max(_common(prefix.split("/"), segments) for prefix in prefixes)


def _common(first: list[str], second: list[str]) -> int:
    """How many items two lists share at their beginning."""
    count = 0
    for mine, yours in zip(first, second, strict=False):
        if mine != yours:
            break
        count += 1
    return count


def _expected(route: EgressRoute, part: str) -> object:
    """What the route would have claimed, in the words of the plan document."""
    match = route.match
    match part:
        case "host":
            return [str(host) for host in match.hosts[:MAX_EXPECTED]]
        case "port":
            return list(match.ports[:MAX_EXPECTED]) if match.ports is not None else "the scheme's default port"
        case "path":
            return list((match.path_prefixes or ())[:MAX_EXPECTED])
        case "method":
            return list((match.methods or ())[:MAX_EXPECTED])
        case _:
            return "https"
