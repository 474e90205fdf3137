"""Signatures by a shared secret: Standard Webhooks 1.0, which we send, and the HMAC that all of them are made of."""

import base64
import binascii
import hashlib
import hmac
import secrets
from typing import Final

from sallyport.secret import Secret

PREFIX: Final = "whsec_"
# The specification wants 24 to 64.
SECRET_BYTES: Final = 32


def hmac_sha256(secret: Secret, message: bytes) -> bytes:
    """Return the HMAC of a message under the secret's own bytes."""
    return hmac.digest(secret.reveal(), message, hashlib.sha256)


def standard_signature(secret: Secret, message_id: bytes, timestamp: bytes, body: bytes) -> str | None:
    """Return one entry of `webhook-signature`; None where the secret is not base64, with or without `whsec_`."""
    try:
        key = base64.b64decode(secret.reveal().removeprefix(PREFIX.encode()), validate=True)
    except binascii.Error:
        return None
    signed = hmac_sha256(Secret(key), b".".join((message_id, timestamp, body)))
    return "v1," + base64.b64encode(signed).decode("ascii")


def signed_headers(secret: Secret, message_id: str, now: float, body: bytes) -> dict[str, str]:
    """Return the fields by which a subscriber knows that a message is ours, and knows it again."""
    timestamp = str(int(now))
    signature = standard_signature(secret, message_id.encode("ascii"), timestamp.encode("ascii"), body)
    assert signature is not None, "it is one of new_secret()"
    return {"webhook-id": message_id, "webhook-timestamp": timestamp, "webhook-signature": signature}


def new_secret() -> Secret:
    """Return a new signing secret for a subscriber."""
    return Secret(PREFIX.encode() + base64.b64encode(secrets.token_bytes(SECRET_BYTES)))


def shown_once(secret: Secret) -> str:
    """Return a new secret's text, for the one answer that shows it."""
    return secret.reveal().decode("ascii")
