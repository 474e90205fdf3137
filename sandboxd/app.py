"""Put a sandboxd together, run it, drain it. The one place that knows all parts."""

import asyncio
import contextlib
import random
import secrets
import signal
import ssl
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import uvloop

from sallyport.net.buffer_budget import BufferBudget
from sallyport.net.clock import Clock
from sallyport.net.interception import InterceptionContexts, MemoryCa
from sallyport.net.process import harden_process, raise_descriptor_limit, settle_memory
from sallyport.net.setting_kinds import HostPort
from sallyport.net.tasks import TaskSet
from sallyport.net.tls import client_context
from sallyport.net.transports import Listener, ListenError, adopt, adopt_datagrams, listen
from sallyport.settings import ConfigError
from sandboxd.config import Redirect, SandboxdConfig, load_config, process_environment
from sandboxd.core.names import NameTable
from sandboxd.deputy.delegated_setup import DelegatedSetup
from sandboxd.deputy.delegated_streams import DelegatedStreams
from sandboxd.deputy.door import DeputyDoor
from sandboxd.gateway_side import GatewaySide
from sandboxd.listener import CapturedStream
from sandboxd.local_streams import LocalStreams
from sandboxd.log import Log
from sandboxd.parts import SandboxdParts
from sandboxd.redirection import QuestionDatagrams, QuestionStream, RedirectedStream
from sandboxd.setup.setup import Setup
from sandboxd.token_keeper import TokenFileError, TokenKeeper, make_state_dir
from sandboxd.trust_keeper import TrustKeeper
from sandboxd.tunnel_client import TUNNEL_TASK, TunnelClient

# While draining: between two looks at what is still open.
DRAIN_POLL_SECONDS: Final = 0.02

# Exit statuses, as those of every `sallyport` command.
EXIT_OK: Final = 0
EXIT_BAD_INPUT: Final = 2
EXIT_ENVIRONMENT: Final = 3
EXIT_OWN_FAULT: Final = 70

# What programs started for the gateway inherit of sandboxd's own environment.
_INHERITED: Final = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "USER", "LOGNAME", "SHELL", "TERM")


