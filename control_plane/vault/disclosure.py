"""The only places where a stored secret leaves its `Secret`: a resolve answer, a signature's key, a gateway's CA.

What asks providers (control_plane.oauth) has its own.
"""

import re

import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from sallyport.secret import Secret


def value_answer(value: Secret, *, version: str, expires_at: int | None) -> bytes:
    """Write the 200 answer of a resolution (contracts section 4)."""
    answer: dict[str, object] = {"kind": "value", "value": value.reveal().decode("utf-8"), "version": version}
    if expires_at is not None:
        answer["expiresAt"] = expires_at
    return orjson.dumps(answer)


def session_answer(keys: Secret, *, version: str, expires_at: int | None) -> bytes:
    """Write the 200 answer of a resolution that is a session of AWS; `keys` is the JSON of its keys."""
    answer: dict[str, object] = {"kind": "aws_session", **orjson.loads(keys.reveal()), "version": version}
    if expires_at is not None:
        answer["expiresAt"] = expires_at
    return orjson.dumps(answer)


def static_keys(access_key_id: Secret, secret_access_key: Secret) -> Secret:
    """Return stored AWS keys as the JSON of a session without an end."""
    keys = {"accessKeyId": access_key_id.reveal().decode(), "secretAccessKey": secret_access_key.reveal().decode()}
    return Secret(orjson.dumps(keys))


def fits(value: Secret, pattern: str) -> bool:
    """Say whether the whole of a secret fits a pattern."""
    return re.fullmatch(pattern, value.reveal().decode("utf-8", "replace")) is not None


def authority_answer(private_key: Secret, *, certificate_pem: str, not_after: int) -> bytes:
    """Write the answer that gives a gateway its sandbox's interception CA."""
    key_pem = private_key.reveal().decode("ascii")
    return orjson.dumps({"certificatePem": certificate_pem, "privateKeyPem": key_pem, "notAfter": not_after})


def key_pem(private_key: Secret) -> bytes:
    """Return a private key in PEM, for the library that issues a certificate with it."""
    return private_key.reveal()


def repeated_answer(answer: Secret) -> bytes:
    """Return a token answer that is given once more."""
    return answer.reveal()


def load_signing_key(private_key: Secret) -> Ed25519PrivateKey:
    """Return the key object of a stored signing key."""
    key = load_pem_private_key(private_key.reveal(), password=None)
    assert isinstance(key, Ed25519PrivateKey), "only such keys are sealed as signing keys"
    return key


def dump_signing_key(key: Ed25519PrivateKey) -> Secret:
    """Return a signing key as a secret to be sealed."""
    return Secret(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
