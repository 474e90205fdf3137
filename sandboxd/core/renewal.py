"""The tokens of this sandbox: which one to show, when to ask for the next one, what an answer changes.

The tunnel token lives for minutes and is renewed at half life through the tunnel. The renewal token lives for a day
and readmits a sandbox that was paused; it can be used once, and every answer brings the next one. Times are unix
seconds. Signatures are the gateway's to check: what is read of a token here is only when it ends.
"""

import base64
import binascii
import enum
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeIs, cast

from sallyport.wire.errors import RemoteProtocolError

# RFC 6750 knows no limit; ours are some 500 bytes, and a head has to hold one.
MAX_TOKEN_BYTES: Final = 8 * 1024
# An answer takes two round trips of the gateway; what is lost with its tunnel is asked for again on the next one.
ANSWER_SECONDS: Final = 10.0
# After a refusal; half a life holds many of these.
RETRY_SECONDS: Final = 30.0
# After one that trying again does not change: a gateway without a control plane renews nothing.
LONG_RETRY_SECONDS: Final = 600.0
# A token is not shown in its last moments: it would be refused on arrival.
_MARGIN_SECONDS: Final = 5.0
_MAX_PAYLOAD_BYTES: Final = 8 * 1024


class Kind(enum.Enum):
    """Which of its tokens a sandbox shows."""

    TUNNEL = "tunnel"
    RENEWAL = "renewal"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """What is held at one moment. An end that is not known is None; an absent token is ""."""

    token: str = ""
    expires_at: float | None = None
    renewal: str = ""
    renewal_expires_at: float | None = None

    def __repr__(self) -> str:
        held = [name for name, value in (("tunnel", self.token), ("renewal", self.renewal)) if value]
        return f"<Tokens {' and '.join(held) or 'none'}>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bearer:
    """One token to show."""

    kind: Kind
    token: str

    def __repr__(self) -> str:
        return f"<Bearer {self.kind.value}>"


def read_token_file(content: bytes) -> Tokens:
    """Read `{token, renewalToken?}` or a bare token line; raises ValueError that never quotes it."""
    text = content.decode("ascii", errors="replace").strip()
    if not text.startswith("{"):
        return from_strings(text, "")
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("it begins like JSON and is none") from None
    if not isinstance(document, dict) or not document.keys() <= {"token", "renewalToken"}:
        raise ValueError("write {token, renewalToken}, or a token alone on one line")
    return from_strings(str(document.get("token") or ""), str(document.get("renewalToken") or ""))


def from_strings(token: str, renewal: str) -> Tokens:
    """Take tokens as somebody brought them; raises ValueError where they cannot be ones."""
    if not token and not renewal:
        raise ValueError("there is no token in it")
    for each in (token, renewal):
        if len(each) > MAX_TOKEN_BYTES or not each.isascii() or not all(33 <= ord(sign) < 127 for sign in each):
            raise ValueError("a token is one line of visible ASCII, 8 KiB at most")
    return Tokens(token=token, expires_at=_end_of(token), renewal=renewal, renewal_expires_at=_end_of(renewal))


def _end_of(token: str) -> float | None:
    """Read `exp` out of a JWT, unverified; None where it is none, and then only the gateway knows."""
    parts = token.split(".")
    if len(parts) != 3 or len(parts[1]) > _MAX_PAYLOAD_BYTES:
        return None
    try:
        payload = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (ValueError, binascii.Error, RecursionError):
        return None
    ends_at = payload.get("exp") if isinstance(payload, dict) else None
    return float(ends_at) if _is_instant(ends_at) else None


def _is_instant(value: object) -> TypeIs[int]:
    """Whether it is unix seconds that arithmetic with times can hold."""
    return type(value) is int and 0 <= value < 2**53


