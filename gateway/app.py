"""Start a gateway and run it until it is told to end."""

import asyncio
import contextlib
import signal
from collections.abc import Callable, Coroutine

import structlog
import uvloop

from gateway.assembly import Assembly
from gateway.build import codec_kind
from gateway.config import GatewayConfig
from gateway.processes.place import Place, drain_with_parent
from gateway.running import Gateway
from gateway.starting import failed_callbacks, start_errors
from sallyport.net.log import configure_log
from sallyport.net.process import harden_process, leave_memory, raise_descriptor_limit, settle_memory

_log = structlog.get_logger(__name__)


async def start_gateway(config: GatewayConfig, place: Place | None = None) -> Gateway:
    """Start a gateway on the running loop, as one of several processes where it has a place; raises StartError."""
    with start_errors():
        async with contextlib.AsyncExitStack() as opened:
            return await Assembly(config, opened, place).run()


def run_gateway(config: GatewayConfig, place: Place | None = None) -> int:
    """Run a gateway until SIGTERM or SIGINT has drained it; raises StartError. Returns the exit status."""
    return run_process(config, lambda: _run(config, place))


def run_process(config: GatewayConfig, main: Callable[[], Coroutine[object, object, int]]) -> int:
    """Run a process of a gateway to its end."""
    configure_log(config.log)
    harden_process()
    raise_descriptor_limit()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        status = runner.run(main())
    leave_memory()
    return status


async def _run(config: GatewayConfig, place: Place | None) -> int:
    if place is not None:
        structlog.contextvars.bind_contextvars(process=place.number)
    gateway = await start_gateway(config, place)
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(failed_callbacks(gateway.parts.metrics))
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, gateway.begin_drain)
    loop.add_signal_handler(signal.SIGHUP, gateway.parts.audit.reopen)
    settle_memory()
    if place is None:
        _log_ready(config, gateway)
    else:
        drain_with_parent(loop, gateway.begin_drain)
    await gateway.wait_ended()
    await gateway.close()
    return 0


def _log_ready(config: GatewayConfig, gateway: Gateway) -> None:
    _log.info(
        "ready",
        proxy=f"{gateway.proxy.host}:{gateway.proxy.port}",
        tunnel="off" if gateway.tunnel is None else f"{gateway.tunnel.host}:{gateway.tunnel.port}",
        admin=f"{config.listen.admin.host}:{gateway.admin_port}",
        plans=len(config.plans),
        codec=codec_kind(),
    )
