"""What is written down about an exchange, and about a stream that had none. Never a query, never a secret.

Nor anything as long as a sandbox likes: records wait in memory for a sink that may be stuck (S10).
"""

from typing import TYPE_CHECKING, Final

from gateway.audit_line import FIELDS
from gateway.core.decision import Mode
from gateway.core.route_table import RouteTable
from sallyport.claims import Claims
from sallyport.destination import Destination

if TYPE_CHECKING:
    from gateway.parts import GatewayParts
    from gateway.serve import Exchange


# What is longer is cut, and ends with an ellipsis, which neither has otherwise.
MAX_PATH: Final = 2048
MAX_METHOD: Final = 64

_NOWHERE: Final = (None, None, None)


def exchange_record(exchange: "Exchange", outcome: str, seconds: float) -> tuple[object, ...]:
    """Return the record of an exchange, in the order of gateway.audit_line.FIELDS.

    A tuple by position, because this is the hot path; a test compares it with FIELDS name by name.
    """
    code = exchange.code
    # Taken apart first: a tuple with stars in it is built as a list, item by item.
    organization_id, sandbox_id, source, mode = exchange.stream.who
    scheme, host, port = exchange.destination or _NOWHERE
    rule_id, binding_id, connection_id = exchange.labels
    method, path = exchange.head.method, exchange.path.decode("ascii")
    if len(method) + len(path) > MAX_PATH:
        method, path = _cut(method, MAX_METHOD), _cut(path, MAX_PATH)
    return (
        exchange.parts.clock.wall - seconds,
        exchange.request_id,
        organization_id,
        sandbox_id,
        source,
        mode,
        method,
        scheme,
        host,
        port,
        path,
        exchange.decision,
        rule_id,
        binding_id,
        connection_id,
        exchange.revision,
        exchange.versions,
        outcome,
        exchange.status,
        None if code is None else code.wire,
        seconds * 1000,
        exchange.bytes_up,
        exchange.bytes_down,
        exchange.address,
        exchange.is_link_reused,
        exchange.scrubbed or None,
    )


def stream_record(
    parts: "GatewayParts",
    *,
    source: str,
    mode: Mode,
    claims: Claims | None,
    destination: Destination | None,
    table: RouteTable | None,
    fields: dict[str, object],
) -> tuple[object, ...]:
    """Return the record of a stream that carried no exchange; fields are named as in gateway.audit_line.FIELDS."""
    known: dict[str, object] = {
        "time": parts.clock.wall,
        "requestId": parts.next_request_id(),
        "source": source,
        "mode": mode.value,
        "method": "CONNECT",
    }
    if claims is not None:
        known |= {"organizationId": claims.organization_id, "sandboxId": claims.sandbox_id}
    if destination is not None:
        known |= {"scheme": destination.scheme, "host": destination.host, "port": destination.port}
    if table is not None:
        known["planRevision"] = table.revision
    known |= fields
    return tuple(known.get(name) for name in FIELDS)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}…"
