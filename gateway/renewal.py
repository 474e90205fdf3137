"""What a tunnel asks for when its token is to be renewed; who answers is the control plane (contracts section 3)."""

import asyncio
from collections import Counter
from dataclasses import dataclass
from typing import Final, Protocol

from sallyport.net.tasks import TaskSet
from sallyport.net.turns import Gate

# Credentials, plans and leases go over the same few links to the control plane, and keep most of them.
RENEWALS_AT_ONCE: Final = 8
# A sandbox has one tunnel to keep; what it asks for beside that waits for its turn.
RENEWALS_EACH: Final = 1

# Sandbox, request, renewal token, lineage.
type _Asked = tuple[str, str, str | None, str | None]


class TokenRenewalError(Exception):
    """A token was not renewed. code is a wire word; temporary says that asking again may help."""

    def __init__(self, code: str, temporary: bool) -> None:
        super().__init__(code)
        self.code = code
        self.temporary = temporary


@dataclass(frozen=True, slots=True, kw_only=True)
class RenewedTokens:
    """A new tunnel token and a new renewal token, never printed by their repr. Instants are unix seconds."""

    token: str
    expires_at: int
    renewal_token: str
    renewal_expires_at: int

    def response(self, request_id: str) -> dict[str, object]:
        """Return the `token.response` that carries them to sandboxd."""
        return {
            "type": "token.response",
            "requestId": request_id,
            "token": self.token,
            "expiresAt": self.expires_at,
            "renewalToken": self.renewal_token,
            "renewalExpiresAt": self.renewal_expires_at,
        }

    def __repr__(self) -> str:
        return f"<RenewedTokens until {self.expires_at}>"


class TokenIssuer(Protocol):
    """Who can issue tunnel tokens. The same request_id gets the same answer for a minute (contracts section 3)."""

    async def renew(
        self, sandbox_id: str, request_id: str, renewal_token: str | None, lineage: str | None
    ) -> RenewedTokens:
        """Return fresh tokens; raises TokenRenewalError. renewal_token is what a tunnel was opened with, if it was.

        lineage is that of the tunnel: what is issued stays in it, so that revoking it reaches the renewed tunnel too.
        """


class Renewals:
    """Renewals under way. The same one, asked for again meanwhile, is one call; few are made at once, by turns.

    One per process; used from its event loop only. Always: `_calls` has a call for whatever `_waiting` counts.
    """

    def __init__(self, issuer: TokenIssuer, tasks: TaskSet, *, timeout_seconds: float) -> None:
        """timeout_seconds is for a whole call, the wait for its turn included."""
        self._issuer = issuer
        self._tasks = tasks
        self._timeout_seconds = timeout_seconds
        self._gate: Gate[str] = Gate(at_once=RENEWALS_AT_ONCE, each=RENEWALS_EACH)
        # By all that is asked with: nobody is given what another token, or another lineage, has been issued.
        self._calls: dict[_Asked, asyncio.Task[RenewedTokens | TokenRenewalError]] = {}
        self._waiting: Counter[_Asked] = Counter()

    async def renew(
        self, sandbox_id: str, request_id: str, renewal_token: str | None, lineage: str | None
    ) -> RenewedTokens:
        """Return fresh tokens as TokenIssuer.renew does; raises TokenRenewalError, also where it took too long.

        A cancelled caller leaves the call to the others; one that nobody waits for any more ends.
        """
        asked = (sandbox_id, request_id, renewal_token, lineage)
        task = self._calls.get(asked)
        if task is None:
            task = self._calls[asked] = self._tasks.spawn(self._call(asked), name=f"renewal for {sandbox_id}")
        self._waiting[asked] += 1
        try:
            outcome = await asyncio.shield(task)
        finally:
            self._waiting[asked] -= 1
            if not self._waiting[asked]:
                # Out of here first: who asks next must not wait for what is being cancelled.
                del self._waiting[asked], self._calls[asked]
                task.cancel()
        if isinstance(outcome, TokenRenewalError):
            # A new one for each caller: one exception raised in many tasks would collect all their tracebacks.
            raise TokenRenewalError(outcome.code, outcome.temporary)
        return outcome

    async def _call(self, asked: _Asked) -> RenewedTokens | TokenRenewalError:
        sandbox_id, request_id, renewal_token, lineage = asked
        try:
            async with asyncio.timeout(self._timeout_seconds), self._gate.turn(sandbox_id):
                return await self._issuer.renew(sandbox_id, request_id, renewal_token, lineage)
        except TokenRenewalError as error:
            return error
        except TimeoutError:
            return TokenRenewalError("timeout", temporary=True)

    def __repr__(self) -> str:
        return f"<Renewals: {len(self._calls)} under way, {self._gate!r}>"
