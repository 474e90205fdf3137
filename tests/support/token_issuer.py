"""A token issuer whose every answer is a test's."""

import asyncio
from dataclasses import dataclass, field

from gateway.renewal import Renewals, RenewedTokens, TokenRenewalError
from tests.support.gateway_plans import SANDBOX
from tests.support.in_process import GatewayInProcess, signed_token
from tests.support.raw_end import WAIT_SECONDS


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request for tokens; whoever sent it waits for `answer`."""

    sandbox_id: str
    request_id: str
    renewal_token: str | None
    lineage: str | None
    answer: "asyncio.Future[RenewedTokens]" = field(repr=False)

    def settle(self, outcome: RenewedTokens | TokenRenewalError) -> None:
        if isinstance(outcome, TokenRenewalError):
            self.answer.set_exception(outcome)
        else:
            self.answer.set_result(outcome)


class ScriptedIssuer:
    """Keeps what it is asked until a test answers it."""

    def __init__(self) -> None:
        self.count = 0
        self._waiting: asyncio.Queue[Asked] = asyncio.Queue()

    async def renew(
        self, sandbox_id: str, request_id: str, renewal_token: str | None, lineage: str | None
    ) -> RenewedTokens:
        self.count += 1
        answer: asyncio.Future[RenewedTokens] = asyncio.get_running_loop().create_future()
        await self._waiting.put(
            Asked(
                sandbox_id=sandbox_id,
                request_id=request_id,
                renewal_token=renewal_token,
                lineage=lineage,
                answer=answer,
            )
        )
        return await answer

    def serve(self, gateway: GatewayInProcess) -> None:
        """Renew this gateway's tokens, as its control plane would."""
        parts = gateway.parts
        parts.renewals = Renewals(self, parts.tasks, timeout_seconds=parts.timeouts.credential)

    async def asked(self) -> Asked:
        """Return the next request."""
        async with asyncio.timeout(WAIT_SECONDS):
            return await self._waiting.get()


def renewed(sandbox_id: str = SANDBOX, *, audience: str = "sallyport-tunnel", ttl_seconds: int = 900) -> RenewedTokens:
    """Return fresh tokens, as a control plane would sign them."""
    return RenewedTokens(
        token=signed_token(audience, sandbox_id, ttl_seconds=ttl_seconds),
        expires_at=0,
        renewal_token=signed_token("sallyport-renewal", sandbox_id),
        renewal_expires_at=0,
    )
