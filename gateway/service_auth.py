"""Who may use the admin surface off loopback: the bearer of a service token for gateways (contracts section 3).

Denials may also be read with a token that is good for nothing else: the control plane shows it to whatever a lease
names, and so to more places than it has to trust.
"""

from collections.abc import Callable
from typing import Final

from gateway.tokens import TokenVerifier
from sallyport.claims import AUDIENCE_DENIALS, AUDIENCE_GATEWAY, Claims, TokenError, TokenFault
from sallyport.wire.compact_token import bearer_token

DENIALS_PATH: Final = "/v1/denials"


class ServiceAuth:
    """Check the Authorization of requests to the admin surface."""

    def __init__(self, verifier_for: Callable[[str], TokenVerifier], now: Callable[[], float]) -> None:
        """verifier_for(audience) makes a verifier; now is unix time."""
        self._verifier = verifier_for(AUDIENCE_GATEWAY)
        self._verifier_for_denials = verifier_for(AUDIENCE_DENIALS)
        self._now = now

    def check(self, authorization: str | None, path: str) -> Claims:
        """Return whose token it is, as Claims whose sandbox_id is the caller; raises TokenError, which is a 401."""
        token = bearer_token((authorization or "").encode("utf-8", "surrogateescape"))
        if token is None:
            raise TokenError(TokenFault.MALFORMED, "no bearer token")
        try:
            return self._verifier.verify(token, self._now())
        except TokenError as error:
            if path != DENIALS_PATH or error.reason is not TokenFault.WRONG_AUDIENCE:
                raise
        return self._verifier_for_denials.verify(token, self._now())

    def __repr__(self) -> str:
        return f"<ServiceAuth {self._verifier!r}>"
