"""The two ways of a sandbox into a gateway, for a test that must see the same by both."""

from collections.abc import Awaitable, Callable
from typing import Final

from tests.support.gateway_plans import SANDBOX
from tests.support.in_process import GatewayInProcess, proxy_token
from tests.support.raw_end import RawEnd
from tests.support.tunnel_client import TunnelClient

WAYS: Final = ("explicit", "tunnel")

# Opens a stream of its own, and sends a head without a token; `declared` is what a tunnel's stream says of itself.
type Ask = Callable[..., Awaitable[RawEnd]]


async def way_into(gateway: GatewayInProcess, way: str, sandbox_id: str = SANDBOX) -> Ask:
    """Return how this sandbox asks by this way."""
    if way == "explicit":
        authorization = f"Proxy-Authorization: Bearer {proxy_token(sandbox_id)}\r\n".encode()

        async def ask_the_listener(head: bytes, declared: str = "") -> RawEnd:
            end = await gateway.client()
            first, _, rest = head.partition(b"\r\n")
            end.send(first + b"\r\n" + authorization + rest)
            return end

        return ask_the_listener
    client: TunnelClient = await gateway.tunnel(sandbox_id)

    async def ask_the_tunnel(head: bytes, declared: str = "plain; revision=1") -> RawEnd:
        return client.ask(head, declared)

    return ask_the_tunnel
