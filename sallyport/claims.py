"""What a token says, checked (contracts section 3).

Signatures are somebody else's work: this module gets the payload of a token whose
signature has been verified, and decides whether its claims are good here and now. The
clock is an argument.

Unknown claims are ignored, as RFC 7519 section 4 asks; everything known is strict.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

AUDIENCE_PROXY: Final = "sallyport-proxy"
AUDIENCE_TUNNEL: Final = "sallyport-tunnel"
AUDIENCE_RENEWAL: Final = "sallyport-renewal"
AUDIENCE_CONTROL: Final = "sallyport-control"
AUDIENCE_GATEWAY: Final = "sallyport-gateway"
AUDIENCE_WORKER: Final = "sallyport-worker"
# A gateway shows denials for it, and nothing else.
AUDIENCE_DENIALS: Final = "sallyport-denials"

# The subject of these is a caller, not a sandbox: `org` and `sid` may be absent.
SERVICE_AUDIENCES: Final = frozenset({AUDIENCE_CONTROL, AUDIENCE_GATEWAY, AUDIENCE_WORKER, AUDIENCE_DENIALS})

# Ids are prefixed and some 30 bytes long; 128 leaves room and bounds every table keyed by one.
MAX_TEXT_LENGTH: Final = 128

# Leases last a day. More than a year is a slip, usually milliseconds given for seconds.
MAX_LIFETIME_SECONDS: Final = 366 * 86_400


class TokenFault(Enum):
    """Why a token was refused. For the log and metrics; the peer learns only that it was."""

    MALFORMED = "malformed"
    TOO_LARGE = "too_large"
    ALGORITHM = "algorithm"
    CRITICAL_HEADER = "critical_header"
    UNKNOWN_KEY = "unknown_key"
    SIGNATURE = "signature"
    MISSING_CLAIM = "missing_claim"
    INVALID_CLAIM = "invalid_claim"
    WRONG_ISSUER = "wrong_issuer"
    WRONG_AUDIENCE = "wrong_audience"
    EXPIRED = "expired"
    NOT_YET_VALID = "not_yet_valid"
    LIFETIME = "lifetime"
    REVOKED = "revoked"


class TokenError(Exception):
    """A token was refused: the peer's fault, and trying the same token again is useless.

    The text names claims and headers, never their values: a value may be part of a secret.
    """

    def __init__(self, reason: TokenFault, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """The checked claims of one token; instants are whole Unix seconds.

    `sandbox_id` is the subject: the caller's name in a service token, where
    `organization_id` and `lineage` may be empty.
    """

    issuer: str
    audience: str
    sandbox_id: str
    organization_id: str
    lineage: str
    issued_at: int
    not_before: int
    expires_at: int
    token_id: str


def check_claims(
    payload: Mapping[str, object], *, audience: str, issuer: str, now: float, leeway_seconds: float = 0.0
) -> Claims:
    """Return the claims of `payload`, or raise TokenError with the first fault.

    `leeway_seconds` excuses a signer whose clock runs ahead of ours (`iat`, `nbf`); an expiry
    is never stretched. `aud` is one string: a list, even of one, is refused.
    """
    if _text(payload, "iss") != issuer:
        raise TokenError(TokenFault.WRONG_ISSUER, "iss is not the configured issuer")
    if _text(payload, "aud") != audience:
        raise TokenError(TokenFault.WRONG_AUDIENCE, "aud is not the audience asked for here")
    is_service = audience in SERVICE_AUDIENCES
    claims = Claims(
        issuer=issuer,
        audience=audience,
        sandbox_id=_text(payload, "sub"),
        organization_id="" if is_service and "org" not in payload else _text(payload, "org"),
        lineage="" if is_service and "sid" not in payload else _text(payload, "sid"),
        issued_at=_instant(payload, "iat"),
        not_before=_instant(payload, "nbf"),
        expires_at=_instant(payload, "exp"),
        token_id=_text(payload, "jti"),
    )
    _check_lifetime(claims)
    check_instant(claims, now=now, leeway_seconds=leeway_seconds)
    return claims


def check_instant(claims: Claims, *, now: float, leeway_seconds: float = 0.0) -> None:
    """Raise TokenError unless `now` lies within the claims' life. Cheap: for checking again on each use."""
    if now >= claims.expires_at:
        raise TokenError(TokenFault.EXPIRED, "the token has expired")
    if now + leeway_seconds < claims.not_before:
        raise TokenError(TokenFault.NOT_YET_VALID, "nbf lies in the future")
    if now + leeway_seconds < claims.issued_at:
        raise TokenError(TokenFault.NOT_YET_VALID, "iat lies in the future")


def _check_lifetime(claims: Claims) -> None:
    starts_at = min(claims.issued_at, claims.not_before)
    if claims.expires_at <= max(claims.issued_at, claims.not_before):
        raise TokenError(TokenFault.LIFETIME, "exp is not after iat and nbf")
    if claims.expires_at - starts_at > MAX_LIFETIME_SECONDS:
        raise TokenError(TokenFault.LIFETIME, f"the token lives longer than {MAX_LIFETIME_SECONDS // 86_400} days")


def _text(payload: Mapping[str, object], name: str) -> str:
    value = _present(payload, name)
    if type(value) is not str:
        raise TokenError(TokenFault.INVALID_CLAIM, f"{name} is not a string")
    if not 1 <= len(value) <= MAX_TEXT_LENGTH:
        raise TokenError(TokenFault.INVALID_CLAIM, f"{name} is not 1 to {MAX_TEXT_LENGTH} characters long")
    # Printable ASCII without space: ids go into log lines, file names and tables.
    if not value.isascii() or not value.isprintable() or " " in value:
        raise TokenError(TokenFault.INVALID_CLAIM, f"{name} holds characters other than visible ASCII")
    return value


def _instant(payload: Mapping[str, object], name: str) -> int:
    value = _present(payload, name)
    if type(value) is not int:  # exactly int: bool is its subclass, and fractions have no use here
        raise TokenError(TokenFault.INVALID_CLAIM, f"{name} is not a whole number")
    if not 0 <= value < 2**53:
        raise TokenError(TokenFault.INVALID_CLAIM, f"{name} is out of range")
    return value


def _present(payload: Mapping[str, object], name: str) -> object:
    if name not in payload:
        raise TokenError(TokenFault.MISSING_CLAIM, f"{name} is missing")
    return payload[name]
