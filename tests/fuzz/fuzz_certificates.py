"""Keys and certificates in PEM, as they come from files and from the control plane.

The first byte of the input says what the rest is: a public key (0), the certificate beside a good key (1), the key
beside a good certificate (2), each as the bytes inside the PEM; or the PEM text itself (3 and above, by the same
order). Allowed outcomes:
- KeySet.from_public_key_pem: a set of one key, or KeySetError;
- parse_authority: ValueError that quotes nothing; an authority whose leaf is signed by its key.
"""

import base64

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from gateway.keys import KeySet, KeySetError
from sallyport.net.interception import certify_authority, parse_authority
from tests.support.fuzzing import run
from tests.support.signed_tokens import EC_KEY, KEY, RSA_KEY, pem

NOW = 1_800_000_000.0
PRIVATE_KEY = EC_KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
CERTIFICATE, _ = certify_authority("sbx_one", PRIVATE_KEY, NOW)
KINDS = (b"PUBLIC KEY", b"CERTIFICATE", b"PRIVATE KEY")


def inside(document: bytes) -> bytes:
    """Take the bytes out of one PEM block."""
    return base64.b64decode(b"".join(document.splitlines()[1:-1]))


SEEDS = (
    b"\x00" + inside(pem(KEY.public_key())),
    b"\x00" + inside(pem(EC_KEY.public_key())),
    b"\x00" + inside(pem(RSA_KEY)),
    b"\x01" + inside(CERTIFICATE),
    b"\x02" + inside(PRIVATE_KEY),
    b"\x03" + pem(KEY.public_key()),
    b"\x04" + CERTIFICATE,
    b"\x05" + PRIVATE_KEY,
)


def check(data: bytes) -> None:
    """Check one input."""
    kind, content = (data[0] if data else 0), data[1:]
    document = content if kind >= len(KINDS) else in_pem(KINDS[kind], content)
    match kind % len(KINDS):
        case 0:
            try:
                assert isinstance(KeySet.from_public_key_pem(document), KeySet)
            except KeySetError:
                pass
        case 1:
            check_authority(document, PRIVATE_KEY)
        case _:
            check_authority(CERTIFICATE, document)


def in_pem(kind: bytes, content: bytes) -> bytes:
    """Write one PEM block."""
    return b"-----BEGIN %b-----\n%b-----END %b-----\n" % (kind, base64.encodebytes(content), kind)


def check_authority(certificate: bytes, key: bytes) -> None:
    """It is refused, or it can issue."""
    try:
        authority = parse_authority(certificate, key, "sbx_one")
    except ValueError as error:
        assert str(error).startswith(("not ", "the certificate is not"))
        return
    leaf = authority.issue("api.test", NOW)
    issued = x509.load_pem_x509_certificate(leaf.certificate_pem)
    issued.verify_directly_issued_by(x509.load_pem_x509_certificate(authority.certificate_pem))
    assert issued.public_bytes(Encoding.DER)


if __name__ == "__main__":
    run(check, SEEDS)
