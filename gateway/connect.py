"""Admit a CONNECT, once: whose it is, where it goes, and how its bytes are treated. The same for every listener."""

from collections.abc import Callable
from typing import NamedTuple

from gateway.core.authority import Refused, check_connect_host, invalid, read_connect_destination
from gateway.core.decision import Admission, Deny, Mode
from gateway.core.errors import memory_is_full, of_another_organization, sandbox_rate_limited
from gateway.core.route_table import RouteTable
from gateway.not_yet import missing_plan
from gateway.stream import ServedStream
from sallyport.claims import Claims
from sallyport.destination import Destination
from sallyport.wire.http1.head import RequestHead


class Admitted(NamedTuple):
    """A CONNECT that may go on, and what was found on the way."""

    mode: Mode
    claims: Claims
    destination: Destination
    table: RouteTable


def admit_connect(
    stream: ServedStream, head: RequestHead, decide: Callable[[RouteTable, Destination], Admission]
) -> Admitted | None:
    """Admit a CONNECT, or refuse it on its stream and return None; raises NotYet where its plan is on the way."""
    plans = stream.parts.plans
    destination: Destination | None = None
    table: RouteTable | None = None
    try:
        claims = stream.check_token(head)
        if head.has_body:
            raise invalid("CONNECT has no body")
        destination = read_connect_destination(head.target)
        check_connect_host(head, destination)
        table = plans.table(claims.sandbox_id)
        if table is None:
            raise missing_plan(plans, claims.sandbox_id)
        if table.organization_id != claims.organization_id:
            raise Refused(of_another_organization())
        if stream.parts.sheds(claims.sandbox_id):
            raise Refused(memory_is_full())
        excess = None if table.sandbox_limit is None else table.sandbox_limit.spend(stream.parts.clock.now)
        if excess is not None:
            raise Refused(sandbox_rate_limited(excess))
        admission = decide(table, destination)
        if isinstance(admission, Deny):
            raise Refused(admission)
    except Refused as refused:
        stream.refuse(refused.deny, head, destination=destination, table=table)
        return None
    return Admitted(admission, claims, destination, table)
