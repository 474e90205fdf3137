"""A sandboxd in a process of its own, as a sandbox starts it: what it says, what it costs, how it ends."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from sandboxd.app import StartError, _run, start_sandboxd
from sandboxd.config import load_config
from tests.support.raw_end import RawEnd
from tests.support.scripted_gateway import ADMITTED, ScriptedGateway
from tests.support.transports import TlsTrust

ROOT = Path(__file__).resolve().parents[2]
COMMAND = (sys.executable, "-P", "-m", "sallyport_cli.main", "sandboxd")
# Of the process as it idles with its tunnel up; contracts say 48 MiB.
MOST_RESIDENT_BYTES = 48 * 1024 * 1024
WAIT_SECONDS = 20.0


def environment(folder: Path, gateway: str) -> dict[str, str]:
    (folder / "token").write_text("tunnel-token")
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "SALLYPORT_GATEWAY_URL": gateway,
        "SALLYPORT_TOKEN_FILE": str(folder / "token"),
        "SALLYPORT_STATE_DIR": str(folder / "state"),
        "SALLYPORT_LISTEN": "127.0.0.1:0",
    }


class Process:
    """A running sandboxd and the events of its log."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.events: list[Mapping[str, object]] = []

    async def event(self, name: str) -> Mapping[str, object]:
        """Read the log until this event."""
        assert self.process.stderr is not None
        async with asyncio.timeout(WAIT_SECONDS):
            while line := await self.process.stderr.readline():
                self.events.append(json.loads(line))
                if self.events[-1]["event"] == name:
                    return self.events[-1]
        raise AssertionError(f"no {name} in {self.events}")

    async def client(self) -> RawEnd:
        """Connect to its proxy."""
        ready = next(event for event in self.events if event["event"] == "ready")
        return await RawEnd.dial(int(str(ready["proxy"]).rpartition(":")[2]))

    def core_limits(self) -> list[str]:
        limits = Path(f"/proc/{self.process.pid}/limits").read_text().splitlines()
        (core,) = (line for line in limits if line.startswith("Max core file size"))
        return core.split()[4:6]

    def resident_bytes(self) -> int:
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("the process is gone")


@contextlib.asynccontextmanager
async def sandboxd_process(env: Mapping[str, str]) -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(*COMMAND, env=dict(env), stderr=asyncio.subprocess.PIPE)
    try:
        yield Process(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_it_idles_small_serves_and_drains(tmp_path: Path, gateway: ScriptedGateway) -> None:
    async with sandboxd_process(environment(tmp_path, f"ws://127.0.0.1:{gateway.port}")) as sandboxd:
        ready = await sandboxd.event("ready")
        assert ready["ca"] == str(tmp_path / "state" / "ca.pem")
        tunnel = await gateway.tunnel()
        tunnel.manage(1, "api.test")
        await sandboxd.event("managed_set")
        assert sandboxd.resident_bytes() <= MOST_RESIDENT_BYTES
        client = await sandboxd.client()
        client.send(b"CONNECT other.test:443 HTTP/1.1\r\nHost: other.test\r\n\r\n")
        stream = await tunnel.stream()
        stream.transport.write(ADMITTED)
        await client.head()
        sandboxd.process.send_signal(signal.SIGTERM)
        await sandboxd.event("draining")
        stream.transport.write(b"what was on its way")
        stream.transport.close()
        assert await client.rest() == b"what was on its way"
        client.close()
        drained = await sandboxd.event("drained")
        assert drained["cut_streams"] == 0
        assert await sandboxd.process.wait() == 0
        assert (await tunnel.ended())[0] == 1000
    assert "tunnel-token" not in json.dumps(sandboxd.events)


async def test_a_killed_one_comes_back_and_opens_no_core(tmp_path: Path, gateway: ScriptedGateway) -> None:
    env = environment(tmp_path, f"ws://127.0.0.1:{gateway.port}")
    async with sandboxd_process(env) as sandboxd:
        await sandboxd.event("tunnel_opened")
        assert sandboxd.core_limits() == ["0", "0"]
        sandboxd.process.kill()
        await sandboxd.process.wait()
    async with sandboxd_process(env) as sandboxd:
        await sandboxd.event("tunnel_opened")


@pytest.mark.parametrize(
    ("change", "status", "told"),
    [
        ({"SALLYPORT_GATEWAY_URL": ""}, 2, "SALLYPORT_GATEWAY_URL: is needed"),
        ({"SALLYPORT_TIMEOUTS_HOLD": "soon"}, 2, "is not a duration"),
        ({"SALLYPORT_TOKEN_FILE": "/nowhere/token"}, 3, "/nowhere/token: No such file"),
        ({"SALLYPORT_STATE_DIR": "/proc/nowhere"}, 3, "/proc"),
    ],
)
def test_what_stops_it_is_told(tmp_path: Path, change: Mapping[str, str], status: int, told: str) -> None:
    env = environment(tmp_path, "ws://127.0.0.1:9") | dict(change)
    done = subprocess.run(COMMAND, env=env, capture_output=True, text=True, timeout=WAIT_SECONDS, check=False)
    assert done.returncode == status
    assert told in done.stderr
    assert "Traceback" not in done.stderr


async def test_a_port_that_is_taken_and_a_ca_file_that_is_none(tmp_path: Path, gateway: ScriptedGateway) -> None:
    env = environment(tmp_path, f"ws://127.0.0.1:{gateway.port}")
    with pytest.raises(StartError, match="SALLYPORT_LISTEN"):
        await start_sandboxd(load_config(env | {"SALLYPORT_LISTEN": f"127.0.0.1:{gateway.port}"}, tmp_path), env)
    secure = env | {
        "SALLYPORT_GATEWAY_URL": "wss://gateway.test",
        "SALLYPORT_GATEWAY_CA_FILE": env["SALLYPORT_TOKEN_FILE"],
    }
    with pytest.raises(StartError, match="holds no certificate"):
        await start_sandboxd(load_config(secure, tmp_path), env)
    secure["SALLYPORT_GATEWAY_CA_FILE"] = "/nowhere/ca.pem"
    with pytest.raises(StartError, match="No such file"):
        await start_sandboxd(load_config(secure, tmp_path), env)


async def test_a_gateway_behind_tls_is_trusted_by_its_ca_alone(tmp_path: Path) -> None:
    trust = TlsTrust(tmp_path / "ca")
    (tmp_path / "gateway-ca.pem").write_text(trust.ca_pem)
    env = environment(tmp_path, "wss://127.0.0.1:9") | {"SALLYPORT_GATEWAY_CA_FILE": str(tmp_path / "gateway-ca.pem")}
    sandboxd = await start_sandboxd(load_config(env, tmp_path), env)
    context = sandboxd.client._context
    assert context is not None
    assert len(context.get_ca_certs()) == 1
    await sandboxd.close()


async def test_without_its_tunnel_s_task_it_is_of_no_use_and_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> None:
        raise KeyError("a fault of ours")

    monkeypatch.setattr("sandboxd.tunnel_client.open_websocket", broken)
    env = environment(tmp_path, "ws://127.0.0.1:9")
    async with asyncio.timeout(WAIT_SECONDS):
        assert await _run(load_config(env, tmp_path), env) == 70


def test_it_imports_nothing_that_is_heavy() -> None:
    code = "import sandboxd.app, sys; print(*sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert "sandboxd" in loaded, done.stderr
    assert not loaded & {"pydantic", "aiohttp", "structlog", "typer", "rich", "yaml", "jwt", "sqlalchemy"}
