"""Who may use the admin surface off loopback: the bearer of a service token for gateways (contracts section 3)."""

from collections.abc import Callable

from gateway.tokens import TokenVerifier
from sallyport.claims import Claims, TokenError, TokenFault
from sallyport.wire.compact_token import bearer_token


class ServiceAuth:
    """Check the Authorization of requests to the admin surface. The verifier is one for AUDIENCE_GATEWAY."""

    def __init__(self, verifier: TokenVerifier, now: Callable[[], float]) -> None:
        """now is unix time."""
        self._verifier = verifier
        self._now = now

    def check(self, authorization: str | None) -> Claims:
        """Return whose token it is, as Claims whose sandbox_id is the caller; raises TokenError, which is a 401."""
        token = bearer_token((authorization or "").encode("utf-8", "surrogateescape"))
        if token is None:
            raise TokenError(TokenFault.MALFORMED, "no bearer token")
        return self._verifier.verify(token, self._now())

    def __repr__(self) -> str:
        return f"<ServiceAuth {self._verifier!r}>"
