"""Whether a request was signed by whoever shares its secret. Pure, and total: any bytes are answered yes or no.

What is compared takes the same time whatever it is, and the HMAC is computed also where the answer is known before.
From the providers' documents: GitHub "Validating webhook deliveries", Linear "Webhooks", Slack "Verifying requests from
Slack", Standard Webhooks 1.0.
"""

import hmac
from collections.abc import Mapping
from typing import Final, assert_never

from control_plane.definitions.contract import (
    HmacSignature,
    SlackSignature,
    StandardSignature,
    Verification,
    WebhookRequest,
)
from control_plane.webhooks.signing import hmac_sha256, standard_signature
from sallyport.secret import Secret

# How far a signed timestamp may be from now, as Slack and Standard Webhooks have it.
TOLERANCE_SECONDS: Final = 300


def is_signed(verification: Verification, secret: Secret, request: WebhookRequest, now: float) -> bool:
    """Say whether a request carries a signature by a secret, and is fresh where the signature covers a time."""
    headers, body = request.headers, request.body
    match verification:
        case HmacSignature():
            expected = verification.prefix + hmac_sha256(secret, body).hex()
            return _same(headers.get(verification.header, ""), expected)
        case SlackSignature():
            timestamp = headers.get("x-slack-request-timestamp", "")
            expected = "v0=" + hmac_sha256(secret, b":".join((b"v0", _bytes(timestamp), body))).hex()
            return _same(headers.get("x-slack-signature", ""), expected) & is_fresh(timestamp, now)
        case StandardSignature():
            return _is_standard(secret, headers, body, now)
        case _:
            assert_never(verification)


def is_fresh(timestamp: str, now: float) -> bool:
    """Say whether a text is a unix time in seconds that is not far from now."""
    if not (timestamp.isascii() and timestamp.isdecimal() and len(timestamp) <= 12):
        return False
    return abs(now - int(timestamp)) <= TOLERANCE_SECONDS


def _is_standard(secret: Secret, headers: Mapping[str, str], body: bytes, now: float) -> bool:
    message_id, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    expected = standard_signature(secret, _bytes(message_id), _bytes(timestamp), body)
    # While a secret is being replaced a sender signs by both; versions that are not v1 are for others.
    matches = [_same(given, expected or "") for given in headers.get("webhook-signature", "").split(" ")]
    return any(matches) & (expected is not None) & (message_id != "") & is_fresh(timestamp, now)


def _same(given: str, expected: str) -> bool:
    return hmac.compare_digest(_bytes(given), expected.encode("ascii"))


def _bytes(field: str) -> bytes:
    """Return the bytes of a field, which were read as latin-1."""
    return field.encode("latin-1", "replace")