class StartError(Exception):
    """sandboxd cannot start; says why and what to do."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(f"{message}; {hint}")
        self.message = message
        self.hint = hint


class Sandboxd:
    """A running sandboxd. Made by start_sandboxd(); ended by drain() and close()."""

    def __init__(
        self,
        parts: SandboxdParts,
        proxy: Listener,
        client: TunnelClient,
        trust: TrustKeeper,
        setup: Setup | DelegatedSetup,
        failed: asyncio.Event,
        opened: contextlib.AsyncExitStack,
    ) -> None:
        self.parts = parts
        self.proxy = proxy
        self.client = client
        self.trust = trust
        self.setup = setup
        # Set where the keeping of the tunnel has failed, by a fault of ours: without it there is no way out.
        self.failed = failed
        self._opened = opened

    @property
    def proxy_address(self) -> HostPort:
        """Where programs reach it."""
        return HostPort(self.proxy.host, self.proxy.port)

    async def drain(self) -> None:
        """Stop what a plan started here, accept no more, and let open streams finish until timeouts.drain."""
        parts = self.parts
        parts.log.info("draining", open_streams=len(parts.captured), seconds=parts.timeouts.drain)
        # While these are being stopped they may still have something to say to the world.
        await self.setup.close()
        await self.proxy.close()
        deadline = parts.loop.time() + parts.timeouts.drain
        while parts.captured and parts.loop.time() < deadline:  # noqa: ASYNC110  each stream ends by itself
            await asyncio.sleep(DRAIN_POLL_SECONDS)
        parts.log.info("drained", cut_streams=len(parts.captured))

    async def close(self) -> None:
        """End everything now."""
        for transport in tuple(self.parts.captured):
            transport.abort()
        self.client.close()
        await self._opened.aclose()

    def __repr__(self) -> str:
        return f"<Sandboxd {self.proxy_address}, {len(self.parts.captured)} connections>"


def main() -> int:
    """Run sandboxd as the environment says, and return its exit status. Whatever goes wrong is told in two lines."""
    try:
        return run_sandboxd(load_config(process_environment(), Path.cwd()), process_environment())
    except ConfigError as error:
        faults = "\n  ".join(map(str, error.issues))
        return _fail(EXIT_BAD_INPUT, "sandboxd's settings cannot be used", faults)
    except StartError as error:
        return _fail(EXIT_ENVIRONMENT, error.message, error.hint)


def run_sandboxd(config: SandboxdConfig, environ: Mapping[str, str]) -> int:
    """Run until SIGTERM or SIGINT has drained it; raises StartError. Returns the exit status."""
    harden_process()
    raise_descriptor_limit()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_run(config, environ))


async def _run(config: SandboxdConfig, environ: Mapping[str, str]) -> int:
    sandboxd = await start_sandboxd(config, environ)
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    settle_memory()
    files = sandboxd.trust.files
    sandboxd.parts.log.info(
        "ready",
        proxy=str(sandboxd.proxy_address),
        gateway=str(config.gateway),
        ca=str(files.ca),
        bundle=str(files.bundle),
    )
    async with asyncio.TaskGroup() as group:
        waiting = [group.create_task(event.wait()) for event in (told, sandboxd.failed)]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for each in waiting:
            each.cancel()
    await sandboxd.drain()
    await sandboxd.close()
    # A supervisor starts it again, and the kept renewal token brings it back.
    return EXIT_OWN_FAULT if sandboxd.failed.is_set() else EXIT_OK


async def start_sandboxd(config: SandboxdConfig, environ: Mapping[str, str]) -> Sandboxd:
    """Start sandboxd on the running loop; raises StartError. Does not wait for the gateway."""
    with _start_errors(config):
        async with contextlib.AsyncExitStack() as opened:
            return await _start(config, environ, opened)


async def _start(config: SandboxdConfig, environ: Mapping[str, str], opened: contextlib.AsyncExitStack) -> Sandboxd:
    """Put the parts together; what was opened is on the stack, to be closed in the opposite order."""
    context = _gateway_context(config)
    make_state_dir(config.state_dir)
    failed = asyncio.Event()
    parts = _parts(config, failed, opened)
    tokens = TokenKeeper(config.tokens, config.state_dir, parts.log)
    tokens.read(parts.clock.wall)
    proxy = await (_redirected(config, parts, opened) if config.redirect.connections else _proxy(config, parts, opened))
    trust = TrustKeeper(parts.ca, config.trust_dir or config.state_dir, environ, parts.clock, parts.log)
    trust.begin()
    budget = BufferBudget(config.limits.buffer_bytes)
    door = None if config.redirect.deputy is None else DeputyDoor(clock=parts.clock, log=parts.log, budget=budget)

    def send_status(document: Mapping[str, object]) -> None:
        client.send({"type": "setup.status", **document})

    setup: Setup | DelegatedSetup
    local: LocalStreams | DelegatedStreams
    if config.redirect.connections:
        setup = DelegatedSetup(door, clock=parts.clock, send_status=send_status)
        local = DelegatedStreams(door, setup, clock=parts.clock)
    else:
        inherited = {name: environ[name] for name in _INHERITED if name in environ}
        base = inherited | trust.environment(str(HostPort(proxy.host, proxy.port)))
        setup = Setup(state_dir=config.state_dir, base_environment=base, send_status=send_status, tasks=parts.tasks)
        local = LocalStreams(setup, tasks=parts.tasks, clock=parts.clock)
    client = TunnelClient(
        parts,
        url=config.gateway,
        context=context,
        tokens=tokens,
        budget=budget,
        local=local,
        setup=setup,
        random=random.random,
    )
    opened.push_async_callback(setup.close)
    opened.push_async_callback(local.close)
    if isinstance(setup, Setup):
        await setup.restore()
    if door is not None and config.redirect.deputy is not None:
        await _open_door(door, config.redirect.deputy, opened)
    await proxy.start()
    client.start()
    return Sandboxd(parts, proxy, client, trust, setup, failed, opened.pop_all())


async def _proxy(config: SandboxdConfig, parts: SandboxdParts, opened: contextlib.AsyncExitStack) -> Listener:
    """Listen for programs that know of a proxy."""
    proxy = await listen(config.listen.host, config.listen.port, lambda: CapturedStream(parts))
    opened.push_async_callback(proxy.close)
    return proxy


async def _redirected(config: SandboxdConfig, parts: SandboxdParts, opened: contextlib.AsyncExitStack) -> Listener:
    """Take what is redirected here; names are told at once, connections are accepted after start()."""
    redirect = config.redirect
    names = NameTable(most_names=config.limits.names, ttl_seconds=config.timeouts.name)
    try:
        return await _adopted(redirect, parts, names, opened)
    except OSError as error:
        raise _unusable_descriptor(error) from None


async def _open_door(door: DeputyDoor, descriptor: int, opened: contextlib.AsyncExitStack) -> None:
    """Let the sandbox's deputy come."""
    try:
        await door.open(descriptor)
    except OSError as error:
        raise _unusable_descriptor(error) from None
    opened.push_async_callback(door.close)


