"""Tunnel tokens issued by the control plane (the TokenIssuer of renewal.py)."""

from control_client.errors import ControlError
from control_client.session import ControlSession
from control_client.tokens import issue_tokens
from gateway.renewal import RenewedTokens, TokenRenewalError


class RemoteTokenIssuer:
    """Ask the control plane for tokens."""

    def __init__(self, session: ControlSession) -> None:
        self._session = session

    async def renew(
        self, sandbox_id: str, request_id: str, renewal_token: str | None, lineage: str | None
    ) -> RenewedTokens:
        """Return fresh tokens; raises TokenRenewalError. The same request_id may be asked again for a minute."""
        try:
            issued = await issue_tokens(self._session, sandbox_id, request_id, renewal_token, lineage)
        except ControlError as error:
            raise TokenRenewalError(error.code, error.temporary) from None
        return RenewedTokens(
            token=issued.token,
            expires_at=issued.expires_at,
            renewal_token=issued.renewal_token,
            renewal_expires_at=issued.renewal_expires_at,
        )

    def __repr__(self) -> str:
        return f"<RemoteTokenIssuer of {self._session!r}>"
