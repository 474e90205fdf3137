"""The one matcher: which route or rule answers a request (contracts section 1, "Order of decision" and "Matching").

`Matcher` is compiled once per plan; `for_host` narrows it to one host and port; `HostMatcher.decide` answers a
request without allocating an answer. The gateway, `explain` and the compiler all ask here, so they cannot disagree.
"""

import enum
from collections.abc import Iterable
from typing import Final

from sallyport.destination import DEFAULT_PORTS
from sallyport.plan.model import CompiledRuntimePlan, EgressRoute, EgressRule
from sallyport.plan.precedence import ClaimIndex, Level, first_answer, patterns_claiming
from sallyport.request_path import without_needless_escapes

MAX_REMEMBERED_HOSTS: Final = 4_096  # of one sandbox; a scan over more starts the memory afresh
EVERY_PORT: Final = 0  # in a managed set: a rule without ports that looks at requests

_HTTP_PORTS: Final = tuple(sorted(DEFAULT_PORTS.values()))


class AnswerKind(enum.Enum):
    """What is to be done with a request."""

    INJECT = "inject"
    FORWARD = "forward"
    DENY = "deny"  # 403
    REFUSE = "refuse"  # 400: the request has two readings, and they would be answered differently


class Answer:
    """An answer to a request, made when the plan is compiled. Compare answers by identity.

    `code` is the wire code of a DENY or REFUSE (contracts section 9), "" otherwise. `reason` says in a sentence what
    answered, `hint` what to do about it ("" where there is nothing to say); both are for the sandbox's eyes.
    `egress_rule_id` names the route or rule, None for the plan's default.
    """

    __slots__ = ("code", "egress_rule_id", "hint", "is_deny_rule", "kind", "over_cleartext", "reason", "route", "rule")

    def __init__(
        self,
        kind: AnswerKind,
        reason: str,
        *,
        code: str = "",
        route: EgressRoute | None = None,
        rule: EgressRule | None = None,
        hint: str = "",
    ) -> None:
        self.kind = kind
        self.reason = reason
        self.code = code
        self.route = route
        self.rule = rule
        self.hint = hint
        self.egress_rule_id = route.egress_rule_id if route else rule.rule_id if rule else None
        self.is_deny_rule = rule is not None and kind is AnswerKind.DENY
        self.over_cleartext = self  # what answers the same request over http

    def __repr__(self) -> str:
        return f"<Answer {self.kind.value} by {self.egress_rule_id or 'default'}: {self.reason}>"


_REFUSED_METHOD: Final = Answer(
    AnswerKind.REFUSE,
    "methods are case-sensitive",
    code="invalid_request",
    hint="write the method in upper case",
)
_REFUSED_SLASH: Final = Answer(
    AnswerKind.REFUSE,
    "%2F in this path can be read as '/', and that request would be answered differently",
    code="invalid_request",
    hint='write the slash itself, or have the route say encodedSlash: "literal"',
)
_REFUSED_ESCAPE: Final = Answer(
    AnswerKind.REFUSE,
    "an escape in this path can be read as the character itself, and that request would be answered differently",
    code="invalid_request",
    hint="write characters that need no escape as they are: '@', not '%40'",
)
_BY_DEFAULT: Final = {
    "passthrough": Answer(AnswerKind.FORWARD, "no route and no rule of the plan claims this"),
    "deny": Answer(
        AnswerKind.DENY, "no route and no rule of the plan claims this, and it denies by default", code="denied_by_plan"
    ),
}

type Levels = tuple[Level[Answer], ...]


class HostMatcher:
    """Answers requests to one scheme, host and port."""

    __slots__ = ("_constant", "_default", "_depth", "_is_cleartext", "_routes", "_rules", "managed")

    def __init__(self, *, managed: bool, is_cleartext: bool, routes: Levels, rules: Levels, default: Answer) -> None:
        self.managed = managed
        self._is_cleartext = is_cleartext
        self._routes = routes
        self._rules = rules
        self._default = default
        if not _reads_requests(rules):
            # One rule, or the default, answers whatever is asked: settle it here instead of at every request.
            self._default = first_answer(rules, "", ()) or default
            self._rules = ()
        if self._default.is_deny_rule:
            self._routes = ()
        levels = self._routes + self._rules
        self._depth = max((level.depth for level in levels), default=0)
        self._constant = None if _reads_requests(levels) else self._walk("", "/")

    def decide(self, method: str, path: str) -> Answer:
        """Answer a request; `path` is canonical (sallyport.request_path) and has no query."""
        if self._constant is not None:
            return self._constant
        if "%" in path or not method.isupper():
            return self._decide_between_readings(method, path)
        return self._walk(method, path)

    def _walk(self, method: str, path: str) -> Answer:
        segments = path[1:].split("/", self._depth)
        otherwise = self._default
        if self._rules:
            otherwise = first_answer(self._rules, method, segments) or otherwise
            if otherwise.is_deny_rule:
                return otherwise
        answer = first_answer(self._routes, method, segments) or otherwise
        return answer.over_cleartext if self._is_cleartext else answer

    def _decide_between_readings(self, method: str, path: str) -> Answer:
        """Refuse what an upstream may read as another request than we matched: lower-case methods, escapes, slashes.

        One may read several of these so at once: each reading of the path is matched with each of the method.
        """
        answer = self._walk(method, path)
        upper = method if _lists_method(answer, method) else method.upper()
        if upper != method and self._walk(upper, path) is not answer:
            return _REFUSED_METHOD
        read = without_needless_escapes(path)
        if read != path and not self._answers_both(method, upper, read, answer):
            return _REFUSED_ESCAPE
        if "%2F" not in path or (answer.route is not None and answer.route.match.encoded_slash == "literal"):
            return answer
        if not self._answers_both(method, upper, read.replace("%2F", "/"), answer):
            return _REFUSED_SLASH
        return answer

    def _answers_both(self, method: str, upper: str, path: str, answer: Answer) -> bool:
        return self._walk(method, path) is answer and (upper == method or self._walk(upper, path) is answer)


