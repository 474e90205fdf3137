"""Standard Webhooks 1.0 signatures: HMAC-SHA256 over `id.timestamp.body`, in base64, one of several. Pure."""

import base64
import binascii
import hashlib
import hmac
import re
from typing import Final

from sallyport.secret import Secret

ID: Final = "webhook-id"
TIMESTAMP: Final = "webhook-timestamp"
SIGNATURE: Final = "webhook-signature"

# Both sides keep time by NTP; what is left is for a push that waited in an outbox to be tried again.
TOLERANCE_SECONDS: Final = 300
# A sender that changes its secret signs with both; nobody has more.
MAX_SIGNATURES: Final = 8

_PREFIX: Final = b"whsec_"


def sign(secret: Secret, message_id: str, timestamp: int, body: bytes) -> str:
    """Return the value of `webhook-signature`. A secret `whsec_...` is base64, as the specification has it."""
    revealed = secret.reveal()
    key = revealed
    if revealed.startswith(_PREFIX):
        try:
            key = base64.b64decode(revealed.removeprefix(_PREFIX), validate=True)
        except binascii.Error:
            key = revealed
    signed = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode("ascii")


def is_signed(
    secret: Secret, message_id: str | None, timestamp: str | None, signature: str, body: bytes, *, now: float
) -> bool:
    """Whether one of the signatures is the secret's over this message, and the message is of now."""
    if not message_id or not message_id.isascii() or timestamp is None:
        return False
    if re.fullmatch("[0-9]{1,12}", timestamp) is None or abs(now - int(timestamp)) > TOLERANCE_SECONDS:
        return False
    expected = sign(secret, message_id, int(timestamp), body).encode("ascii")
    given = signature.split(" ")
    if len(given) > MAX_SIGNATURES:
        return False
    # Every one is compared, so that the time does not tell which was right.
    return sum([hmac.compare_digest(expected, each.encode("utf-8", "replace")) for each in given]) > 0
