"""Admit a stream and classify a request against the current route table. The only deciders.

Order of decision: deny rule, route, allow rule, default (contracts section 1). The matching itself is
sallyport.plan.match, the same that `plan explain` and the compiler use.
"""

from collections.abc import Sequence

from gateway.core.decision import FORWARD, Admission, Decision, Deny, Forward, Mode
from gateway.core.route_table import RouteTable
from sallyport.destination import Destination
from sallyport.host import HostPattern
from sallyport.plan.explain import nearest
from sallyport.plan.match import Answer, AnswerKind, HostMatcher
from sallyport.problem import Code

# Denials must stop an agent from retrying or going round the proxy, and say who can change it.
_PLAN_HINT = "the sandbox's egress plan decides this, not the network: trying again will not help"


def admit(table: RouteTable, host: str, port: int, passthrough_hosts: Sequence[HostPattern]) -> Admission:
    """Decide how a CONNECT stream is treated: intercept what is managed, pass what is allowed."""
    if not table.matcher.manages(host, port):
        answer = table.matcher.rule_answer(host, port)
        if answer.kind is AnswerKind.FORWARD:
            return Mode.PASSTHROUGH
        return _denied(table, answer, "CONNECT", Destination("https", host, port), "")
    if not any(pattern.matches(host) for pattern in passthrough_hosts):
        return Mode.INTERCEPTED
    if table.plan.egress.managed_passthrough == "allow":
        # Opaque bytes never carry a credential; the rules that need no request still apply.
        answer = table.matcher.rule_answer(host, port)
        if answer.kind is not AnswerKind.DENY or answer.rule is None:
            return Mode.PASSTHROUGH
        return _denied(table, answer, "CONNECT", Destination("https", host, port), "")
    return Deny(
        code=Code.DENIED_BY_PLAN,
        detail=f"{host}:{port} is managed and the plan does not let it pass unseen",
        hint='set egress.managedPassthrough to "allow", or take the host out of interception.passthrough_hosts',
    )


def classify(table: RouteTable, hosts: HostMatcher, method: str, destination: Destination, path: str) -> Decision:
    """Decide about one request; path is canonical where the host is managed. Allocates nothing unless it denies."""
    answer = hosts.decide(method, path)
    kind = answer.kind
    if kind is AnswerKind.INJECT:
        assert answer.route is not None, "an INJECT answer names its route"
        route = table.routes[answer.route.egress_rule_id]
        if destination.scheme == "http" and not route.allow_cleartext:
            return Deny(
                code=Code.CLEARTEXT_REFUSED,
                detail="a credential is never sent over http:// on this route",
                rule_id=route.rule_id,
                hint="use https://",
            )
        return route
    if kind is AnswerKind.FORWARD:
        return FORWARD if answer.rule is None else Forward(rule_id=answer.rule.rule_id)
    return _denied(table, answer, method, destination, path)


def _denied(table: RouteTable, answer: Answer, method: str, destination: Destination, path: str) -> Deny:
    if answer.kind is AnswerKind.REFUSE:
        return Deny(
            code=Code.INVALID_REQUEST,
            detail=answer.reason,
            rule_id=answer.route.egress_rule_id if answer.route is not None else None,
            hint=answer.hint or None,
        )
    return Deny(
        code=Code.DENIED_BY_PLAN,
        detail=answer.reason or "the plan allows no such request",
        rule_id=answer.rule.rule_id if answer.rule is not None else None,
        hint=answer.hint or _PLAN_HINT,
        nearest=nearest(table.plan, *destination, method, path) if path else None,
    )
