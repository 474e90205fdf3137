"""A real gateway process that has no descriptor left, or no disk: it serves what it can, says so, and recovers (T5)."""

import asyncio
import json
import os
import resource
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from demo.certificates import write_origin_files
from sallyport.net.clock import Clock
from tests.support.gateway_plans import plan, route
from tests.support.gateway_process import GatewayProcess, Setting, gateway_process
from tests.support.load_origin import LoadOrigin, load_origin
from tests.support.raw_end import RawAnswer, RawEnd
from tests.support.tunnel_client import TunnelClient, dial_tunnel
from tests.support.until import until

pytestmark = [pytest.mark.full, pytest.mark.timeout(120)]

HOST, OTHER, DEAD = "api.full.test", "other.full.test", "dead.full.test"
SECRET = "exhausted-credential-c0ffee"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    gateway: GatewayProcess
    origin: LoadOrigin
    tunnel: TunnelClient

    async def open(self, way: str, host: str = HOST) -> RawEnd:
        """Open a stream by a way; an intercepted one, in the tunnel, is for one host."""
        if way == "intercepted":
            return await self.tunnel.inside(f"{host}:443")
        return await RawEnd.dial(self.gateway.proxy_port) if way == "explicit" else self.tunnel.open()

    def send(self, end: RawEnd, way: str, host: str = HOST, *, first: bool = True) -> None:
        """Send a request; the first one on a tunnel's stream declares it."""
        if way == "intercepted":
            end.send(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            return
        own = "Sallyport-Stream: plain; revision=1\r\n" if first else ""
        if way == "explicit":
            own = f"Proxy-Authorization: Bearer {self.gateway.token}\r\n"
        end.send(f"GET http://{host}/ HTTP/1.1\r\n{own}Host: {host}\r\n\r\n".encode())

    async def ask(self, way: str, host: str = HOST) -> RawAnswer:
        """Ask on a stream of its own."""
        end = await self.open(way, host)
        self.send(end, way, host)
        try:
            return await end.answer()
        finally:
            end.close()

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.gateway.process.pid}/fd"))

    def mapped_bytes(self) -> int:
        pages = Path(f"/proc/{self.gateway.process.pid}/statm").read_text().split()[0]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def processor_seconds(self) -> float:
        fields = Path(f"/proc/{self.gateway.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@asynccontextmanager
async def scene(folder: Path, **further: dict[str, object]) -> AsyncIterator[Scene]:
    files = write_origin_files(folder, [HOST, OTHER])
    labels = {SECRET: "con_one"}
    async with load_origin(labels) as origin, load_origin(labels, files.server_context()) as tls_origin:
        setting = Setting(
            plan=plan([route("r", [HOST, OTHER, DEAD], "con_one", allowCleartext=True)]),
            credentials={"con_one": SECRET},
            in_files=True,
            connect_to={f"{host}:80": f"127.0.0.1:{origin.port}" for host in (HOST, OTHER)}
            | {f"{host}:443": f"127.0.0.1:{tls_origin.port}" for host in (HOST, OTHER)}
            | {f"{DEAD}:80": "127.0.0.1:1"},
            ca_file=files.ca_file,
            # Idle tunnels are waited for until half of the drain.
            further={"timeouts": {"drain": "1s"}, **further},
        )
        with gateway_process(folder / "gateway", setting) as gateway:
            clock = Clock(asyncio.get_running_loop())
            tunnel = await dial_tunnel(clock, gateway.tunnel_port, gateway.mint_token("sallyport-tunnel"))
            try:
                yield Scene(gateway=gateway, origin=origin, tunnel=tunnel)
            finally:
                tunnel.abort()
                clock.close()


@contextmanager
def descriptors_left(here: Scene, left: int) -> Iterator[None]:
    """Let the gateway open only so many more."""
    pid = here.gateway.process.pid
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (here.descriptors() + left, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize("way", ["explicit", "tunnel", "intercepted"])
async def test_t5_without_descriptors_open_streams_are_served_and_dials_fail_closed(tmp_path: Path, way: str) -> None:
    async with scene(tmp_path) as here:
        kept = await here.open(way)
        here.send(kept, way)
        assert (await kept.answer()).body == b"con_one"
        # Of an intercepted stream every request is for its host.
        elsewhere = await here.open(way, OTHER) if way == "intercepted" else kept
        flood: list[RawEnd] = []
        with descriptors_left(here, 0):
            # The link of the first exchange is idle: no descriptor is needed for another.
            for _ in range(3):
                here.send(kept, way, first=False)
                assert (await kept.answer()).body == b"con_one"
            here.send(elsewhere, way, OTHER, first=False)
            answer = await elsewhere.answer()
            assert (answer.status, json.loads(answer.body)["code"]) == (503, "overloaded")
            assert answer.value("Retry-After") == "1"
            # What is accepted and has no descriptor is closed, and nothing spins on what waits.
            before = here.processor_seconds()
            began = time.perf_counter()
            flood += [await RawEnd.dial(here.gateway.proxy_port) for _ in range(50)]
            for end in flood:
                assert await end.gone() == b""
            await asyncio.sleep(1)  # the time over which its processor is watched
            assert here.processor_seconds() - before < 0.3 * (time.perf_counter() - began)
            here.send(kept, way, first=False)
            assert (await kept.answer()).status == 200
        for end in flood:
            end.close()
        assert (await here.ask(way, OTHER)).body == b"con_one"
        assert (await here.ask("explicit")).body == b"con_one"
        kept.close()


async def test_t5_a_credential_is_not_gone_because_its_file_cannot_be_opened_now(tmp_path: Path) -> None:
    async with scene(tmp_path) as here:
        kept = await here.open("explicit")
        kept.send(b"GET /healthz HTTP/1.1\r\nHost: gateway\r\n\r\n")
        assert (await kept.answer()).status == 200
        with descriptors_left(here, 0):
            here.send(kept, "explicit")
            answer = await kept.answer()
        assert (answer.status, json.loads(answer.body)["code"]) == (503, "credential_temporarily_unavailable")
        await asyncio.sleep(int(answer.value("Retry-After")))  # what the gateway asks for
        assert (await here.ask("explicit")).status == 200
        kept.close()


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A disk of 256 KiB; the test is skipped where this user may mount none."""
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip("this user may mount no disk")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.parametrize("way", ["explicit", "tunnel"])
async def test_t5_an_audit_disk_that_is_full_stops_nobody_and_is_told_once(tmp_path: Path, way: str) -> None:
    with small_disk(tmp_path / "disk") as disk:
        further: dict[str, dict[str, object]] = {
            "audit": {"path": str(disk / "audit.jsonl")},
            "limits": {"audit_records": 256},
        }
        async with scene(tmp_path, **further) as here:
            kept = await here.open(way)
            here.send(kept, way)
            assert (await kept.answer()).status == 200
            for _ in range(1500):
                here.send(kept, way, first=False)
                assert (await kept.answer()).status == 200
            await asyncio.to_thread(here.gateway.told, "audit_write_failed", 1)
            assert await asyncio.to_thread(here.gateway.metric, "sallyport_audit_dropped_total") > 100
            written = len((disk / "audit.jsonl").read_bytes().splitlines())
            os.truncate(disk / "audit.jsonl", 0)
            await until(lambda: b"audit_write_recovered" in here.gateway.log)
            here.send(kept, way, first=False)
            assert (await kept.answer()).status == 200
            await until(lambda: len((disk / "audit.jsonl").read_bytes().splitlines()) > 250)
            # The line that was cut in two is whole, on a line of its own: where it had begun there is an empty one.
            lines = filter(None, (disk / "audit.jsonl").read_bytes().splitlines())
            assert {json.loads(line)["host"] for line in lines} == {HOST}
            assert written > 50
            kept.close()


MIB = 1024 * 1024


@pytest.mark.parametrize("way", ["explicit", "tunnel"])
async def test_t5_a_gateway_at_its_memory_sheds_lives_and_recovers(tmp_path: Path, way: str) -> None:
    """Sandboxes that take none of their answers; what the process may map is bounded above what it may hold."""
    limit = 160 * MIB
    limits: dict[str, object] = {"memory": limit, "write_buffer_bytes": "8MiB"}
    async with scene(tmp_path, limits=limits) as here:
        kept = await here.open("explicit")
        here.send(kept, "explicit")
        assert (await kept.answer()).status == 200
        pid = here.gateway.process.pid
        mapped = here.mapped_bytes()
        resource.prlimit(pid, resource.RLIMIT_AS, (mapped + 512 * MIB, mapped + 512 * MIB))
        flood = [await here.open(way) for _ in range(64)]
        statuses = []
        for end in flood:
            if way == "explicit":
                end.pause()
            own = "Sallyport-Stream: plain; revision=1" if way == "tunnel" else ""
            own = own or f"Proxy-Authorization: Bearer {here.gateway.token}"
            end.send(f"GET http://{HOST}/bytes/{64 * MIB} HTTP/1.1\r\n{own}\r\nHost: {HOST}\r\n\r\n".encode())
            if way == "tunnel":
                end.writer.transport.pause_reading()  # type: ignore[attr-defined]  # it reads as well
        await until(lambda: b"memory_over_limit" in here.gateway.log)
        while 503 not in statuses:
            here.send(kept, "explicit", first=False)
            statuses.append((await kept.answer()).status)
        assert set(statuses) <= {200, 503}
        assert await asyncio.to_thread(here.gateway.metric, "sallyport_streams_shed_total") > 0
        for end in flood:
            end.writer.transport.abort()
        await until(lambda: b"memory_recovered" in here.gateway.log)
        here.send(kept, "explicit", first=False)
        assert (await kept.answer()).status == 200
        assert (await here.ask("explicit", OTHER)).status == 200
        assert here.gateway.resident_bytes() < limit
        kept.close()


# What a pipe holds, and a little: each failed request has a line of 150 bytes and more.
LINES = 600


@pytest.mark.parametrize("way", ["explicit", "tunnel"])
async def test_t5_a_log_that_nobody_reads_holds_up_nobody(tmp_path: Path, way: str) -> None:
    async with scene(tmp_path) as here:
        end = await here.open(way)
        with here.gateway.unread_log():
            for number in range(LINES):
                here.send(end, way, DEAD, first=number == 0)
                assert (await end.answer()).status == 502
            assert (await here.ask("explicit")).body == b"con_one"
            assert (await here.ask("tunnel")).body == b"con_one"
        await until(lambda: here.gateway.log.count(b'"upstream_failed"') == LINES)
        end.close()