class Matcher:
    """A plan compiled for questions. Immutable but for its memory of hosts asked for, which is bounded."""

    def __init__(self, plan: CompiledRuntimePlan) -> None:
        self._default = _BY_DEFAULT[plan.egress.default]
        self._routes = _index_routes(plan.egress_routes)
        self._rules = _index_rules(plan.egress.rules)
        self._opaque_rules = _index_rules(rule for rule in plan.egress.rules if not rule.reads_requests)
        self._managed = _managed_ports(plan)
        self._remembered: dict[tuple[str, str, int], HostMatcher] = {}

    def for_host(self, scheme: str, host: str, port: int) -> HostMatcher:
        """The matcher for a normalized host, managed or not; remembered, so ask per request or per link alike."""
        key = (scheme, host, port)
        found = self._remembered.get(key)
        if found is None:
            if len(self._remembered) >= MAX_REMEMBERED_HOSTS:
                self._remembered.clear()
            found = self._remembered[key] = self._compile_host(scheme, host, port)
        return found

    def manages(self, host: str, port: int) -> bool:
        """Whether requests to this host and port must be seen: a route, or a rule on methods or paths, claims it."""
        for pattern in patterns_claiming(host):
            ports = self._managed.get(pattern, ())
            if port in ports or EVERY_PORT in ports:
                return True
        return False

    def managed_set(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """Every managed host pattern with its ports, both sorted. EVERY_PORT (0) stands for all of them."""
        return tuple((pattern, tuple(sorted(ports))) for pattern, ports in sorted(self._managed.items()))

    def rule_answer(self, host: str, port: int) -> Answer:
        """Answer for opaque bytes: rules that look at neither methods nor paths, then the default. Never INJECT.

        Says nothing about managed hosts: whether opaque bytes may reach one is `egress.managedPassthrough`.
        """
        levels = self._opaque_rules.levels(host, port, by_default=True)
        return first_answer(levels, "", ()) or self._default

    def _compile_host(self, scheme: str, host: str, port: int) -> HostMatcher:
        return HostMatcher(
            managed=self.manages(host, port),
            is_cleartext=scheme == "http",
            routes=self._routes.levels(host, port, by_default=port == DEFAULT_PORTS[scheme]),
            rules=self._rules.levels(host, port, by_default=True),
            default=self._default,
        )


def _reads_requests(levels: Levels) -> bool:
    return any(level.reads_requests for level in levels)


def _index_routes(routes: Iterable[EgressRoute]) -> ClaimIndex[Answer]:
    """Index routes. Ties were refused when the plan was parsed, so no slot is wanted twice."""
    index: ClaimIndex[Answer] = ClaimIndex()
    answers = [(route.match, _route_answer(route)) for route in routes]
    for match, answer in answers:
        index.put(match, answer)
    for match, answer in answers:
        index.put_unescaped(match, answer)
    return index


def _route_answer(route: EgressRoute) -> Answer:
    answer = Answer(AnswerKind.INJECT, "a route claims this", route=route)
    if not route.allow_cleartext:
        answer.over_cleartext = Answer(
            AnswerKind.DENY,
            "this route carries a credential, which is never sent over http://",
            code="cleartext_refused",
            route=route,
            hint="use https://",
        )
    return answer


def _index_rules(rules: Iterable[EgressRule]) -> ClaimIndex[Answer]:
    """Index rules, denials first: they keep the slots that allowing rules want too. The first in the plan is named."""
    index: ClaimIndex[Answer] = ClaimIndex()
    for rule in sorted(rules, key=lambda rule: rule.action != "deny"):
        answer = _rule_answer(rule)
        index.put(rule, answer)
        index.put_unescaped(rule, answer)
    return index


def _rule_answer(rule: EgressRule) -> Answer:
    if rule.action == "deny":
        return Answer(AnswerKind.DENY, rule.reason or "a deny rule claims this", code="denied_by_plan", rule=rule)
    return Answer(AnswerKind.FORWARD, "an allow rule claims this", rule=rule)


def _managed_ports(plan: CompiledRuntimePlan) -> dict[str, set[int]]:
    managed: dict[str, set[int]] = {}
    for route in plan.egress_routes:
        for host in route.match.hosts:
            managed.setdefault(str(host), set()).update(route.match.ports or _HTTP_PORTS)
    for rule in plan.egress.rules:
        if rule.reads_requests:
            for host in rule.hosts:
                managed.setdefault(str(host), set()).update(rule.ports or (EVERY_PORT,))
    return managed


def _lists_method(answer: Answer, method: str) -> bool:
    """Whether the plan itself spells the method this way, so that it has no second reading."""
    claimant = answer.route.match if answer.route else answer.rule
    return claimant is not None and claimant.methods is not None and method in claimant.methods
