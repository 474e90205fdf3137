"""Much at once through a real gateway process: bulk with constant memory, a cold credential, SIGTERM and plan pushes
under load. Where TLS is not the question the route is a cleartext one, so that this process, which is client and
origin at once, stays the faster side.
"""

import asyncio
import resource
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import uvloop

from demo.certificates import write_origin_files
from sallyport.destination import DEFAULT_PORTS
from sallyport.net.clock import Clock
from tests.support.egress_ways import WAYS
from tests.support.gateway_plans import plan, route
from tests.support.gateway_process import GatewayProcess, Setting, gateway_process
from tests.support.load_origin import BLOCK, LoadOrigin, load_origin
from tests.support.tunnel_client import TunnelClient, tunnel_client

HOST = "api.load.test"
SECRETS = {"con_a": "load-credential-a-18c2", "con_b": "load-credential-b-77d0"}
LABELS = {secret: connection_id for connection_id, secret in SECRETS.items()}
MIB = 1024 * 1024
ALLOWED_GROWTH = 32 * MIB
SAMPLE_SECONDS = 0.02
AT_ONCE = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """One gateway and the origin behind it."""

    gateway: GatewayProcess
    origin: LoadOrigin
    scheme: str
    tunnel: TunnelClient | None  # whose sandboxd this test is; without it the way is the explicit listener

    async def open(self) -> "Client":
        """Open a stream; for https through CONNECT and interception."""
        if self.tunnel is not None:
            return await self._open_in(self.tunnel)
        reader, writer = await asyncio.open_connection("127.0.0.1", self.gateway.proxy_port)
        token = f"Proxy-Authorization: Bearer {self.gateway.token}\r\n"
        if self.scheme == "http":
            return Client(reader, writer, f"http://{HOST}", token)
        writer.write(f"CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\n{token}\r\n".encode())
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        trust = ssl.create_default_context(cafile=self.gateway.ca_file)
        await writer.start_tls(trust, server_hostname=HOST)
        return Client(reader, writer, "", "")

    async def _open_in(self, tunnel: TunnelClient) -> "Client":
        """Open a stream of a tunnel; its first head says what it is, and TLS has ended before it."""
        reader, writer = tunnel.open_pair()
        if self.scheme == "http":
            return Client(reader, writer, f"http://{HOST}", "", "Sallyport-Stream: plain; revision=1\r\n")
        declared = "Sallyport-Stream: intercepted; revision=1\r\n"
        writer.write(f"CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\n{declared}\r\n".encode())
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        return Client(reader, writer, "", "")


class Client:
    """One keep-alive stream of a sandbox process."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, prefix: str, fields: str, first: str = ""
    ) -> None:
        self.reader = reader
        self.writer = writer
        self.is_told_to_close = False
        self._prefix = prefix
        self._fields = f"Host: {HOST}\r\n{fields}"
        self._first_fields = first  # of the first request alone

    def send(self, method: str, path: str, body_bytes: int = 0) -> None:
        """Write a request head."""
        length = f"Content-Length: {body_bytes}\r\n" if method == "POST" else ""
        fields, self._first_fields = self._first_fields + self._fields, ""
        self.writer.write(f"{method} {self._prefix}{path} HTTP/1.1\r\n{fields}{length}\r\n".encode())

    async def read_head(self) -> tuple[int, int]:
        """Read an answer's head; return its status and length."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        self.is_told_to_close = "\r\nconnection: close" in head
        (length,) = [int(line[16:]) for line in head.split("\r\n") if line.startswith("content-length: ")]
        return int(head.split(" ")[1]), length

    async def ask(self, path: str = "/") -> tuple[int, str]:
        """Send a request and return status and body."""
        self.send("GET", path)
        status, length = await self.read_head()
        return status, (await self.reader.readexactly(length)).decode()

    def close(self) -> None:
        self.writer.transport.abort()


def load_plan(connection_id: str, revision: int) -> bytes:
    return plan([route("load", [HOST], connection_id, allowCleartext=True)], revision=revision)


@asynccontextmanager
async def load(folder: Path, scheme: str = "http", way: str = "explicit") -> AsyncIterator[Load]:
    files = write_origin_files(folder, [HOST])
    async with load_origin(LABELS, files.server_context() if scheme == "https" else None) as origin:
        setting = Setting(
            plan=load_plan("con_a", 1),
            credentials=SECRETS,
            in_files=True,
            connect_to={f"{HOST}:{DEFAULT_PORTS[scheme]}": f"127.0.0.1:{origin.port}"},
            ca_file=files.ca_file,
        )
        with gateway_process(folder / "gateway", setting) as gateway:
            if way == "explicit":
                yield Load(gateway=gateway, origin=origin, scheme=scheme, tunnel=None)
                return
            clock = Clock(asyncio.get_running_loop())
            token = gateway.mint_token("sallyport-tunnel")
            try:
                async with tunnel_client(clock, gateway.tunnel_port, token) as tunnel:
                    yield Load(gateway=gateway, origin=origin, scheme=scheme, tunnel=tunnel)
            finally:
                clock.close()


