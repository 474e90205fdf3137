"""Two ends of a tunnel over memory, with owners that record."""

import asyncio
from collections.abc import Callable

from sallyport.net.buffer_budget import BufferBudget
from sallyport.net.clock import Clock
from sallyport.net.memory import memory_pair
from sallyport.net.tunnel import Tunnel
from sallyport.net.tunnel_limits import DEFAULT_LIMITS, TunnelLimits
from sallyport.net.tunnel_stream import TunnelStream
from tests.support.raw_end import WAIT_SECONDS
from tests.support.transports import End


class Owner:
    """Whose tunnel it is: accepts every stream and writes down what it is told."""

    def __init__(self, accept: Callable[[], asyncio.Protocol] = End) -> None:
        self._accept = accept
        self.streams: list[TunnelStream] = []
        self.accepted: list[asyncio.Protocol] = []
        self.controls: list[bytes] = []
        self.losses: list[tuple[int | None, str]] = []

    def stream_opened(self, stream: TunnelStream) -> asyncio.Protocol:
        protocol = self._accept()
        self.streams.append(stream)
        self.accepted.append(protocol)
        return protocol

    def control_received(self, text: bytes) -> None:
        self.controls.append(text)

    def tunnel_lost(self, code: int | None, reason: str) -> None:
        self.losses.append((code, reason))


class TunnelPair:
    """sandboxd's side (the client) and the gateway's, joined in memory; needs a running loop."""

    def __init__(
        self,
        *,
        sandbox: Owner | None = None,
        gateway: Owner | None = None,
        limits: TunnelLimits = DEFAULT_LIMITS,
        budget_bytes: int = 64 * 1024 * 1024,
        chunk_bytes: int = 256 * 1024,
        clock: Clock | None = None,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.clock = clock or Clock(loop)
        self.sandbox_owner = sandbox or Owner()
        self.gateway_owner = gateway or Owner()
        self.sandbox_budget = BufferBudget(budget_bytes)
        self.gateway_budget = BufferBudget(budget_bytes)
        self.sandbox = Tunnel(
            self.sandbox_owner, is_client=True, clock=self.clock, budget=self.sandbox_budget, limits=limits
        )
        self.gateway = Tunnel(
            self.gateway_owner, is_client=False, clock=self.clock, budget=self.gateway_budget, limits=limits
        )
        ends = memory_pair(loop, asyncio.Protocol(), asyncio.Protocol(), chunk_bytes=chunk_bytes)
        self.sandbox_transport, self.gateway_transport = ends
        self.sandbox.start(ends[0])
        self.gateway.start(ends[1])


async def tunnel_stream_pair(a: asyncio.Protocol, b: asyncio.Protocol) -> None:
    """Join two protocols by a stream that a's side opens; both have had `connection_made` on return."""
    pair = TunnelPair(gateway=Owner(accept=lambda: b))
    pair.sandbox.open_stream(a)
    async with asyncio.timeout(WAIT_SECONDS):
        while not pair.gateway_owner.streams:  # noqa: ASYNC110  there is no event to wait for
            await asyncio.sleep(0)
