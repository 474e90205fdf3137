"""The deputy: a program in a sandbox that carries set-ups out there and opens what the gateway reaches.

It is a client of its sandboxd, which stands outside, by a socket in the sandbox's network: as sandboxd is one of the
gateway, with the same streams and the same messages about the set-up, and none about tokens or traffic. Whatever it
starts goes on while its sandboxd is away; it comes back to it by itself.

A worker's sandboxes run it by themselves (worker/sandboxes/cell.py); in a container it is a command:

    python -P -m sandboxd.deputy.program
"""

import asyncio
import random
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final, cast

import uvloop

from sallyport.deputy import DEPUTY_NAME, STATE_DIR
from sallyport.json_object import json_object
from sallyport.net.buffer_budget import BufferBudget
from sallyport.net.clock import Clock
from sallyport.net.process import harden_process, settle_memory
from sallyport.net.tasks import TaskSet
from sallyport.net.tunnel import Tunnel
from sallyport.net.tunnel_stream import TunnelStream
from sallyport.net.unix_stream import connect_name
from sallyport.wire.errors import LocalProtocolError, RemoteProtocolError
from sallyport.wire.websocket import PROTOCOL
from sandboxd.config import process_environment
from sandboxd.local_streams import LocalStreams
from sandboxd.offered_stream import OfferedStream
from sandboxd.setup.process_log import ProcessLog
from sandboxd.setup.setup import Setup

# Bytes of its streams that nobody takes: the sandbox's own memory.
BUFFER_BYTES: Final = 16 * 1024 * 1024
# Between two links, by half of it more or less: sandboxd is started again when it ends, and takes one link at a time.
PAUSE_SECONDS: Final = 0.4

EXIT_OK: Final = 0
EXIT_ENVIRONMENT: Final = 3


def main() -> int:
    """Run as a command, with the variables that the container has."""
    return run_deputy(process_environment())


def run_deputy(environment: Mapping[str, str]) -> int:
    """Run until SIGTERM or SIGINT, and return the exit status. `environment` is what all it starts has, HOME too."""
    harden_process()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_run(dict(environment), Path(environment.get("HOME", "/tmp")) / STATE_DIR))


async def _run(environment: Mapping[str, str], state_dir: Path) -> int:
    loop = asyncio.get_running_loop()
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    log = ProcessLog(state_dir / "setup/logs/deputy.log")
    loop.set_exception_handler(lambda _, context: log.note(f"{context.get('message')}: {context.get('exception')!r}"))
    tasks = TaskSet(lambda name, error: log.note(f"{name} failed: {error!r}"))
    clock = Clock(loop)
    deputy = Deputy(environment, state_dir, tasks=tasks, clock=clock)
    try:
        await deputy.start()
        settle_memory()
        await told.wait()
    except OSError as error:
        # In a log that may not be writable either.
        log.note(f"{error.filename}: {error.strerror}")
        sys.stderr.write(f"the deputy cannot start: {error.filename}: {error.strerror}\n")
        return EXIT_ENVIRONMENT
    except Exception as error:
        log.note(f"the deputy fails: {error!r}")
        raise
    finally:
        await deputy.close()
        await tasks.close()
        clock.close()
        log.close()
    return EXIT_OK


class Deputy:
    """A running deputy. Always: `_link` is the one link that sandboxd may speak by, if any."""

    def __init__(
        self,
        environment: Mapping[str, str],
        state_dir: Path,
        *,
        tasks: TaskSet,
        clock: Clock,
        name: str = DEPUTY_NAME,
    ) -> None:
        self.clock = clock
        self.budget = BufferBudget(BUFFER_BYTES)
        self.setup = Setup(state_dir=state_dir, base_environment=environment, send_status=self._send, tasks=tasks)
        self.local = LocalStreams(self.setup, tasks=tasks, clock=clock)
        self._tasks = tasks
        self._name = name
        self._link: _Link | None = None
        self._keeping: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Go on with what was set up, and come to sandboxd for as long as this lives; raises OSError."""
        await self.setup.restore()
        self._keeping = self._tasks.spawn(self._keep(), name="link to sandboxd")

    async def close(self) -> None:
        """Stop what was started here, and leave."""
        await self.local.close()
        await self.setup.close()
        if self._keeping is not None:
            self._keeping.cancel()
        if self._link is not None:
            self._link.tunnel.abort()

    async def _keep(self) -> None:
        while True:
            try:
                link = self._link = await connect_name(lambda: _Link(self), self._name)
                self.setup.tunnel_ready()
                await link.lost.wait()
            except OSError:
                pass  # nobody is there
            self._link = None
            await asyncio.sleep(PAUSE_SECONDS * random.uniform(0.5, 1.5))

    def _send(self, status: Mapping[str, object]) -> None:
        """Tell a status; without a link it is told by the next one."""
        if self._link is not None:
            self._link.send({"type": "setup.status", **status})


class _Link(asyncio.Protocol):
    """One link to sandboxd, as the owner of its tunnel."""

    def __init__(self, deputy: Deputy) -> None:
        self._deputy = deputy
        self.lost = asyncio.Event()
        self.tunnel = Tunnel(self, is_client=True, clock=deputy.clock, budget=deputy.budget)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.tunnel.start(cast(asyncio.Transport, transport))
        self.send({"type": "ready"})

    def send(self, message: Mapping[str, object]) -> None:
        """Send a control message."""
        try:
            self.tunnel.send_control(message)
        except LocalProtocolError as error:
            raise AssertionError("a status is measured before it is sent") from error

    def stream_opened(self, stream: TunnelStream) -> asyncio.Protocol:
        return OfferedStream(self._deputy.clock, self._deputy.local)

    def control_received(self, text: bytes) -> None:
        try:
            message = json_object(text)
            if message.get("type") == "setup.apply":
                self._deputy.setup.announce(message)
        except (RemoteProtocolError, ValueError):
            self.tunnel.close(PROTOCOL, "a control message that cannot be read")

    def tunnel_lost(self, code: int | None, reason: str) -> None:
        self.lost.set()


if __name__ == "__main__":
    sys.exit(main())
