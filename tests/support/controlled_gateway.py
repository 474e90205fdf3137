"""A gateway process under a scripted control plane, and its sandboxes by both ways: what credentials do is seen whole.

Every host leads to one origin that records. Requests are in the clear, so that nothing but the credential is at stake.
"""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sallyport.net.clock import Clock
from tests.support import signed_tokens
from tests.support.fake_control import FakeControl, fake_control
from tests.support.gateway_plans import ORGANIZATION, SANDBOX
from tests.support.gateway_process import GatewayProcess, linked_gateway
from tests.support.origin import RecordingOrigin, recording_origin
from tests.support.raw_end import RawAnswer, RawEnd
from tests.support.tunnel_client import TunnelClient, dial_tunnel

RESOLVE = "/internal/integration-credentials/resolve"
START_SECONDS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Controlled:
    """The scene."""

    gateway: GatewayProcess
    control: FakeControl
    origin: RecordingOrigin
    clock: Clock
    tunnels: dict[tuple[str, str], TunnelClient] = field(default_factory=dict)  # opened when first asked by

    async def ask(
        self, way: str, host: str, sandbox_id: str = SANDBOX, organization_id: str = ORGANIZATION
    ) -> RawAnswer:
        """Send a GET on a new stream, by the explicit listener or a tunnel, and return its answer."""
        first, rest = f"GET http://{host}/x HTTP/1.1\r\n".encode(), f"Host: {host}\r\n\r\n".encode()
        if way == "explicit":
            token = signed("sallyport-proxy", sandbox_id, organization_id)
            end = await RawEnd.dial(self.gateway.proxy_port)
            end.send(first + b"Proxy-Authorization: Bearer " + token.encode() + b"\r\n" + rest)
        else:
            end = (await self._tunnel(sandbox_id, organization_id)).ask(first + rest)
        try:
            return await end.answer()
        finally:
            end.close()  # in good order: a tunnel takes only so many streams, and so many resets

    async def _tunnel(self, sandbox_id: str, organization_id: str) -> TunnelClient:
        tunnel = self.tunnels.get((sandbox_id, organization_id))
        if tunnel is None:
            token = signed("sallyport-tunnel", sandbox_id, organization_id)
            tunnel = await dial_tunnel(self.clock, self.gateway.tunnel_port, token)
            self.tunnels[sandbox_id, organization_id] = tunnel
        return tunnel

    def injected(self) -> Counter[str]:
        """Return what came behind `Bearer` in each request so far, and how often."""
        requests = self.origin.received.decode().split("GET ")[1:]
        return Counter(request.partition("Authorization: Bearer ")[2].partition("\r\n")[0] for request in requests)


def signed(audience: str, sandbox_id: str, organization_id: str) -> str:
    """Sign a token by the key of the scripted control plane."""
    now = time.time_ns() // 10**9
    claims = signed_tokens.claims(aud=audience, sub=sandbox_id, org=organization_id, iat=now, nbf=now, exp=now + 3600)
    return signed_tokens.mint(claims, header={"alg": "EdDSA", "kid": "fake"})


@contextlib.asynccontextmanager
async def controlled_gateway(
    folder: Path, plans: Sequence[bytes], hosts: Sequence[str], environment: Mapping[str, str] | None = None
) -> AsyncIterator[Controlled]:
    """Set the scene; environment comes beside the process's own variables."""
    async with fake_control() as control, recording_origin() as origin:
        for document in plans:
            await control.publish(document)
        process = linked_gateway(
            folder / "gateway",
            {"url": control.url, "token_file": str(control.token_file(folder)), "gateway_id": "gw_cases"},
            {"connect_to": {f"{host}:80": f"127.0.0.1:{origin.port}" for host in hosts}},
            {"timeouts": {"credential": "2s", "plan": "2s", "drain": "1s"}},
            environment,
        )
        gateway = await asyncio.to_thread(process.__enter__)
        clock = Clock(asyncio.get_running_loop())
        try:
            async with asyncio.timeout(START_SECONDS):
                while not await asyncio.to_thread(_is_told, gateway):
                    pass
            scene = Controlled(gateway=gateway, control=control, origin=origin, clock=clock)
            yield scene
            for tunnel in scene.tunnels.values():
                tunnel.abort()
        finally:
            clock.close()
            await asyncio.to_thread(process.__exit__, None, None, None)


def _is_told(gateway: GatewayProcess) -> bool:
    """Whether it has the plans and the keys."""
    keys = gateway.metric("sallyport_control_requests_total", operation="keys", result="ok")
    return keys > 0 and gateway.ask_admin("GET", "/readyz")[0] == 200
