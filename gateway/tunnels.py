"""The tunnels of this gateway: which is whose, and what all of them together are told and have carried."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from sallyport.net.tunnel_pace import TunnelPaces
from sallyport.wire.websocket import DRAINING

if TYPE_CHECKING:
    from gateway.tunnel_host import TunnelHost


class Tunnels:
    """Always: of each sandbox at most one tunnel is current; the others are on their way out."""

    def __init__(self) -> None:
        # By organization and sandbox.
        self.paces: TunnelPaces[tuple[str, str]] = TunnelPaces()
        self._current: dict[str, TunnelHost] = {}
        self._all: set[TunnelHost] = set()
        self._subscribers: list[Callable[[str], None]] = []
        self._bytes_up = 0
        self._bytes_down = 0

    def current(self, sandbox_id: str) -> "TunnelHost | None":
        """Return the tunnel that streams to a sandbox are opened in."""
        return self._current.get(sandbox_id)

    def sandboxes(self) -> Iterator[tuple[str, int]]:
        """Yield every sandbox that has a tunnel here, with the tunnel's epoch (for the lease report)."""
        for sandbox_id, host in self._current.items():
            yield sandbox_id, host.epoch

    def subscribe(self, callback: Callable[[str], None]) -> None:
        """Call callback(sandbox_id) after a sandbox has got a tunnel here, or a newer one, or has lost the last."""
        self._subscribers.append(callback)

    def add(self, host: "TunnelHost") -> None:
        """Note an open tunnel; an older one of the same sandbox gives way."""
        sandbox_id = host.sandbox_id
        older = self._current.get(sandbox_id)
        self._current[sandbox_id] = host
        self._all.add(host)
        if older is not None:
            if older.claims.organization_id == host.claims.organization_id:
                host.setup_status = older.setup_status
            older.give_way()
        self._tell(sandbox_id)

    def remove(self, host: "TunnelHost") -> None:
        """Forget a tunnel that is gone; what it has carried stays counted."""
        self._all.discard(host)
        self._bytes_up += host.tunnel.bytes_in
        self._bytes_down += host.tunnel.bytes_out
        if self._current.get(host.sandbox_id) is host:
            del self._current[host.sandbox_id]
            self._tell(host.sandbox_id)

    def close_superseded(self, sandbox_id: str) -> None:
        """Another gateway holds a newer tunnel of this sandbox: ours gives way."""
        host = self._current.get(sandbox_id)
        if host is not None:
            host.give_way()

    def plan_changed(self, sandbox_id: str) -> None:
        """Tell the sandbox its managed set anew."""
        host = self._current.get(sandbox_id)
        if host is not None:
            host.announce_set()

    def close_all(self) -> None:
        """End every tunnel as one that drains: its sandboxd comes back, here or elsewhere."""
        for host in list(self._all):
            host.tunnel.close(DRAINING, "the gateway has drained")

    @property
    def bytes_up(self) -> int:
        """Bytes that have come from sandboxes; never less than before."""
        return self._bytes_up + sum(host.tunnel.bytes_in for host in self._all)

    @property
    def bytes_down(self) -> int:
        """Bytes that have gone to sandboxes; never less than before."""
        return self._bytes_down + sum(host.tunnel.bytes_out for host in self._all)

    def _tell(self, sandbox_id: str) -> None:
        for callback in self._subscribers:
            callback(sandbox_id)

    def __len__(self) -> int:
        return len(self._all)

    def __repr__(self) -> str:
        return f"<Tunnels {len(self._all)} open, of {len(self._current)} sandboxes>"
