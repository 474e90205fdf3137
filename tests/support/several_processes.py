"""A gateway of several processes, as tests look at it: which of them did what, and what is asked of all of them."""

import asyncio
import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from sallyport.net.clock import Clock
from tests.support.gateway_process import ROOT, GatewayProcess
from tests.support.raw_end import RawAnswer, RawEnd
from tests.support.tunnel_client import TunnelClient, dial_tunnel

# Starting a process takes a second or two; a machine at its limits takes ten times that.
PATIENCE_SECONDS = 60.0
# The kernel gives each connection to one of two by chance: so many in a row at the same one is no chance.
MANY = 40


class Several:
    """A running gateway and what its processes have said."""

    def __init__(self, gateway: GatewayProcess) -> None:
        self.gateway = gateway
        self._ends: list[RawEnd] = []
        self._tunnels: list[TunnelClient] = []

    @property
    def events(self) -> list[dict[str, Any]]:
        """The log."""
        return [json.loads(line) for line in self.gateway.log.splitlines() if line.startswith(b"{")]

    def said(self, event: str, **members: object) -> list[dict[str, Any]]:
        """Return the events of this name with these members."""
        return [each for each in self.events if each["event"] == event and members.items() <= each.items()]

    def pids(self) -> dict[int, int]:
        """Return the process ids by number."""
        return {each["number"]: each["pid"] for each in self.said("serving_process_ready")}

    def is_ready(self) -> bool:
        return self.gateway.ask_admin("GET", "/readyz")[0] == 200

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition that nothing announces."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not await asyncio.to_thread(condition):  # noqa: ASYNC110
                await asyncio.sleep(0.02)

    async def ask(self, method: str, path: str, document: object = None) -> tuple[int, Any]:
        """Ask the admin listener; return its status and its JSON."""
        body = document if isinstance(document, bytes) else None if document is None else json.dumps(document).encode()
        status, answer = await asyncio.to_thread(self.gateway.ask_admin, method, path, body)
        return status, json.loads(answer) if answer else None

    def request(self, target: str, token: str | None = None) -> bytes:
        """Return a proxy request."""
        host = target.partition("://")[2].partition("/")[0]
        authorization = f"Proxy-Authorization: Bearer {token or self.gateway.token}"
        return f"GET {target} HTTP/1.1\r\nHost: {host}\r\n{authorization}\r\n\r\n".encode()

    async def client(self) -> RawEnd:
        client = await RawEnd.dial(self.gateway.proxy_port)
        self._ends.append(client)
        return client

    async def until_refused(self) -> None:
        """Wait until none of its processes listens any more: each says that it drains before it stops to."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                try:
                    end = await RawEnd.dial(self.gateway.proxy_port)
                    end.writer.transport.abort()
                except ConnectionRefusedError:
                    return
                except ConnectionResetError:
                    pass  # nobody had accepted it when the listener was closed
                await asyncio.sleep(0.02)

    def close(self) -> None:
        """End every stream and tunnel of the test."""
        for end in self._ends:
            end.writer.transport.abort()
        for tunnel in self._tunnels:
            tunnel.abort()
        self._ends.clear()
        self._tunnels.clear()

    async def get(self, client: RawEnd, target: str, token: str | None = None) -> RawAnswer:
        client.send(self.request(target, token))
        return await client.answer()

    async def clients_of_both(self, denied: str) -> dict[str, list[RawEnd]]:
        """Open streams until two processes have some; return them by what their process calls its requests.

        Each has asked for `denied`, a URL that is refused: the refusal's request id tells which process it is.
        """
        found: dict[str, list[RawEnd]] = {}
        for _ in range(MANY):
            client = await self.client()
            refusal = json.loads((await self.get(client, denied)).body)
            found.setdefault(refusal["requestId"].rpartition("_")[0], []).append(client)
            if len(found) == 2:
                return found
        raise AssertionError(f"{MANY} connections went to one process")

    async def tunnel(self, clock: Clock, token: str) -> tuple[TunnelClient, int]:
        """Open a tunnel; return it and the number of the process that has it, 1 where there is one."""
        before = len(self.said("tunnel_opened"))
        client = await dial_tunnel(clock, self.gateway.tunnel_port, token)
        self._tunnels.append(client)
        await self.until(lambda: len(self.said("tunnel_opened")) > before)
        return client, self.said("tunnel_opened")[-1].get("process", 1)


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[None]:
    """Stop a process while the block runs; it is killed at the end."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGKILL)


@contextlib.asynccontextmanager
async def controlled(
    folder: Path,
    control: Mapping[str, object],
    connect_to: Mapping[str, int],
    *,
    workers: int = 2,
    ca_file: Path | None = None,
    timeouts: Mapping[str, str] | None = None,
) -> AsyncIterator[Several]:
    """Run a gateway of several processes under a control plane until the block ends; tokens are that one's."""
    upstream: dict[str, object] = {"connect_to": {here: f"127.0.0.1:{port}" for here, port in connect_to.items()}}
    if ca_file is not None:
        upstream["ca_file"] = str(ca_file)
    document = {
        "listen": {"proxy": "127.0.0.1:0", "tunnel": "127.0.0.1:0", "admin": "127.0.0.1:0"},
        "workers": workers,
        "control": dict(control),
        "network": {"allow": ["127.0.0.0/8"]},
        "upstream": upstream,
        "audit": {"path": "audit.jsonl"},
        "timeouts": {"drain": "5s"} | dict(timeouts or {}),  # an idle tunnel of a test is told to go, and does not
    }
    config = folder / "gateway.yaml"
    config.write_text(yaml.safe_dump(document))
    command = [sys.executable, "-P", "-m", "sallyport_cli.main", "gateway", "--config", str(config)]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(  # noqa: ASYNC220  it takes no time
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=folder
    )
    gateway = GatewayProcess(process, folder, "")
    try:
        await asyncio.to_thread(gateway.await_ready)
        with contextlib.closing(Several(gateway)) as several:
            yield several
    finally:
        process.terminate()
        await asyncio.to_thread(gateway.wait)
        assert process.stderr is not None
        process.stderr.close()


def recorded(port: int, seconds: float) -> list[dict[str, Any]]:
    """Record flows for so long and return the lines."""
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)
    try:
        link.request("GET", f"/v1/flows?durationMs={int(seconds * 1000)}")
        return [json.loads(line) for line in link.getresponse().read().splitlines()]
    finally:
        link.close()
