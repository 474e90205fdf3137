"""The only places where a stored secret leaves its `Secret`: a resolve answer, a signature's key, a gateway's CA."""

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


def aws_session_answer(
    access_key_id: str, secret_access_key: Secret, session_token: Secret, *, version: str, expires_at: int
) -> bytes:
    """Write the 200 answer of a resolution whose credential are temporary keys of AWS (contracts section 4)."""
    answer = {
        "kind": "aws_session",
        "accessKeyId": access_key_id,
        "secretAccessKey": secret_access_key.reveal().decode("utf-8"),
        "sessionToken": session_token.reveal().decode("utf-8"),
        "expiresAt": expires_at,
        "version": version,
    }
    return orjson.dumps(answer)


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
