"""The chain of the demonstration: control plane, worker and gateway by `sallyport up`, a tap, sandboxd behind it."""

import asyncio
import contextlib
import json
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from demo.config import Prepared
from demo.standing import PLACES, Standing
from demo.tap import Tap, tapping

# Importing five parts on a cold machine takes most of it.
START_SECONDS = 60.0
STOP_SECONDS = 20.0
# A log line is a JSON object; one that quotes a plan may be longer than asyncio's default.
LINE_BYTES = 1024 * 1024


class ChainFailed(Exception):
    """A part did not start; the text holds the end of its log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """A chain that is ready. sandboxd is host:port; state_dir is what sandboxd wrote for its clients."""

    sandboxd: str
    tap: Tap
    state_dir: Path
    sandboxd_pid: int


@asynccontextmanager
async def whole_chain(
    prepared: Prepared, folder: Path, standing: Standing, environment: Mapping[str, str], secrets: Mapping[str, str]
) -> AsyncIterator[Chain]:
    """Start everything, yield it, stop it. Only `sallyport up` is given the secrets."""
    data_dir = folder / "data"
    command = [str(prepared.sallyport), "up", "--json", "--free-ports", "--no-sandbox", "--data-dir", str(data_dir)]
    command += ["--plan", str(standing.plan), "--gateway-config", str(standing.gateway_settings)]
    for place in PLACES:
        command += ["--credential", place]
    async with _running(command, {**environment, **secrets}, folder / "up.log") as up:
        addresses = await _first_json(up, folder / "up.log")
        host, _, port = addresses["tunnel"].removeprefix("ws://").rpartition(":")
        async with tapping(host, int(port)) as tap:
            state_dir = folder / "sandbox"
            settings = {
                "SALLYPORT_GATEWAY_URL": f"ws://127.0.0.1:{tap.port}",
                "SALLYPORT_TOKEN_FILE": addresses["tokenFile"],
                "SALLYPORT_STATE_DIR": str(state_dir),
                "SALLYPORT_LISTEN": "127.0.0.1:0",
            }
            log = folder / "sandboxd.log"
            async with _running([str(prepared.sallyport), "sandboxd"], {**environment, **settings}, log) as sandboxd:
                address = await _ready_address(sandboxd, log)
                await _managed_set(tap, log)
                yield Chain(sandboxd=address, tap=tap, state_dir=state_dir, sandboxd_pid=sandboxd.pid)


@asynccontextmanager
async def _running(command: list[str], environment: dict[str, str], log: Path) -> AsyncIterator[Process]:
    with log.open("wb") as errors:
        process = await asyncio.create_subprocess_exec(
            *command, env=environment, stdin=DEVNULL, stdout=PIPE, stderr=errors, limit=LINE_BYTES
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
            try:
                async with asyncio.timeout(STOP_SECONDS):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()


async def _first_json(process: Process, log: Path) -> dict[str, str]:
    """Read the one JSON document that `up` prints once everything is ready."""
    assert process.stdout is not None, "its output is a pipe"
    text = b""
    try:
        async with asyncio.timeout(START_SECONDS):
            while line := await process.stdout.readline():
                text += line
                if line == b"}\n":
                    document = json.loads(text)
                    if "error" not in document:
                        return {name: str(value) for name, value in document.items()}
    except TimeoutError:
        pass
    raise ChainFailed(f"sallyport up did not start: {text.decode(errors='replace')}\n{_tail(log)}")


async def _ready_address(process: Process, log: Path) -> str:
    """Wait until sandboxd says where it listens, and that it has what it needs."""
    try:
        async with asyncio.timeout(START_SECONDS):
            while process.returncode is None:
                address = _ready_in(log)
                if address is not None:
                    return address
                await asyncio.sleep(0.02)
    except TimeoutError:
        pass
    raise ChainFailed(f"sandboxd did not start:\n{_tail(log)}")


async def _managed_set(tap: Tap, log: Path) -> None:
    """Wait until the gateway has told sandboxd which hosts it manages."""
    try:
        async with asyncio.timeout(START_SECONDS):
            while b"interception.set" not in tap.down.kept:  # noqa: ASYNC110  nothing announces it
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise ChainFailed(f"sandboxd has no managed set:\n{_tail(log)}") from None


def _ready_in(log: Path) -> str | None:
    for line in log.read_text(errors="replace").splitlines():
        with contextlib.suppress(ValueError):
            event = json.loads(line)
            if event.get("event") == "ready":
                return str(event["proxy"])
    return None


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-15:])
