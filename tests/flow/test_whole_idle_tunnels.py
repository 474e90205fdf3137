"""Thousands of sandboxes that do nothing: what their tunnels cost a gateway, and that each still works."""

import asyncio
import contextlib
import resource
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest
import uvloop

from sallyport.net.buffer_budget import BufferBudget
from sallyport.net.clock import Clock
from sallyport.net.tunnel import Tunnel
from sallyport.net.tunnel_stream import TunnelStream
from sallyport.net.websocket_upgrade import upgrade_request
from sallyport.wire.http1.scan import HEAD_END
from sallyport.wire.websocket import DRAINING
from tests.support.figures import InTime, figure
from tests.support.gateway_plans import SANDBOX, plan, route
from tests.support.gateway_process import GatewayProcess, Setting, gateway_process
from tests.support.load_origin import load_origin

HOST = "api.load.test"
SECRET = "credential-of-the-one-that-works"
# Opened before memory is looked at: what the first ones load stays for all.
WARM = 50
AT_ONCE = 64
# Never used, over ws: of the tunnel itself, its socket's protocol and what is known of its token.
MAX_BYTES_EACH = 16 * 1024
DRAIN_SECONDS = 4
# What 5,000 closing handshakes and the end of the process take on a busy machine.
CLOSED_WITHIN_SECONDS = 10
# A tunnel is dead once it left a ping unanswered for 30 s (docs/tunnel-protocol.md).
LONGER_THAN_DEAD_SECONDS = 35


class IdleEnd(asyncio.Protocol):
    """A sandbox's end of one tunnel: it opens, answers pings, and remembers how it ended."""

    def __init__(self, load: "Load", sandbox_id: str, token: str) -> None:
        self.sandbox_id = sandbox_id
        self.opened = load.loop.create_future()
        self.code: int | None = None
        self.is_lost = False
        self.tunnel = Tunnel(self, is_client=True, clock=load.clock, budget=load.budget)
        self._request, _ = upgrade_request("gateway.test", token=token)
        self._head = b""

    # Before there is a tunnel

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are no asyncio.Transport
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._head += data
        head, end, early = self._head.partition(HEAD_END)
        if end:
            assert head.startswith(b"HTTP/1.1 101 "), head
            self.tunnel.start(self._transport, early)
            self.opened.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_lost = True

    # What the tunnel calls

    def stream_opened(self, stream: TunnelStream) -> asyncio.Protocol:
        raise AssertionError("nobody asks anything of an idle sandbox")

    def control_received(self, text: bytes) -> None:
        """Take it; nothing follows from it here."""

    def tunnel_lost(self, code: int | None, reason: str) -> None:
        self.code = code
        self.is_lost = True


@dataclass(slots=True)
class Load:
    """All ends, in one process."""

    loop: asyncio.AbstractEventLoop
    clock: Clock
    budget: BufferBudget
    ends: list[IdleEnd]

    async def open(self, gateway: GatewayProcess, names: Iterator[str], number: int) -> None:
        """Open so many more tunnels, a few at a time."""
        waiting = iter([next(names) for _ in range(number)])

        async def open_some() -> None:
            for name in waiting:
                end = IdleEnd(self, name, gateway.mint_token("sallyport-tunnel", sandbox_id=name))
                await self.loop.create_connection(lambda end=end: end, "127.0.0.1", gateway.tunnel_port)  # type: ignore[misc]
                await end.opened
                self.ends.append(end)

        async with asyncio.TaskGroup() as group:
            for worker in range(AT_ONCE):
                group.create_task(open_some(), name=f"open {worker}")

    @property
    def open_count(self) -> int:
        return sum(not end.is_lost for end in self.ends)


@contextlib.asynccontextmanager
async def idle_load() -> AsyncIterator[Load]:
    loop = asyncio.get_running_loop()
    load = Load(loop, Clock(loop), BufferBudget(), [])
    try:
        yield load
    finally:
        for end in load.ends:
            end.tunnel.abort()
        load.clock.close()


@pytest.fixture(autouse=True)
def enough_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 16384), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def names() -> Iterator[str]:
    """Name the sandboxes; the first is the one with a plan."""
    yield SANDBOX
    number = 0
    while True:
        number += 1
        yield f"sbx_idle{number}"


