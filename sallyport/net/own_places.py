"""Where the gateway itself can be reached, and its control plane: never a destination.

Neither follows from the settings alone. A listener on a wildcard is at every address of the machine, also at those that
come up later; a control plane that has a name is where that name leads now. So it is asked at each dial, and only for
the ports concerned.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from sallyport.address_policy import carried_addresses
from sallyport.net.transports import is_local_address

type Place = tuple[str, int]

WILDCARDS: Final = frozenset({"0.0.0.0", "::"})


class OwnPlaces:
    """The listeners, by (address, port), and what the operator named, by (normalised host, port).

    Always: `_last` holds what each name led to when it was last told.
    """

    def __init__(
        self,
        listeners: Iterable[Place] = (),
        named: Iterable[Place] = (),
        *,
        is_local: Callable[[str], bool] = is_local_address,
    ) -> None:
        self._listeners = frozenset(listeners)
        self._named = frozenset(named)
        self._ports = frozenset(port for _, port in self._listeners | self._named)
        self._ports_everywhere = frozenset(port for address, port in self._listeners if address in WILDCARDS)
        self._is_local = is_local
        self._last: dict[str, tuple[str, ...]] = {}

    def hold(self, host: str, port: int) -> bool:
        """Say whether a normalised host is ours by the name, or the address, that the operator gave it."""
        return (host, port) in self._named

    def hosts_at(self, port: int) -> Iterator[str]:
        """Yield the named hosts of a port: whoever asks `among` looks them up first."""
        return (host for host, named_port in self._named if named_port == port)

    def learn(self, host: str, addresses: tuple[str, ...]) -> None:
        """Note where a named host leads now."""
        self._last[host] = addresses

    def knows(self, host: str) -> bool:
        """Say whether a named host was ever looked up with success."""
        return host in self._last

    def among(self, addresses: Iterable[str], port: int) -> frozenset[Place]:
        """Return what is ours, as AddressPolicy.own wants it, for addresses that are about to be dialled.

        An address that is not canonical is left to the policy, which refuses it.
        """
        if port not in self._ports:
            return self._listeners
        theirs = [address for host in self.hosts_at(port) for address in self._last.get(host, ())]
        own = self._listeners.union((address, port) for address in theirs)
        # A control plane on this machine may listen on a wildcard too.
        if port in self._ports_everywhere or any(map(self._is_local, theirs)):
            own = own.union((address, port) for address in _carried(addresses) if self._is_local(address))
        return own

    def __repr__(self) -> str:
        places = " ".join(sorted(f"{host}:{port}" for host, port in self._listeners | self._named))
        return f"<OwnPlaces {places}>"


def _carried(addresses: Iterable[str]) -> Iterator[str]:
    for address in addresses:
        try:
            yield from carried_addresses(address)
        except ValueError:
            continue
