"""One sandbox floods a real gateway in every way it can; another one is served meanwhile, and memory stays bounded.

Each flood goes on for a few seconds from a process of its own, so that the gateway is measured and not this test.
"""

import asyncio
import contextlib
import itertools
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

from demo.certificates import write_origin_files
from sallyport.net.clock import Clock
from sallyport.plan.codec import seal
from tests.support.flood import COUNTS, CREDENTIAL
from tests.support.gateway_plans import SANDBOX, plan, route
from tests.support.gateway_process import ROOT, GatewayProcess, Setting, gateway_process
from tests.support.load_origin import load_origin_process
from tests.support.plan_documents import plan_document, rule_document
from tests.support.raw_end import RawEnd
from tests.support.tunnel_client import TunnelClient, dial_tunnel
from tests.support.two_ways import WAYS

pytestmark = [pytest.mark.full, pytest.mark.timeout(120)]

HOST = "api.flood.test"
OPEN_HOST = "open.flood.test"
CALM_HOST = "api.calm.test"
SECRETS = {"con_one": CREDENTIAL, "con_two": "calm-credential-0ddba11"}
MIB = 1024 * 1024
# On two cores that this test, two origins, the flood and the gateway share: far above what is seen, far below a stall.
P99_SECONDS = 1.0
GROWTH_BYTES = 96 * MIB
# Each holds what is written for it, up to limits.write_buffer_bytes, one read beyond that, and itself: 5/8 MiB at most.
READERS = ("slow_readers", "slow_opaque_readers", "slow_tls_readers")
READERS_GROWTH_BYTES = COUNTS["slow_readers"] * MIB * 5 // 8
# What those who are paused hold, what those hold who are not, and themselves.
STUCK = ("stuck_readers", "stuck_opaque_readers", "stuck_sockets")
STUCK_GROWTH_BYTES = (64 + 64 + 64) * MIB
# Where TLS has ended on the way, what was read when a link was paused waits coded beside that: 256 KiB at most.
STUCK_TLS = "stuck_tls_readers"
STUCK_TLS_GROWTH_BYTES = STUCK_GROWTH_BYTES + COUNTS[STUCK_TLS] * MIB // 4
SECONDS = 4.0
ASKED = 150


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A gateway and two sandboxes; what the neighbour asks of, by which connection."""

    gateway: GatewayProcess
    clock: Clock
    host: str
    connection: str

    async def neighbour(self, way: str) -> "Neighbour":
        token = self.gateway.mint_token(f"sallyport-{'proxy' if way == 'explicit' else 'tunnel'}", sandbox_id="sbx_two")
        if way == "explicit":
            end = await RawEnd.dial(self.gateway.proxy_port)
            return Neighbour(self, end, f"Proxy-Authorization: Bearer {token}\r\n", None)
        tunnel = await dial_tunnel(self.clock, self.gateway.tunnel_port, token)
        return Neighbour(self, tunnel.open(), "Sallyport-Stream: plain; revision=1\r\n", tunnel)


class Neighbour:
    """A sandbox that asks one small thing after another."""

    def __init__(self, scene: Scene, end: RawEnd, first_fields: str, tunnel: TunnelClient | None) -> None:
        self._scene = scene
        self._end = end
        self._fields = first_fields
        self.tunnel = tunnel

    async def ask(self) -> float:
        """Ask once and return how long it took."""
        began = time.perf_counter()
        host = self._scene.host
        self._end.send(f"GET http://{host}/ HTTP/1.1\r\n{self._fields}Host: {host}\r\n\r\n".encode())
        if self.tunnel is not None:
            self._fields = ""
        assert (await self._end.answer()).body == self._scene.connection.encode()
        return time.perf_counter() - began

    def close(self) -> None:
        self._end.close()
        if self.tunnel is not None:
            self.tunnel.abort()


@asynccontextmanager
async def scene(
    folder: Path, *, host: str = CALM_HOST, connection: str = "con_two", links: int = 256, tls: bool = False
) -> AsyncIterator[Scene]:
    labels = {secret: name for name, secret in SECRETS.items()}
    files = write_origin_files(folder, [HOST]) if tls else None
    with load_origin_process(labels, files) as flooded, load_origin_process(labels) as calm:
        routes = [route("r", [HOST], "con_one", allowCleartext=True)]
        setting = Setting(
            plan=plan(routes, [rule_document("open", "allow", OPEN_HOST)]),
            credentials=SECRETS,
            connect_to={
                f"{HOST}:{443 if tls else 80}": f"127.0.0.1:{flooded}",
                f"{OPEN_HOST}:443": f"127.0.0.1:{flooded}",
                f"{CALM_HOST}:80": f"127.0.0.1:{calm}",
            },
            ca_file=None if files is None else files.ca_file,
            # Of a shared connection one sandbox has half the links: here a thousand are to be read.
            further={
                "timeouts": {"drain": "1s", "head": "2s"},
                "limits": {"links_per_key": links, "links_per_owner": 4096},
            },
        )
        with gateway_process(folder / "gateway", setting) as gateway:
            routes = [route("r", [host], connection, allowCleartext=True)]
            other = seal({**plan_document(routes, [], default="deny"), "sandboxId": "sbx_two"})
            assert (await asyncio.to_thread(gateway.put_plan, other, "sbx_two"))[0] in (200, 201)
            clock = Clock(asyncio.get_running_loop())
            yield Scene(gateway=gateway, clock=clock, host=host, connection=connection)
            clock.close()


@contextlib.contextmanager
def flooding(
    gateway: GatewayProcess, flood: str, by: str, sandbox_id: str = SANDBOX
) -> Iterator[subprocess.Popen[bytes]]:
    """Let a process flood until the block ends; it has begun when this returns."""
    ports = [str(gateway.proxy_port), str(gateway.tunnel_port)]
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.flood", flood, by, *ports],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    tokens = [gateway.mint_token(f"sallyport-{kind}", sandbox_id=sandbox_id) for kind in ("proxy", "tunnel")]
    process.stdin.write(f"{' '.join(tokens)}\n".encode())
    process.stdin.flush()
    try:
        assert process.stdout.readline() == b"flooding\n"
        yield process
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()


both_ways = pytest.mark.parametrize("way", WAYS)


@both_ways
@pytest.mark.parametrize("by", WAYS)
@pytest.mark.parametrize(
    "flood",
    [
        "half_open",  # a thousand connections that say nothing
        "idle",  # that were served once; more than a sandbox may have
        "slow_heads",  # a thousand that send a byte now and then
        "slow_bodies",  # two hundred, for each has a link to the origin
        "slow_readers",  # two hundred that take a little of 100 MB now and then
        "slow_opaque_readers",  # the same behind a CONNECT to a host that is not managed
        "stuck_readers",  # a thousand that take nothing of it
        "stuck_opaque_readers",
        "heads",  # as many requests as go through, each refused
        "pipelined",  # the same, on streams that are kept
        "headers",  # a hundred fields in each head
        "long_heads",  # a hundred at once, of sixty thousand bytes that are dear to read
        "tiny_chunks",  # a hundred bodies, in chunks of a byte
        "connects",  # to hosts that are denied
        "interceptions",  # CONNECT, and then nothing
        "passthroughs",  # CONNECT to a host that is not managed, dialled, and left
        "passthroughs_kept",  # and kept
    ],
)
async def test_s10_t6_a_flood_leaves_the_neighbour_served(tmp_path: Path, flood: str, by: str, way: str) -> None:
    async with scene(tmp_path, links=4096 if flood in STUCK else 256) as here:
        await judge(here, flood, by, way)


@both_ways
@pytest.mark.parametrize(
    "flood",
    [
        "tunnel_streams",  # opened and reset
        "tunnel_resets",  # of requests that are refused
        "tunnel_resets_dialled",  # of requests for which a link was dialled
        "tunnel_resets_opaque",  # of CONNECTs for which a link was dialled
        "tunnel_pings",
        "tunnel_frames",  # one byte in each
        "tunnel_controls",
        "tunnels",  # one after the other, each left at once
    ],
)
async def test_s10_t6_a_flood_of_frames_leaves_the_neighbour_served(tmp_path: Path, flood: str, way: str) -> None:
    async with scene(tmp_path) as here:
        await judge(here, flood, "frames", way)


@both_ways
@pytest.mark.parametrize(
    ("flood", "by"),
    [
        ("tls_handshakes", "explicit"),  # as many as go through; those of a tunnel are its sandboxd's
        ("tls_tiny_records", "explicit"),  # bodies, in records of a byte
        ("tls_key_updates", "explicit"),  # and nothing else, until the gateway has enough of them
        *(
            (flood, by)
            for by in WAYS
            for flood in (
                "slow_tls_readers",  # two hundred that take a little of 100 MB now and then
                STUCK_TLS,  # three hundred that take nothing of it
                "socket_frames",  # of one byte, as many as go through, both ways
                "socket_fragments",  # of a message without end
                "socket_pings",
                "stuck_sockets",  # sixty that take nothing of such frames
            )
        ),
    ],
)
async def test_s10_t6_a_flood_inside_tls_leaves_the_neighbour_served(
    tmp_path: Path, flood: str, by: str, way: str
) -> None:
    async with scene(tmp_path, links=4096, tls=True) as here:
        await judge(here, flood, by, way)


@both_ways
@pytest.mark.parametrize("by", WAYS)
async def test_s10_t6_slow_bodies_leave_links_to_who_shares_their_connection(tmp_path: Path, by: str, way: str) -> None:
    async with scene(tmp_path, host=HOST, connection="con_one") as here:
        await judge(here, "shared_slow_bodies", by, way)


# What is flooded with: by connections of the explicit listener, and by streams or frames of a tunnel.
MATRIX = {
    "streams": (("half_open", "explicit"), ("half_open", "tunnel")),
    "resets": (("resets", "explicit"), ("tunnel_resets_dialled", "frames")),
    "pings": (("pipelined", "explicit"), ("tunnel_pings", "frames")),  # what is answered without an upstream
    "passthroughs": (("passthroughs_kept", "explicit"), ("passthroughs_kept", "tunnel")),
    "idle links": (("idle", "explicit"), ("idle", "tunnel")),
    "slow bodies": (("slow_bodies", "explicit"), ("slow_bodies", "tunnel")),
}
THIRD = "sbx_three"
CELL_SECONDS = 1.5
CELL_ASKED = 40


@pytest.mark.timeout(360)
async def test_s10_t6_two_floods_at_once_leave_the_neighbour_served(tmp_path: Path) -> None:
    """Every two of them, one sandbox each, by both ways; the neighbour asks by both. One gateway for all."""
    async with scene(tmp_path) as here:
        routes = [route("r", [HOST], "con_one", allowCleartext=True)]
        third = seal({**plan_document(routes, [rule_document("open", "allow", OPEN_HOST)]), "sandboxId": THIRD})
        assert (await asyncio.to_thread(here.gateway.put_plan, third, THIRD))[0] in (200, 201)
        neighbours = [await here.neighbour(way) for way in WAYS]
        worst = [await neighbour.ask() for neighbour in neighbours]
        first = here.gateway.resident_bytes()
        peak = 0
        for one, other in itertools.combinations(MATRIX, 2):
            for number, way in enumerate(WAYS):
                times, grown = await cell(here, MATRIX[one][number], MATRIX[other][number], neighbours)
                p99 = statistics.quantiles(times, n=100, method="inclusive")[98]
                print(
                    f"{one} and {other}, {way}: p99 {p99 * 1000:.1f} ms, longest {max(times) * 1000:.1f}, "
                    f"{len(times)} asked, grew {grown / MIB:.0f} MiB"
                )
                worst.append(p99)
                peak = max(peak, here.gateway.resident_bytes() - first)
        print(f"the worst p99 {max(worst) * 1000:.1f} ms, grown by {peak / MIB:.0f} MiB in all")
        assert max(worst) < P99_SECONDS
        assert peak < GROWTH_BYTES
        for neighbour in neighbours:
            assert await neighbour.ask() < 1
            neighbour.close()


async def cell(
    here: Scene, one: tuple[str, str], other: tuple[str, str], neighbours: list["Neighbour"]
) -> tuple[list[float], int]:
    """Have two sandboxes flood; return how long the neighbour's requests took, and how much memory was taken."""
    before = here.gateway.resident_bytes()
    times: list[float] = []
    grown = 0
    with contextlib.ExitStack() as floods:
        async with asyncio.TaskGroup() as tasks:
            for (flood, by), sandbox_id in ((one, SANDBOX), (other, THIRD)):
                entered = flooding(here.gateway, flood, by, sandbox_id)
                tasks.create_task(asyncio.to_thread(floods.enter_context, entered), name=flood)
        ends_at = time.perf_counter() + CELL_SECONDS
        while time.perf_counter() < ends_at or len(times) < CELL_ASKED:
            times += [await neighbour.ask() for neighbour in neighbours]
            grown = max(grown, here.gateway.resident_bytes() - before)
            await asyncio.sleep(0.005)
    # The next cell begins when this one's streams are gone.
    async with asyncio.timeout(10):
        while await asyncio.to_thread(here.gateway.metric, "sallyport_active_streams") > len(neighbours):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    return times, grown


