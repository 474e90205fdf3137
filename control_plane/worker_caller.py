"""Have a worker install, start, stop or remove an integration server, with a token of our own (contracts section 8).

The HTTP session is the control client's; here its errors become refusals of ours.
"""

import contextlib
import ssl
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

import structlog

from control_client.errors import ControlError
from control_client.worker_calls import WorkerCalls
from control_plane.refusals import ControlCode, Refused
from control_plane.signing import KeyRing
from control_plane.workers import DeclaredServer, Workers
from sallyport.claims import AUDIENCE_WORKER

# One call, tries included; a token that is seen is soon worth nothing.
TOKEN_SECONDS: Final = 60
SUBJECT: Final = "control-plane"

_CODES: Final = {
    "ValidationError": ControlCode.MCP_SERVER_REFUSED,
    "NotFound": ControlCode.MCP_SERVER_NOT_FOUND,
    "InvalidState": ControlCode.MCP_SERVER_CONFLICT,
    "Duplicate": ControlCode.MCP_SERVER_CONFLICT,
    "ProviderError": ControlCode.MCP_SERVER_FAILED,
}

_log = structlog.get_logger(__name__)


class Placed(NamedTuple):
    """A server, and the worker that has it."""

    worker_id: str
    server_id: str


class CallTimes(NamedTuple):
    """How long a worker may take, in seconds."""

    answer: float
    install: float


class WorkerCaller:
    """Asks workers. Every call raises Refused, and DatabaseUnavailable."""

    def __init__(
        self,
        workers: Workers,
        ring: KeyRing,
        now: Callable[[], float],
        *,
        trust: ssl.SSLContext,
        times: CallTimes,
    ) -> None:
        self._workers = workers
        self._ring = ring
        self._now = now
        self._trust = trust
        self._times = times

    async def install(self, worker_id: str | None, server: DeclaredServer) -> Placed:
        """Have a server installed, stopped; without a worker's id, on the one that has the fewest."""
        chosen, calls = await self._calls(worker_id, self._times.install)
        order = server.to_document()
        order["id"], order["owner"] = order.pop("serverId"), "control-plane"
        del order["desired"]
        with _refusals(chosen):
            return Placed(chosen, await calls.install(order))

    async def remove(self, worker_id: str, server_id: str) -> None:
        """Have it taken away."""
        chosen, calls = await self._calls(worker_id, self._times.answer)
        with _refusals(chosen):
            await calls.remove(server_id)

    async def start(self, worker_id: str, server_id: str) -> None:
        """Have it run; returns when it does."""
        chosen, calls = await self._calls(worker_id, self._times.answer)
        with _refusals(chosen):
            await calls.start(server_id)

    async def stop(self, worker_id: str, server_id: str) -> None:
        """Have it not run; returns when it does not."""
        chosen, calls = await self._calls(worker_id, self._times.answer)
        with _refusals(chosen):
            await calls.stop(server_id)

    async def _calls(self, worker_id: str | None, seconds: float) -> tuple[str, WorkerCalls]:
        chosen, url = await self._workers.find(worker_id)
        token = _Token(self._ring, self._now)
        with _refusals(chosen):
            return chosen, WorkerCalls(url, token, trust=self._trust, seconds=seconds)

    def __repr__(self) -> str:
        return "<WorkerCaller>"


class _Token:
    """A service token for workers, minted when it is needed."""

    ends_at: float | None = None
    advice: Final = "the worker does not accept our service tokens; its tokens.issuer and control.url have to be ours"

    def __init__(self, ring: KeyRing, now: Callable[[], float]) -> None:
        self._ring = ring
        self._now = now

    async def current(self, *, again: bool = False) -> str:
        """Return one; raises DatabaseUnavailable."""
        minted = await self._ring.mint(
            audience=AUDIENCE_WORKER, subject=SUBJECT, ttl_seconds=TOKEN_SECONDS, now=self._now()
        )
        return minted.token


@contextlib.contextmanager
def _refusals(worker_id: str) -> Iterator[None]:
    """Turn what a worker refuses into a refusal in its words, and no answer into one of ours."""
    try:
        yield
    except ControlError as error:
        code = _CODES.get(error.code)
        if code is None:
            _log.warning("worker_unavailable", worker=worker_id, detail=str(error))
            raise Refused(ControlCode.WORKER_UNAVAILABLE, f"{worker_id} gives no answer that helps") from None
        raise Refused(code, error.words) from None
