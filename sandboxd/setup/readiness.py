"""Wait until a process is ready, by the one sign its declaration names."""

import asyncio
from collections.abc import Callable
from typing import Final, assert_never

from sallyport.net.probe import ProbeError, probe_http, probe_tcp, probe_websocket
from sallyport.setup import HttpReadiness, NoReadiness, Readiness, TcpReadiness, WebSocketReadiness, split_url
from sandboxd.setup.steps import StepFailed

# A process is mostly up within a second, so the first looks are frequent; a slow one costs two looks in a second.
FIRST_PAUSE_SECONDS: Final = 0.02
MOST_PAUSE_SECONDS: Final = 0.5
# Something that accepts and says nothing is asked again: it may have been the predecessor, going down.
ATTEMPT_SECONDS: Final = 5.0


async def until_ready(readiness: Readiness, is_up: Callable[[], bool]) -> None:
    """Return when the sign is there; raises StepFailed after the declared time.

    `is_up` says whether the process runs at this moment, and raises StepFailed when it will not run again: a port
    that answers for a process that is down is somebody else's.
    """
    if isinstance(readiness, NoReadiness):
        return
    reason = "it did not run"
    try:
        async with asyncio.timeout(readiness.timeout_ms / 1000):
            pause = FIRST_PAUSE_SECONDS
            while True:
                if is_up():
                    reason = await _attempt(readiness)
                    if not reason and is_up():
                        return
                await asyncio.sleep(pause)
                pause = min(pause * 2, MOST_PAUSE_SECONDS)
    except TimeoutError:
        raise StepFailed(f"not ready within {readiness.timeout_ms} ms: {reason}") from None


async def _attempt(readiness: TcpReadiness | HttpReadiness | WebSocketReadiness) -> str:
    """Look once; return why it is not ready, "" when it is."""
    try:
        async with asyncio.timeout(ATTEMPT_SECONDS):
            await _probe(readiness)
    except ProbeError as error:
        return str(error)
    except TimeoutError:
        return "it accepts and does not answer"
    return ""


async def _probe(readiness: TcpReadiness | HttpReadiness | WebSocketReadiness) -> None:
    match readiness:
        case TcpReadiness():
            await probe_tcp(readiness.host, readiness.port)
        case HttpReadiness():
            _, host, port, target = split_url(readiness.url)
            await probe_http(host, port, target, readiness.expected_status)
        case WebSocketReadiness():
            _, host, port, target = split_url(readiness.url)
            await probe_websocket(host, port, target)
        case _:
            assert_never(readiness)
