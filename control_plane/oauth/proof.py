"""What proves that who comes back is who went: the state, and PKCE (RFC 7636)."""

import base64
import hashlib
import secrets
from typing import Final

from sallyport.secret import Secret

# 256 bits each; RFC 7636 section 4.1 asks for that much.
_RANDOM_BYTES: Final = 32


def new_state() -> str:
    """Return a state that nobody can guess."""
    return secrets.token_urlsafe(_RANDOM_BYTES)


def state_hash(state: str) -> str:
    """Return what is kept of a state: whoever reads the database cannot come back with it."""
    return hashlib.sha256(state.encode("utf-8", "surrogatepass")).hexdigest()


def new_verifier() -> Secret:
    """Return a PKCE code verifier."""
    return Secret(secrets.token_urlsafe(_RANDOM_BYTES).encode("ascii"))


def challenge(verifier: Secret) -> str:
    """Return the S256 challenge of a verifier."""
    digest = hashlib.sha256(verifier.reveal()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")
