"""The keys that sign tokens, and the signing: what the control plane will do, for a gateway that stands alone."""

import json
import secrets
from dataclasses import dataclass
from pathlib import Path

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from jwt.algorithms import OKPAlgorithm

from gateway.keys import thumbprint
from sallyport.claims import TokenError, check_claims
from sallyport_cli.failure import bad_input
from sallyport_cli.files import create_file, read_file


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyFiles:
    """The files of one pair of keys."""

    private: Path
    public: Path
    jwks: Path
    key_id: str


def generate_key_files(directory: Path) -> KeyFiles:
    """Make an Ed25519 pair in `directory` (made where it is missing); Failure where a file of it is already there."""
    key = new_private_key()
    key_id = thumbprint(key.public_key())
    jwk = OKPAlgorithm.to_jwk(key.public_key(), as_dict=True)
    members = {"kty": jwk["kty"], "crv": jwk["crv"], "x": jwk["x"], "kid": key_id, "use": "sig", "alg": "EdDSA"}
    files = KeyFiles(
        private=directory / "private.pem", public=directory / "public.pem", jwks=directory / "jwks.json", key_id=key_id
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    # The private one first: where it exists already, nothing has been changed yet.
    create_file(files.private, private, mode=0o600)
    create_file(files.public, public, mode=0o644)
    create_file(files.jwks, json.dumps({"keys": [members]}, indent=2).encode() + b"\n", mode=0o644)
    return files


def new_private_key() -> Ed25519PrivateKey:
    """Make a signing key that exists in memory alone."""
    return Ed25519PrivateKey.generate()


def read_private_key(path: Path) -> Ed25519PrivateKey:
    """Return the signing key a file holds, or raise Failure."""
    try:
        key = load_pem_private_key(read_file(path), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise bad_input(
            f"{path} is not an Ed25519 private key in PEM without a password",
            "`sallyport token keygen --out DIRECTORY` makes one",
        )
    return key


def public_pem(key: Ed25519PrivateKey) -> bytes:
    """Return the public half of a key, as the gateway's tokens.public_key wants it."""
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@dataclass(frozen=True, slots=True, kw_only=True)
class Minted:
    """A signed token, never printed by its repr, and what it says of itself. Times are unix seconds."""

    token: str
    expires_at: int
    token_id: str

    def __repr__(self) -> str:
        return f"<Minted {self.token_id} until {self.expires_at}>"


def mint(
    key: Ed25519PrivateKey,
    *,
    sandbox_id: str,
    organization_id: str | None,
    audience: str,
    issuer: str,
    ttl_seconds: float,
    now: float,
) -> Minted:
    """Sign a token (contracts section 3); Failure where the gateway would refuse what it says.

    Without an organization it is a service token, and sandbox_id the caller's name.
    """
    issued_at = int(now)
    token_id = f"jti_{secrets.token_hex(12)}"
    claims: dict[str, object] = {
        "iss": issuer,
        "aud": audience,
        "sub": sandbox_id,
        **({} if organization_id is None else {"org": organization_id, "sid": f"sid_{secrets.token_hex(12)}"}),
        "iat": issued_at,
        "nbf": issued_at,
        "exp": issued_at + max(1, int(ttl_seconds)),
        "jti": token_id,
    }
    try:
        checked = check_claims(claims, audience=audience, issuer=issuer, now=now)
    except TokenError as error:
        raise bad_input(f"a gateway would refuse this token: {error}", _claim_hint(str(error))) from None
    token = jwt.encode(claims, key, algorithm="EdDSA", headers={"kid": thumbprint(key.public_key())})
    return Minted(token=token, expires_at=checked.expires_at, token_id=token_id)


def _claim_hint(fault: str) -> str:
    option = {"sub": "--sandbox", "org": "--org", "aud": "--audience", "iss": "--issuer"}.get(fault.partition(" ")[0])
    return f"that is what {option} says" if option else "give a shorter --ttl"
