"""Proof that no two routes claim one request with equal precedence, or the request that both claim."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sallyport.destination import DEFAULT_PORTS, Destination
from sallyport.host import HostPattern, HostPatternKind
from sallyport.plan.model import EgressRoute
from sallyport.plan.precedence import claims_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Tie:
    """Two routes and a request, written `METHOD URL`, that both claim and neither wins."""

    first_index: int
    second_index: int
    first_rule_id: str
    second_rule_id: str
    request: str


def find_ties(routes: Mapping[int, EgressRoute]) -> list[Tie]:
    """Find the routes that tie with an earlier one; keys are indexes into the plan's routes, in ascending order.

    Two routes tie exactly when they take the same slot (sallyport.plan.precedence), so one table of slots finds
    them in the time it takes to write the slots down. Each pair is shown once, with one request; of three routes in
    one slot the later two are each shown against the first.
    """
    holders: dict[tuple[HostPattern, int | None, str, str | None], int] = {}
    ties: dict[tuple[int, int], Tie] = {}
    for index, route in routes.items():
        for claim in claims_of(route.match):
            holder = holders.setdefault(claim, index)
            if holder != index and (holder, index) not in ties:
                first = routes[holder]
                ties[holder, index] = Tie(
                    first_index=holder,
                    second_index=index,
                    first_rule_id=first.egress_rule_id,
                    second_rule_id=route.egress_rule_id,
                    request=_witness((*first.match.hosts, *route.match.hosts), *claim),
                )
    return list(ties.values())


def _witness(
    hosts: tuple[HostPattern, ...], pattern: HostPattern, port: int | None, prefix: str, method: str | None
) -> str:
    """A request whose best claim by both routes is this slot: no longer prefix claims the prefix itself."""
    host = host_below(pattern.value, hosts) if pattern.kind is HostPatternKind.WILDCARD else pattern.value
    scheme = "http" if port == DEFAULT_PORTS["http"] else "https"
    return f"{method or 'GET'} {Destination(scheme, host, port or DEFAULT_PORTS[scheme]).origin}{prefix}"


def host_below(name: str, patterns: Iterable[HostPattern]) -> str:
    """A host below a name that no more specific one of these patterns claims."""
    taken = {pattern.value.removesuffix(f".{name}").rpartition(".")[2] for pattern in patterns}
    label, number = "any", 1
    while label in taken:
        label, number = f"any{number}", number + 1
    return f"{label}.{name}"