def run[T](work: Coroutine[object, object, T]) -> T:
    """Run on uvloop and without asyncio's debug mode, which would make this process the slow side."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop, debug=False) as runner:
        return runner.run(work)


@pytest.fixture(autouse=True)
def enough_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def until(condition: Callable[[], bool], within_seconds: float = 10) -> None:
    """Wait until something outside this loop's reach is so."""
    async with asyncio.timeout(within_seconds):
        while not condition():  # noqa: ASYNC110  it is about another process, which sets no event of ours
            await asyncio.sleep(SAMPLE_SECONDS)


async def until_refused(port: int) -> None:
    """Wait until nobody listens there any more: one listener is closed after the other."""
    async with asyncio.timeout(10):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.transport.abort()
            except ConnectionRefusedError:
                return
            except ConnectionResetError:
                pass  # nobody had accepted it when the listener was closed
            await asyncio.sleep(SAMPLE_SECONDS)


# -- bulk


schemes = pytest.mark.parametrize("scheme", ["http", "https"])
SIZES = [
    pytest.param(64 * MIB, id="64 MiB"),
    pytest.param(1024 * MIB, id="1 GiB", marks=[pytest.mark.full, pytest.mark.timeout(180)]),
]


@asynccontextmanager
async def watched_memory(gateway: GatewayProcess) -> AsyncIterator[Callable[[], int]]:
    """Watch the gateway's resident memory; what is given returns its growth so far, at its peak."""
    before = peak = gateway.resident_bytes()

    async def watch() -> None:
        nonlocal peak
        while True:
            peak = max(peak, gateway.resident_bytes())
            await asyncio.sleep(SAMPLE_SECONDS)

    async with asyncio.TaskGroup() as tasks:
        watcher = tasks.create_task(watch(), name="watch memory")
        yield lambda: peak - before
        watcher.cancel()


async def warm_up(load: Load) -> Client:
    client = await load.open()
    assert await client.ask() == (200, "con_a")
    client.send("GET", f"/bytes/{4 * MIB}")
    _, length = await client.read_head()
    await client.reader.readexactly(length)
    return client


@schemes
@pytest.mark.parametrize("size", SIZES)
def test_an_upload_into_a_paused_origin_keeps_memory_constant(tmp_path: Path, size: int, scheme: str) -> None:
    async def work() -> None:
        async with load(tmp_path, scheme) as here:
            client = await warm_up(here)
            async with watched_memory(here.gateway) as growth:
                client.send("POST", "/upload", size)
                sent = 0
                stalled = False
                while sent < size:
                    client.writer.write(BLOCK)
                    sent += len(BLOCK)
                    if here.origin.gate.is_set():
                        await client.writer.drain()
                        continue
                    try:
                        async with asyncio.timeout(1):
                            await client.writer.drain()
                    except TimeoutError:
                        stalled = True
                        assert here.origin.waiting == 1
                        here.origin.gate.set()
                assert stalled, f"{size} bytes went into a gateway whose origin read none"
                status, length = await client.read_head()
                assert (status, await client.reader.readexactly(length)) == (200, str(size).encode())
                assert growth() <= ALLOWED_GROWTH
            client.close()

    run(work())


@schemes
@pytest.mark.parametrize("size", SIZES)
def test_a_download_by_a_paused_client_keeps_memory_constant(tmp_path: Path, size: int, scheme: str) -> None:
    async def work() -> None:
        async with load(tmp_path, scheme) as here:
            client = await warm_up(here)
            async with watched_memory(here.gateway) as growth:
                client.send("GET", f"/bytes/{size}")
                status, length = await client.read_head()
                assert (status, length) == (200, size)
                client.writer.transport.pause_reading()  # type: ignore[attr-defined]  # it reads as well
                await asyncio.sleep(0.5)  # as long as the origin pushes against a client that takes nothing
                client.writer.transport.resume_reading()  # type: ignore[attr-defined]  # it reads as well
                received = 0
                while received < size:
                    data = await client.reader.read(4 * len(BLOCK))
                    assert data == (BLOCK * 6)[received % 256 :][: len(data)]
                    received += len(data)
                assert growth() <= ALLOWED_GROWTH
            assert await client.ask() == (200, "con_a")
            client.close()

    run(work())


