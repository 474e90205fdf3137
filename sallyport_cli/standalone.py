"""A gateway of one's own: a child process on free loopback ports that ends with the command that started it."""

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from control_client.gateway import GatewayError, is_ready
from sallyport_cli.failure import Failure, environment

# Importing the gateway takes half a second; a machine at its limits takes ten times that.
START_SECONDS = 30.0
# The gateway's own drain is bounded by timeouts.drain; whoever waits here is a person.
STOP_SECONDS = 5.0
POLL_SECONDS = 0.02
LOG_LINES_SHOWN = 5

# linux/prctl.h
_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4

FREE_PORTS = {
    "SALLYPORT_LISTEN_PROXY": "127.0.0.1:0",
    "SALLYPORT_LISTEN_TUNNEL": "off",
    "SALLYPORT_LISTEN_ADMIN": "127.0.0.1:0",
}
# Its readiness is read from its log.
READABLE_LOG = {"SALLYPORT_LOG_FORMAT": "json", "SALLYPORT_LOG_LEVEL": "info"}


@dataclass(frozen=True, slots=True, kw_only=True)
class StandaloneGateway:
    """A gateway that is ready. Addresses are host:port."""

    proxy: str
    admin: str
    process: "subprocess.Popen[bytes]"
    log: Path

    def has_ended(self) -> bool:
        """Say whether the process is gone."""
        return self.process.poll() is not None

    def log_tail(self) -> str:
        """Return the last lines of its log."""
        return "\n".join(_lines(self.log)[-LOG_LINES_SHOWN:])


@contextlib.contextmanager
def standalone_gateway(
    config: Path, settings: Mapping[str, str], inherited: Mapping[str, str], directory: Path
) -> Iterator[StandaloneGateway]:
    """Start a gateway, yield it once it is ready, stop it in the end. Raises Failure when it does not start.

    `settings` are SALLYPORT_* variables over `inherited`; its log and audit records are kept in `directory`.
    """
    log = directory / "gateway.log"
    # -P: a folder called `gateway` where the user happens to stand is not ours.
    command = [sys.executable, "-P", "-m", "sallyport_cli.main", "gateway", "--config", str(config)]
    variables = {**inherited, **FREE_PORTS, **READABLE_LOG, **settings}
    with log.open("xb") as errors, (directory / "audit.jsonl").open("xb") as records:
        process = subprocess.Popen(
            command,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=records,
            stderr=errors,
            start_new_session=True,  # a Ctrl-C is for the command; its last requests still need the gateway
            preexec_fn=_end_with_parent if sys.platform == "linux" else None,
        )
    try:
        yield _wait_until_ready(process, log)
    finally:
        _stop(process)


def keep_environment_private() -> None:
    """Keep other processes of this user from reading this one's environment and memory (Linux; not against root)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def _end_with_parent() -> None:
    """Run in the child before it becomes the gateway: ask for a SIGTERM when this command is killed."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def _wait_until_ready(process: "subprocess.Popen[bytes]", log: Path) -> StandaloneGateway:
    for _ in range(int(START_SECONDS / POLL_SECONDS)):
        status = process.poll()
        if status is not None:
            raise _start_failure(status, _lines(log))
        addresses = _addresses(_lines(log))
        if addresses is not None and _answers(addresses["admin"]):
            return StandaloneGateway(proxy=addresses["proxy"], admin=addresses["admin"], process=process, log=log)
        time.sleep(POLL_SECONDS)
    shown = "\n".join(_lines(log)[-LOG_LINES_SHOWN:])
    raise environment(f"the gateway was not ready after {START_SECONDS:.0f} s", shown)


def _answers(admin: str) -> bool:
    try:
        return is_ready(admin)
    except GatewayError:
        return False


def _addresses(lines: list[str]) -> dict[str, str] | None:
    """Find where the gateway says that it listens."""
    for line in lines:
        with contextlib.suppress(ValueError):
            event = json.loads(line)
            if isinstance(event, dict) and event.get("event") == "ready":
                return {"proxy": str(event["proxy"]), "admin": str(event["admin"])}
    return None


def _start_failure(status: int, lines: list[str]) -> Failure:
    """Pass on what the gateway said: its status and, in its own words, what to do."""
    told = [line for line in lines if not line.startswith("{")]
    message = told[0].removeprefix("error: ") if told else f"the gateway ended with status {status}"
    hint = "\n".join(line.strip() for line in (told[1:] if told else lines[-LOG_LINES_SHOWN:]))
    failure = environment(message, hint)
    if status in (1, 2, 3):
        failure.status = type(failure.status)(status)
    return failure


def _lines(log: Path) -> list[str]:
    return log.read_text(encoding="utf-8", errors="replace").splitlines()


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
