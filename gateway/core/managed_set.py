"""What a sandboxd is told of a plan: which hosts and ports it intercepts. Never routes, never credentials."""

from collections.abc import Iterator
from typing import Final

from gateway.core.route_table import RouteTable

# A control message is at most 64 KiB; what surrounds the entries needs less than the rest.
MAX_ENTRIES_BYTES: Final = 60 * 1024
# Around a pattern and its ports: `{"pattern":"","ports":[]},`, and a comma and five digits for each port.
_ENTRY_BYTES: Final = 27
_PORT_BYTES: Final = 6


def interception_sets(table: RouteTable) -> list[dict[str, object]]:
    """Return a plan's `interception.set`: every host and port of a route, and of every rule that reads requests.

    Several messages where one is too short: each but the last says `more`. Ports are always explicit; 0 stands for
    every port (sallyport.plan.match.EVERY_PORT). Equal on every gateway.
    """
    messages: list[dict[str, object]] = [
        {"type": "interception.set", "revision": table.revision, "hosts": hosts, "more": True}
        for hosts in _pages(table)
    ]
    del messages[-1]["more"]
    return messages


def _pages(table: RouteTable) -> Iterator[list[dict[str, object]]]:
    page: list[dict[str, object]] = []
    size = 0
    for pattern, ports in table.matcher.managed_set():
        entry_size = len(pattern) + _ENTRY_BYTES + _PORT_BYTES * len(ports)
        if page and size + entry_size > MAX_ENTRIES_BYTES:
            yield page
            page, size = [], 0
        page.append({"pattern": pattern, "ports": list(ports)})
        size += entry_size
    yield page