async def ask(tunnel: Tunnel) -> bytes:
    """Make one plain request in a tunnel and return all of its answer."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    stream = tunnel.open_stream(protocol)
    head = f"GET http://{HOST}/ HTTP/1.1\r\nHost: {HOST}\r\nSallyport-Stream: plain; revision=1\r\n"
    stream.write(head.encode() + b"Connection: close\r\n\r\n")
    try:
        return await reader.read()
    finally:
        stream.close()


async def until_metric(gateway: GatewayProcess, name: str, value: float, seconds: float) -> None:
    """Wait until a metric has a value; the gateway counts a little later than we do."""
    async with asyncio.timeout(seconds):
        while await asyncio.to_thread(gateway.metric, name) != value:  # noqa: ASYNC110  of another process
            await asyncio.sleep(0.05)


COUNTS = [
    pytest.param(500, 0.0, id="500"),
    pytest.param(5000, LONGER_THAN_DEAD_SECONDS, id="5000", marks=[pytest.mark.full, pytest.mark.timeout(240)]),
]


@pytest.mark.parametrize(("number", "idle_seconds"), COUNTS)
def test_idle_tunnels_cost_little_and_work(tmp_path: Path, number: int, idle_seconds: float, in_time: InTime) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop, debug=False) as runner:
        runner.run(idle(tmp_path, number, idle_seconds, in_time))


async def idle(folder: Path, number: int, idle_seconds: float, in_time: InTime) -> None:
    async with load_origin({SECRET: "worked"}) as origin, idle_load() as load:
        setting = Setting(
            plan=plan([route("load", [HOST], "con_a", allowCleartext=True)]),
            credentials={"con_a": SECRET},
            connect_to={f"{HOST}:80": f"127.0.0.1:{origin.port}"},
            further={"timeouts": {"drain": f"{DRAIN_SECONDS}s"}, "limits": {"open_streams": 20_000}},
        )
        running = gateway_process(folder, setting)
        gateway = await asyncio.to_thread(running.__enter__)
        try:
            await measure(gateway, load, number, idle_seconds)
            await end_all(gateway, load, in_time)
        finally:
            await asyncio.to_thread(running.__exit__, None, None, None)


async def measure(gateway: GatewayProcess, load: Load, number: int, idle_seconds: float) -> None:
    sandboxes = names()
    await load.open(gateway, sandboxes, WARM)
    before = gateway.resident_bytes()
    begun_at = time.perf_counter()
    await load.open(gateway, sandboxes, number - WARM)
    figure(f"{number} tunnels opened, each", (time.perf_counter() - begun_at) / (number - WARM) * 1000, "ms")
    await until_metric(gateway, "sallyport_active_tunnels", number, 20)
    each = (gateway.resident_bytes() - before) / (number - WARM)
    figure(f"{number} idle tunnels, each", each, "bytes")
    assert each <= MAX_BYTES_EACH
    await asyncio.sleep(idle_seconds)
    assert load.open_count == number
    assert gateway.metric("sallyport_active_tunnels") == number
    used = next(end for end in load.ends if end.sandbox_id == SANDBOX)
    begun_at = time.perf_counter()
    async with asyncio.timeout(30):
        assert (await ask(used.tunnel)).endswith(b"worked")
    figure(f"a request beside {number} idle tunnels", (time.perf_counter() - begun_at) * 1000, "ms")


async def end_all(gateway: GatewayProcess, load: Load, in_time: InTime) -> None:
    """SIGTERM: every tunnel is told, and closed as one that drains."""
    begun_at = time.perf_counter()
    assert await asyncio.to_thread(gateway.terminate) == 0
    seconds = time.perf_counter() - begun_at
    # sandboxd has the first half of the time to go elsewhere.
    assert seconds >= DRAIN_SECONDS / 2
    in_time(f"{len(load.ends)} tunnels drained", seconds, DRAIN_SECONDS + CLOSED_WITHIN_SECONDS)
    async with asyncio.timeout(30):
        while load.open_count:  # noqa: ASYNC110  each end is told by itself
            await asyncio.sleep(0.01)
    assert {end.code for end in load.ends} == {DRAINING}
