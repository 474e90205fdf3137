"""Admit a stream and classify a request against the current route table. The only deciders.

Order of decision: deny rule, route, allow rule, default (contracts section 1). The matching itself is
sallyport.plan.match, the same that `plan explain` and the compiler use.
"""

from collections.abc import Sequence
from typing import Final

from gateway.core.decision import FORWARD, Admission, Classified, Deny, Forward, Mode
from gateway.core.declaration import Declaration
from gateway.core.route_table import RouteTable
from sallyport.destination import Destination
from sallyport.host import HostPattern
from sallyport.plan.explain import nearest
from sallyport.plan.match import Answer, AnswerKind
from sallyport.problem import Code
from sallyport.request_path import PathError, canonical_path

# What a table remembers of classified requests: half a megabyte at most, then it starts afresh.
MAX_REMEMBERED_REQUESTS: Final = 1024
MAX_REMEMBERED_PATH_BYTES: Final = 256  # with the method, which is the sandbox's to invent too

_CODES: Final = {code.wire: code for code in (Code.INVALID_REQUEST, Code.DENIED_BY_PLAN, Code.CLEARTEXT_REFUSED)}

# Denials must stop an agent from retrying or going round the proxy, and say who can change it.
_PLAN_HINT = "the sandbox's egress plan decides this, not the network: trying again will not help"


def admit(table: RouteTable, host: str, port: int, passthrough_hosts: Sequence[HostPattern]) -> Admission:
    """Decide how a CONNECT stream is treated: intercept what is managed, pass what is allowed."""
    if table.matcher.manages(host, port) and not any(pattern.matches(host) for pattern in passthrough_hosts):
        return Mode.INTERCEPTED
    return admit_opaque(table, host, port)


def admit_declared(table: RouteTable, host: str, port: int, declared: Declaration) -> Admission:
    """Decide about a CONNECT whose mode sandboxd has chosen. It is believed about nothing that matters.

    An older or newer set than ours is no error in itself: only where it led to another mode has the stream to be
    opened again (contracts section 2). An opaque stream to a managed host is up to the plan.
    """
    ours = Mode.INTERCEPTED if table.matcher.manages(host, port) else Mode.PASSTHROUGH
    if declared.mode is not ours and declared.revision != table.revision:
        detail = f"the managed set of revision {table.revision} treats {host}:{port} in another way"
        return Deny(code=Code.STALE_INTERCEPTION, detail=detail, hint="open the stream once more by the newer set")
    if declared.mode is Mode.PASSTHROUGH:
        return admit_opaque(table, host, port)
    if ours is Mode.INTERCEPTED:
        return Mode.INTERCEPTED
    return Deny(code=Code.INVALID_REQUEST, detail=f"{host}:{port} is not in the managed set that the stream names")


def admit_opaque(table: RouteTable, host: str, port: int) -> Admission:
    """Decide about bytes that nobody will look into. They never carry a credential."""
    answer = table.matcher.rule_answer(host, port)
    if not table.matcher.manages(host, port):
        may_pass = answer.kind is AnswerKind.FORWARD
    elif table.plan.egress.managed_passthrough == "allow":
        # The rules that need no request still apply, the default does not: the plan has named this host.
        may_pass = answer.kind is not AnswerKind.DENY or answer.rule is None
    else:
        return Deny(
            code=Code.DENIED_BY_PLAN,
            detail=f"{host}:{port} is managed and the plan does not let it pass unseen",
            hint='set egress.managedPassthrough to "allow", or take the host out of interception.passthrough_hosts',
        )
    return Mode.PASSTHROUGH if may_pass else _denied(table, answer, None, Destination("https", host, port), None)


def opaque_rule_id(table: RouteTable, host: str, port: int) -> str | None:
    """Name the rule by which opaque bytes pass, or do not; None where no rule decides."""
    admission = admit_opaque(table, host, port)
    return admission.rule_id if isinstance(admission, Deny) else table.matcher.rule_answer(host, port).egress_rule_id


def classify(table: RouteTable, destination: Destination, method: str, path: bytes) -> Classified:
    """Decide about one request, given its path as it came (without the query).

    Pure, so the table remembers its answers: most requests of a sandbox are a few paths over and over.
    """
    key = (destination, method, path)
    known = table.classified.get(key)
    if known is None:
        known = _classify(table, destination, method, path)
        if len(method) + len(path) <= MAX_REMEMBERED_PATH_BYTES:
            if len(table.classified) >= MAX_REMEMBERED_REQUESTS:
                table.classified.clear()
            table.classified[key] = known
    return known


def _classify(table: RouteTable, destination: Destination, method: str, path: bytes) -> Classified:
    if method.upper() == "TRACE":
        # C3: it would echo the credential. In any case, because an upstream may not tell them apart.
        return Classified(Deny(code=Code.TRACE_REFUSED, detail="TRACE is not served"), path, None)
    hosts = table.matcher.for_host(*destination)
    canonical = ""
    if hosts.managed:
        try:
            canonical = canonical_path(path)
        except PathError as error:
            detail = f"the path is refused: {error.reason}"
            return Classified(Deny(code=Code.INVALID_REQUEST, detail=detail, hint=error.hint), path, None)
        path = canonical.encode("ascii")
    answer = hosts.decide(method, canonical)
    match answer.kind:
        case AnswerKind.INJECT:
            assert answer.route is not None, "an INJECT answer names its route"
            route = table.routes[answer.route.egress_rule_id]
            return Classified(route, path, route.upstream_for(destination))
        case AnswerKind.FORWARD:
            decision = FORWARD if answer.rule is None else Forward(rule_id=answer.rule.rule_id)
            return Classified(decision, path, table.forward_upstream(destination))
        case _:  # DENY, REFUSE: what is not told to leave stays
            return Classified(_denied(table, answer, method, destination, canonical or None), path, None)


def _denied(table: RouteTable, answer: Answer, method: str | None, destination: Destination, path: str | None) -> Deny:
    is_plan = answer.code == Code.DENIED_BY_PLAN.wire
    return Deny(
        code=_CODES[answer.code],
        detail=answer.reason,
        rule_id=answer.egress_rule_id,
        hint=answer.hint or (_PLAN_HINT if is_plan else None),
        nearest=nearest(table.plan, *destination, method, path) if is_plan else None,
    )