def _unusable_descriptor(error: OSError) -> StartError:
    hint = "start sandboxd with sockets that are bound and inherited under these numbers"
    return StartError(f"SALLYPORT_REDIRECT_*: a descriptor cannot be used: {error.strerror or error}", hint)


async def _adopted(
    redirect: Redirect, parts: SandboxdParts, names: NameTable, opened: contextlib.AsyncExitStack
) -> Listener:
    for transport in await adopt_datagrams(redirect.questions, lambda: QuestionDatagrams(parts, names)):
        opened.callback(transport.close)
    if redirect.question_streams:
        questions = await adopt(redirect.question_streams, lambda: QuestionStream(parts, names))
        opened.push_async_callback(questions.close)
        await questions.start()
    connections = await adopt(redirect.connections, lambda: RedirectedStream(parts, names))
    opened.push_async_callback(connections.close)
    return connections


def _parts(config: SandboxdConfig, failed: asyncio.Event, opened: contextlib.AsyncExitStack) -> SandboxdParts:
    """Make what all pieces share; `failed` is set where the keeping of the tunnel fails."""
    loop = asyncio.get_running_loop()
    log = Log(config.log.level)
    clock = Clock(loop)
    opened.callback(clock.close)

    def task_failed(name: str, error: BaseException) -> None:
        log.error("task_failed", task=name, detail=repr(error))
        if name == TUNNEL_TASK:
            failed.set()

    tasks = TaskSet(task_failed)
    opened.push_async_callback(tasks.close)
    ca = MemoryCa()
    return SandboxdParts(
        loop=loop,
        clock=clock,
        log=log,
        timeouts=config.timeouts,
        limits=config.limits,
        passthrough_hosts=config.interception.passthrough_hosts,
        gateway=GatewaySide(),
        ca=ca,
        contexts=InterceptionContexts(ca, max_contexts=config.limits.leaf_contexts),
        tasks=tasks,
        request_prefix=f"req_{secrets.token_hex(4)}_",
    )


def _gateway_context(config: SandboxdConfig) -> ssl.SSLContext | None:
    """Make the context for wss://; the system's roots cost some memory and are loaded only where they are needed."""
    path = config.gateway_ca_file
    if not config.gateway.is_secure:
        return None
    try:
        return client_context(None if path is None else str(path))
    except ssl.SSLError:
        raise StartError(f"SALLYPORT_GATEWAY_CA_FILE: {path} holds no certificate", "name a PEM bundle") from None
    except OSError as error:
        # OpenSSL names no file in its error.
        raise StartError(f"SALLYPORT_GATEWAY_CA_FILE: {path}: {error.strerror}", _CHECK_PATH) from None


_CHECK_PATH: Final = "check the path and its permissions"


@contextlib.contextmanager
def _start_errors(config: SandboxdConfig) -> Iterator[None]:
    """Turn what can go wrong at start into words an operator can act on."""
    try:
        yield
    except ListenError as error:
        raise StartError(error.message, error.hint.replace("`listen`", "SALLYPORT_LISTEN")) from None
    except TokenFileError as error:
        raise StartError(f"SALLYPORT_TOKEN_FILE: {error}", "it holds the sandbox's tunnel token") from None
    except OSError as error:
        where = error.filename or config.state_dir
        raise StartError(f"{where}: {error.strerror or error}", _CHECK_PATH) from None


def _fail(status: int, message: str, hint: str) -> int:
    sys.stderr.write(f"error: {message}\n  {hint}\n")
    return status
