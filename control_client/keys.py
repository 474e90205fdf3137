"""The control plane's public keys, as bytes: whoever verifies with them reads them strictly."""

from typing import Final

from control_client.session import ControlSession

MAX_JWKS_BYTES: Final = 256 * 1024


async def fetch_jwks(session: ControlSession) -> bytes:
    """Return the JWK Set document; raises ControlError."""
    answer = await session.ask("keys", "GET", "/.well-known/jwks.json", most_bytes=MAX_JWKS_BYTES, is_public=True)
    return answer.body
