"""One sandbox floods a real gateway in every way it can; another one is served meanwhile, and memory stays bounded.

Each flood goes on for a few seconds from a process of its own, so that the gateway is measured and not this test.
"""

import asyncio
import contextlib
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from sallyport.net.clock import Clock
from sallyport.plan.codec import seal
from tests.support.gateway_plans import plan, route
from tests.support.gateway_process import ROOT, GatewayProcess, Setting, gateway_process
from tests.support.load_origin import load_origin
from tests.support.plan_documents import plan_document
from tests.support.raw_end import RawEnd
from tests.support.tunnel_client import TunnelClient, dial_tunnel
from tests.support.two_ways import WAYS

pytestmark = [pytest.mark.full, pytest.mark.timeout(120)]

HOST = "api.flood.test"
SECRETS = {"con_one": "flood-credential-5ca1ab1e", "con_two": "calm-credential-0ddba11"}
MIB = 1024 * 1024
# On two cores that this test, the origin, the flood and the gateway share: far above what is seen, far below a stall.
P99_SECONDS = 1.0
GROWTH_BYTES = 160 * MIB
SECONDS = 4.0
ASKED = 150


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    gateway: GatewayProcess
    clock: Clock
    connection: str  # the neighbour's

    async def neighbour(self, way: str) -> "Neighbour":
        token = self.gateway.mint_token(f"sallyport-{'proxy' if way == 'explicit' else 'tunnel'}", sandbox_id="sbx_two")
        if way == "explicit":
            end = await RawEnd.dial(self.gateway.proxy_port)
            return Neighbour(end, f"Proxy-Authorization: Bearer {token}\r\n", None, self.connection)
        tunnel = await dial_tunnel(self.clock, self.gateway.tunnel_port, token)
        return Neighbour(tunnel.open(), "Sallyport-Stream: plain; revision=1\r\n", tunnel, self.connection)


class Neighbour:
    """A sandbox that asks one small thing after another."""

    def __init__(self, end: RawEnd, first_fields: str, tunnel: TunnelClient | None, connection: str) -> None:
        self._end = end
        self._connection = connection.encode()
        self._fields = first_fields
        self.tunnel = tunnel

    async def ask(self) -> float:
        """Ask once and return how long it took."""
        began = time.perf_counter()
        self._end.send(f"GET http://{HOST}/ HTTP/1.1\r\n{self._fields}Host: {HOST}\r\n\r\n".encode())
        if self.tunnel is not None:
            self._fields = ""
        assert (await self._end.answer()).body == self._connection
        return time.perf_counter() - began

    def close(self) -> None:
        self._end.close()
        if self.tunnel is not None:
            self.tunnel.abort()


@asynccontextmanager
async def scene(folder: Path, connection: str = "con_two") -> AsyncIterator[Scene]:
    async with load_origin({secret: name for name, secret in SECRETS.items()}) as origin:
        setting = Setting(
            plan=plan([route("r", [HOST], "con_one", allowCleartext=True)]),
            credentials=SECRETS,
            connect_to={f"{HOST}:80": f"127.0.0.1:{origin.port}"},
            further={"timeouts": {"drain": "1s", "head": "2s"}},
        )
        with gateway_process(folder / "gateway", setting) as gateway:
            calm = [route("r", [HOST], connection, allowCleartext=True)]
            other = seal({**plan_document(calm, [], default="deny"), "sandboxId": "sbx_two"})
            assert (await asyncio.to_thread(gateway.put_plan, other, "sbx_two"))[0] in (200, 201)
            clock = Clock(asyncio.get_running_loop())
            yield Scene(gateway=gateway, clock=clock, connection=connection)
            clock.close()


@contextlib.contextmanager
def flooding(gateway: GatewayProcess, flood: str) -> Iterator[subprocess.Popen[bytes]]:
    """Let a process flood until the block ends; it has begun when this returns."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.flood", flood, str(gateway.proxy_port), str(gateway.tunnel_port)],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{gateway.token} {gateway.mint_token('sallyport-tunnel')}\n".encode())
    process.stdin.flush()
    try:
        assert process.stdout.readline() == b"flooding\n"
        yield process
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "flood",
    [
        "half_open",  # a thousand connections that say nothing
        "slow_heads",  # a thousand that send a byte now and then
        "slow_bodies",  # two hundred, for each has a link to the origin, which is this process
        "heads",  # as many requests as go through, each refused
        "pipelined",  # the same, on streams that are kept
        "headers",  # a hundred fields in each head
        "connects",  # to hosts that are denied
        "interceptions",  # CONNECT, and then nothing
        "tunnel_streams",
        "tunnel_resets",
        "tunnel_pings",
        "tunnel_frames",  # one byte in each
        "tunnel_controls",
    ],
)
async def test_s10_t6_a_flood_leaves_the_neighbour_served(tmp_path: Path, flood: str, way: str) -> None:
    async with scene(tmp_path) as here:
        await judge(here, flood, way)


@pytest.mark.parametrize("way", WAYS)
async def test_s10_t6_slow_bodies_leave_links_to_who_shares_their_connection(tmp_path: Path, way: str) -> None:
    """Three hundred, which is more than a pool key has links."""
    async with scene(tmp_path, connection="con_one") as here:
        await judge(here, "shared_slow_bodies", way)


async def judge(here: Scene, flood: str, way: str) -> None:
    """Flood, and ask meanwhile; raises AssertionError where the neighbour waits, or memory grows, beyond the bounds."""
    neighbour = await here.neighbour(way)
    quiet = [await neighbour.ask() for _ in range(ASKED)]
    before = here.gateway.resident_bytes()
    times: list[float] = []
    peak = 0
    with flooding(here.gateway, flood):
        ends_at = time.perf_counter() + SECONDS
        while time.perf_counter() < ends_at or len(times) < ASKED:
            times.append(await neighbour.ask())
            peak = max(peak, here.gateway.resident_bytes())
            await asyncio.sleep(0.01)  # a neighbour, not a second flood
    p99, calm = (statistics.quantiles(taken, n=100)[98] for taken in (times, quiet))
    print(f"{flood} by {way}: p99 {p99 * 1000:.1f} ms (quiet {calm * 1000:.1f}), grew {(peak - before) / MIB:.0f} MiB")
    assert p99 < P99_SECONDS
    assert peak - before < GROWTH_BYTES
    # T6: it harms only itself, and is over when it is over.
    assert await neighbour.ask() < 1
    neighbour.close()