# -- many at once


def test_a_thousand_requests_on_a_cold_credential_resolve_it_once(tmp_path: Path) -> None:
    async def work() -> None:
        async with load(tmp_path) as here:
            clients = [await here.open() for _ in range(AT_ONCE)]
            for client in clients:
                client.send("GET", "/")
            for client in clients:
                status, length = await client.read_head()
                assert (status, await client.reader.readexactly(length)) == (200, b"con_a")
                client.close()
            assert here.gateway.metric("sallyport_credential_resolutions_total") == 1

    run(work())


@dataclass(slots=True, kw_only=True)
class Tally:
    """What a crowd of clients experienced."""

    answered: int = 0
    lost: int = 0
    wrong: int = 0


async def keep_asking(load: Load, tally: Tally, is_over: Callable[[], bool]) -> None:
    """Ask one request after another on a stream until it is told to close; a request without an answer is lost."""
    client = await load.open()
    try:
        while not client.is_told_to_close and not is_over():
            try:
                status, label = await client.ask()
            except (asyncio.IncompleteReadError, ConnectionError):
                tally.lost += 1
                return
            tally.answered += 1
            tally.wrong += status != 200 or label not in SECRETS
    finally:
        client.close()


@schemes
@pytest.mark.parametrize("way", WAYS)
def test_t5_sigterm_under_load_loses_no_request(tmp_path: Path, way: str, scheme: str) -> None:
    async def work() -> None:
        async with load(tmp_path, scheme, way) as here:
            tally = Tally()
            idle = await here.open()
            assert await idle.ask() == (200, "con_a")
            slow = [await here.open() for _ in range(8)]
            for client in slow:
                client.send("GET", "/slow")
            await until(lambda: here.origin.waiting == len(slow))
            async with asyncio.TaskGroup() as tasks:
                for number in range(32):
                    tasks.create_task(keep_asking(here, tally, lambda: False), name=f"client {number}")
                await until(lambda: tally.answered > 200)
                here.gateway.process.terminate()
            # The busy streams were told to close; the slow requests are still being served.
            assert here.gateway.process.poll() is None
            await until_refused(here.gateway.proxy_port)
            await until_refused(here.gateway.tunnel_port)
            # What has nothing to wait for is closed after a moment; what has, is not.
            async with asyncio.timeout(10):
                assert await idle.reader.read() == b""
            idle.close()
            here.origin.gate.set()
            for client in slow:
                status, length = await client.read_head()
                assert (status, await client.reader.readexactly(length)) == (200, b"con_a")
                client.close()
            if here.tunnel is not None:
                # Its sandboxd was told, has gone elsewhere by now and has nothing left here.
                await here.tunnel.message("drain")
                assert here.tunnel.lost is None
                here.tunnel.abort()
            assert await asyncio.to_thread(here.gateway.wait) == 0
            assert (tally.lost, tally.wrong) == (0, 0)
            assert here.origin.asked == tally.answered + len(slow) + 1

    run(work())


def test_t2_plans_are_pushed_while_requests_run(tmp_path: Path) -> None:
    async def work() -> None:
        async with load(tmp_path) as here:
            tally = Tally()
            is_over = False
            waiting = await here.open()
            waiting.send("GET", "/slow")
            await until(lambda: here.origin.waiting == 1)
            fresh = await here.open()
            async with asyncio.TaskGroup() as tasks:
                for number in range(16):
                    tasks.create_task(keep_asking(here, tally, lambda: is_over), name=f"client {number}")
                for revision in range(2, 22):
                    wanted = ("con_a", "con_b")[revision % 2]
                    status, body = await asyncio.to_thread(here.gateway.put_plan, load_plan(wanted, revision))
                    assert status == 200, body
                    # The next request sees the new table, on a stream that is older than it.
                    assert await fresh.ask() == (200, wanted)
                is_over = True
            assert (tally.lost, tally.wrong) == (0, 0)
            assert tally.answered > 0
            # A request finishes on the table it read.
            here.origin.gate.set()
            status, length = await waiting.read_head()
            assert (status, await waiting.reader.readexactly(length)) == (200, b"con_a")
            older, _ = await asyncio.to_thread(here.gateway.put_plan, load_plan("con_b", 3))
            assert older == 409
            invalid, _ = await asyncio.to_thread(here.gateway.put_plan, b'{"schemaVersion": 1}')
            assert invalid == 422
            assert await fresh.ask() == (200, wanted)
            for client in (waiting, fresh):
                client.close()

    run(work())
