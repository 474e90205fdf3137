"""What a tunnel asks for when its token is to be renewed; who answers is the control plane (contracts section 3)."""

from dataclasses import dataclass
from typing import Protocol


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
