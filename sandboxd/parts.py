"""What the pieces of one running sandboxd share."""

import asyncio
from dataclasses import dataclass, field

from sallyport.host import HostPattern
from sallyport.net.clock import Clock
from sallyport.net.interception import InterceptionContexts, MemoryCa
from sallyport.net.tasks import TaskSet
from sallyport.problem import Code, Problem
from sallyport.wire.http1.answers import problem_answer
from sandboxd.config import Limits, Timeouts
from sandboxd.core.intake import Refused
from sandboxd.gateway_side import GatewaySide
from sandboxd.log import Log

# How soon a process should ask again for what is expected back within seconds.
RETRY_AFTER_SECONDS = 5


@dataclass(slots=True, kw_only=True, eq=False)
class SandboxdParts:
    """The parts of one process. `captured` are the open connections of sandbox processes."""

    loop: asyncio.AbstractEventLoop
    clock: Clock
    log: Log
    timeouts: Timeouts
    limits: Limits
    passthrough_hosts: tuple[HostPattern, ...]
    gateway: GatewaySide
    ca: MemoryCa
    contexts: InterceptionContexts
    tasks: TaskSet
    request_prefix: str
    captured: set[asyncio.Transport] = field(default_factory=set)
    _requests: int = 0

    def answer(self, code: Code, detail: str, *, method: str, hint: str | None = None) -> bytes:
        """Write a refusal of sandboxd's own as a whole answer; the link ends with it."""
        self._requests += 1
        problem = Problem(
            code=code,
            detail=detail,
            request_id=f"{self.request_prefix}{self._requests}",
            hint=hint,
            retry_after_seconds=RETRY_AFTER_SECONDS if code.status == 503 else None,
        )
        return problem_answer(problem, method=method, close=True)

    def no_set(self) -> Refused:
        """Say that the hold is over and no managed set has come."""
        if self.gateway.tunnel is None:
            return Refused(Code.PLAN_UNAVAILABLE, "the gateway has not been reached yet")
        return Refused(Code.PLAN_UNAVAILABLE, "the gateway has not said yet which hosts are managed")

    def no_stream(self) -> Refused:
        """Say why no stream could be opened."""
        if self.gateway.is_full:
            return Refused(Code.OVERLOADED, "the tunnel has as many streams as it may")
        return Refused(Code.DRAINING, "there is no tunnel to a gateway at the moment")
