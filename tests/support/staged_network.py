"""A network below a gateway's Dialer: names lead where a test says, and every address is an origin of the test's.

What the gateway asked for and what it would have reached is kept. Everything above it is the gateway's own: the policy,
the checks, the order of things.
"""

from collections.abc import Callable

from sallyport.net.dial import Dialled, connect_tcp
from sallyport.net.proxy_connect import ProtocolFactory
from sallyport.net.resolve import Resolver
from tests.support.in_process import GatewayInProcess

PUBLIC = "93.184.216.34"


class StagedNetwork:
    """The names and the addresses of a test. Every connection leads to one port of loopback."""

    def __init__(self, lookup: Callable[[str], tuple[str, ...]], port: int) -> None:
        self._lookup = lookup
        self._port = port
        self.asked: list[str] = []
        self.reached: list[tuple[str, int]] = []

    def below(self, gateway: GatewayInProcess) -> None:
        """Put it under a running gateway. No answer is kept, as if every one had a TTL of 0; a failure is, for good."""
        dialer = gateway.parts.dialer
        dialer._resolver.close()
        # Its time stands still: how long a failure is kept must not depend on how quick a test is.
        dialer._resolver = Resolver(self._resolve, ttl_seconds=0, now=lambda: 0.0)
        dialer._connect = self._connect

    def forget(self) -> None:
        """Begin anew."""
        self.asked.clear()
        self.reached.clear()

    def _resolve(self, host: str) -> tuple[str, ...]:
        self.asked.append(host)
        return self._lookup(host)

    async def _connect(self, protocol_factory: ProtocolFactory, address: str, port: int) -> Dialled:
        self.reached.append((address, port))
        return await connect_tcp(protocol_factory, "127.0.0.1", self._port)