async def judge(here: Scene, flood: str, by: str, way: str) -> None:
    """Flood, and ask meanwhile; raises AssertionError where the neighbour waits, or memory grows, beyond the bounds."""
    neighbour = await here.neighbour(way)
    quiet = [await neighbour.ask() for _ in range(ASKED)]
    before = here.gateway.resident_bytes()
    times: list[float] = []
    peak = 0
    with flooding(here.gateway, flood, by):
        ends_at = time.perf_counter() + SECONDS
        while time.perf_counter() < ends_at or len(times) < ASKED:
            times.append(await neighbour.ask())
            peak = max(peak, here.gateway.resident_bytes())
            await asyncio.sleep(0.01)  # a neighbour, not a second flood
        requests = here.gateway.metric("sallyport_requests_total")
    p99, calm = (statistics.quantiles(taken, n=100)[98] for taken in (times, quiet))
    print(
        f"{flood} by {by}, neighbour by {way}: p99 {p99 * 1000:.1f} ms, longest {max(times) * 1000:.1f} "
        f"(quiet {calm * 1000:.1f}), grew {(peak - before) / MIB:.0f} MiB, {requests:.0f} requests in all"
    )
    assert p99 < P99_SECONDS
    bounds = dict.fromkeys(READERS, READERS_GROWTH_BYTES) | dict.fromkeys(STUCK, STUCK_GROWTH_BYTES)
    bounds[STUCK_TLS] = STUCK_TLS_GROWTH_BYTES
    assert peak - before < bounds.get(flood, GROWTH_BYTES)
    # T6: it harms only itself, and is over when it is over.
    assert await neighbour.ask() < 1
    neighbour.close()
