"""How providers sign what they send, by our own reading of their documents."""

import base64
import hashlib
import hmac
from typing import Final

from control_plane.definitions.contract import HmacSignature, SlackSignature, StandardSignature, Verification

SIGNING: Final = "provider-signs-with-this"
STANDARD_SIGNING: Final = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
SLACK: Final = SlackSignature()
STANDARD: Final = StandardSignature()
HEX: Final = HmacSignature(header="x-signature", prefix="sha256=")


def signed(verification: Verification, body: bytes, now: float, secret: str = SIGNING) -> dict[str, str]:
    """Return the fields a provider sends with a body."""
    at = str(int(now))
    match verification:
        case HmacSignature():
            return {verification.header: verification.prefix + _hex(secret, body)}
        case SlackSignature():
            signature = "v0=" + _hex(secret, f"v0:{at}:".encode() + body)
            return {"x-slack-request-timestamp": at, "x-slack-signature": signature}
        case StandardSignature():
            key = base64.b64decode(secret.removeprefix("whsec_"))
            found = hmac.new(key, f"msg_1.{at}.".encode() + body, hashlib.sha256).digest()
            signature = f"v1,{base64.b64encode(found).decode()}"
            return {"webhook-id": "msg_1", "webhook-timestamp": at, "webhook-signature": signature}


def _hex(secret: str, message: bytes) -> str:
    return hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()
