"""The trust a sandbox process is given: the CA alone, the system's roots with it, and the same for Java."""

import ssl
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import NoEncryption, pkcs12

from sallyport_cli.files import create_file, read_file

# Where distributions keep their roots in one file; OpenSSL's own default comes before these.
SYSTEM_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Alpine, Arch
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora, RHEL
    "/etc/ssl/ca-bundle.pem",  # openSUSE
    "/etc/ssl/cert.pem",  # macOS, BSD
)

NODE_PRELOAD = Path(__file__).with_name("node_proxy.cjs")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustFiles:
    """Paths for `sallyport.trust_env.variables`."""

    ca: Path
    bundle: Path
    java: Path
    node_preload: Path
    wgetrc: Path


def write_trust(directory: Path, ca_pem: bytes, environment: Mapping[str, str]) -> TrustFiles:
    """Write the files into a new folder. Without roots on this machine the bundle holds the CA alone."""
    files = TrustFiles(
        ca=directory / "ca.pem",
        bundle=directory / "bundle.pem",
        java=directory / "java.p12",
        node_preload=directory / "node-proxy.cjs",
        wgetrc=directory / "wgetrc",
    )
    source = system_bundle(environment)
    bundle = (read_file(source).rstrip() + b"\n" if source is not None else b"") + ca_pem
    create_file(files.ca, ca_pem, mode=0o644)
    create_file(files.bundle, bundle, mode=0o644)
    create_file(files.java, java_trust_store(bundle), mode=0o644)
    create_file(files.wgetrc, f"ca_certificate = {files.bundle}\n".encode(), mode=0o644)
    create_file(files.node_preload, read_file(NODE_PRELOAD), mode=0o644)
    return files


def system_bundle(environment: Mapping[str, str]) -> Path | None:
    """Return the file with the roots this machine trusts: the one it was told by SSL_CERT_FILE, or the system's."""
    named = environment.get("SSL_CERT_FILE")
    default = ssl.get_default_verify_paths().openssl_cafile
    for candidate in (named, default, *SYSTEM_BUNDLES):
        if candidate and Path(candidate).is_file():
            return Path(candidate)
    return None


def java_trust_store(bundle: bytes) -> bytes:
    """Return the certificates of a bundle as PKCS12 with the mark by which Java knows trusted ones.

    Without a password: there is nothing secret in it, and Java asks for none then.
    """
    certificates = []
    for number, pem in enumerate(_pem_blocks(bundle)):
        try:
            with warnings.catch_warnings(action="ignore"):  # old roots bend RFC 5280, and stay trusted
                certificate = x509.load_pem_x509_certificate(pem)
        except ValueError:
            continue  # one that a strict parser does not take; the others matter more
        certificates.append(pkcs12.PKCS12Certificate(certificate, f"root-{number}".encode()))
    return pkcs12.serialize_java_truststore(certificates, NoEncryption())


def _pem_blocks(bundle: bytes) -> list[bytes]:
    begin, end = b"-----BEGIN CERTIFICATE-----", b"-----END CERTIFICATE-----"
    return [begin + block.partition(end)[0] + end + b"\n" for block in bundle.split(begin)[1:]]
