"""Whether a newer plan takes something away, as far as a glance at its document tells. Pure.

What takes something out of service has a second. Of hundreds of plans that wait to be compiled only a glance tells
which do: reading a document takes a tenth of what compiling it does.
"""

from collections.abc import Iterator
from typing import Any, Final

import orjson

# By these alone an opaque stream, or one that leads into the sandbox, may have to end. Any change of them counts.
_DECIDING: Final = ("organizationId", "egress", "runtimeClients", "mcpServers")


def takes_away(before: bytes, after: bytes) -> bool:
    """Say whether something that is open by one plan of a sandbox may have to end by a newer one.

    Says so rather too often than too seldom; what is no plan takes nothing away, for it will be refused.
    """
    try:
        old, new = orjson.loads(before), orjson.loads(after)
        return (
            any(old[name] != new[name] for name in _DECIDING)
            or not _bindings(old) <= _bindings(new)
            # Bytes to a host that a route claims are opaque no longer.
            or not set(_claims(new)) <= set(_claims(old))
        )
    except (ValueError, LookupError, TypeError, AttributeError):
        return False


def _bindings(document: Any) -> set[object]:  # noqa: ANN401  not checked yet
    return {route["bindingId"] for route in document["egressRoutes"]}


def _claims(document: Any) -> Iterator[tuple[object, ...]]:  # noqa: ANN401  not checked yet
    for route in document["egressRoutes"]:
        match = route["match"]
        ports = tuple(match.get("ports", ()))
        yield from ((host, ports) for host in match["hosts"])