class Renewal:
    """The conversation about tokens, over as many tunnels as it takes.

    Always: `_request_id` is set exactly while an answer is awaited. The same id is asked again until there is one:
    the control plane gives the same answer for it, so a lost answer costs nothing.
    """

    def __init__(self) -> None:
        self.tokens = Tokens()
        self._renew_at = 0.0
        self._request_id: str | None = None
        self._answered_id: object = None  # of the last answer
        self._ask_again_at = 0.0
        self._refused: set[str] = set()

    def bring(self, tokens: Tokens, now: float) -> None:
        """Hold other tokens from now on: those of a file, or of an answer."""
        self.tokens = tokens
        self._refused.clear()
        # One whose end nobody told is renewed at once: the answer tells it.
        self._renew_at = now if tokens.expires_at is None else now + (tokens.expires_at - now) / 2

    # Which to show

    def bearer(self, now: float) -> Bearer | None:
        """Choose what to show; None where nothing is good."""
        held = self.tokens
        if _is_good(held.token, held.expires_at, now) and held.token not in self._refused:
            return Bearer(kind=Kind.TUNNEL, token=held.token)
        if _is_good(held.renewal, held.renewal_expires_at, now) and held.renewal not in self._refused:
            return Bearer(kind=Kind.RENEWAL, token=held.renewal)
        return None

    def refuse(self, token: str) -> None:
        """The gateway does not take this one: it is not shown again."""
        self._refused.add(token)

    def forgive(self) -> None:
        """Show refused tokens again: there is nothing better, and what refused them may have learnt their key."""
        self._refused.clear()

    # When to ask

    def due(self, now: float, new_id: str) -> str | None:
        """Give the id to ask with, if it is time to ask; call it as often as you like."""
        if self._request_id is None:
            if now < self._renew_at:
                return None
            self._request_id = new_id
        elif now < self._ask_again_at:
            return None
        self._ask_again_at = now + ANSWER_SECONDS
        return self._request_id

    def tunnel_opened(self, shown: Kind, now: float) -> None:
        """A tunnel was opened by showing this kind of token."""
        if shown is Kind.RENEWAL:
            # The gateway brings the new ones unasked; asking is for the case that it does not.
            self._request_id = None
            self._renew_at = now + ANSWER_SECONDS
        # An answer that was awaited went down with the old tunnel: ask for it again at once.
        self._ask_again_at = 0.0

    # What is answered

    def answered(self, document: Mapping[str, object], now: float) -> bool:
        """Take a token.response; say whether there is something new to keep. RemoteProtocolError.

        One that nobody asked for is the gateway's word on a renewal token that was shown at the door.
        """
        tokens = _read_response(document, self.tokens)
        request_id = document.get("requestId")
        if request_id == self._answered_id:
            return False  # it was asked for twice; a later one may be held by now
        self._answered_id = request_id
        self._request_id = None
        self.bring(tokens, now)
        return True

    def failed(self, document: Mapping[str, object], now: float) -> None:
        """Take a token.error: ask later, under another id."""
        if document.get("requestId") == self._request_id:
            self._request_id = None
            self._renew_at = now + (LONG_RETRY_SECONDS if document.get("retryable") is False else RETRY_SECONDS)

    def __repr__(self) -> str:
        return f"<Renewal of {self.tokens!r}, {'asked' if self._request_id else 'idle'}>"


def _is_good(token: str, expires_at: float | None, now: float) -> bool:
    return bool(token) and (expires_at is None or now < expires_at - _MARGIN_SECONDS)


def _read_response(document: Mapping[str, object], held: Tokens) -> Tokens:
    token, expires_at = document.get("token"), document.get("expiresAt")
    renewal, renewal_expires_at = document.get("renewalToken"), document.get("renewalExpiresAt")
    if not isinstance(document.get("requestId"), str):
        raise RemoteProtocolError("token.response: no requestId")
    if not isinstance(token, str) or not token or not _is_instant(expires_at):
        raise RemoteProtocolError("token.response: no token with its end")
    if renewal is not None and (not isinstance(renewal, str) or not renewal or not _is_instant(renewal_expires_at)):
        raise RemoteProtocolError("token.response: no renewal token with its end")
    try:
        read = from_strings(token, renewal or "")
    except ValueError as error:
        raise RemoteProtocolError(f"token.response: {error}") from None
    if renewal is None:  # the one that is held stays good
        return Tokens(
            token=token, expires_at=expires_at, renewal=held.renewal, renewal_expires_at=held.renewal_expires_at
        )
    return Tokens(
        token=token,
        expires_at=expires_at,
        renewal=read.renewal,
        renewal_expires_at=cast(int, renewal_expires_at),
    )
