"""The trust a sandbox process is given: the CA alone, the system's roots with it, and the same for Java."""

import ssl
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import NoEncryption, pkcs12

from sallyport.net.whole_file import replace_file

# Where distributions keep their roots in one file; OpenSSL's own default comes before these.
SYSTEM_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Alpine, Arch
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora, RHEL
    "/etc/ssl/ca-bundle.pem",  # openSUSE
    "/etc/ssl/cert.pem",  # macOS, BSD
)

NODE_PRELOAD = Path(__file__).with_name("node_proxy.cjs")
# Anyone in the sandbox may read them: nothing in them is secret.
_READABLE = 0o644


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustFiles:
    """Paths for `sallyport.trust_env.variables`."""

    ca: Path
    bundle: Path
    java: Path
    node_preload: Path
    wgetrc: Path


def trust_files(directory: Path) -> TrustFiles:
    """Say what the files of a directory are called."""
    return TrustFiles(
        ca=directory / "ca.pem",
        bundle=directory / "bundle.pem",
        java=directory / "java.p12",
        node_preload=directory / "node-proxy.cjs",
        wgetrc=directory / "wgetrc",
    )


def write_trust(directory: Path, ca_pem: bytes, environment: Mapping[str, str]) -> TrustFiles:
    """Write or replace the files, each at once; OSError. Without roots on this machine the bundle is the CA alone.

    `environment` may name the machine's roots by SSL_CERT_FILE. `ca_pem` may hold several certificates.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    files = trust_files(directory)
    source = system_bundle(environment, besides=files.bundle)
    bundle = (source.read_bytes().rstrip() + b"\n" if source is not None else b"") + ca_pem
    replace_file(files.bundle, bundle, mode=_READABLE)
    replace_file(files.java, java_trust_store(bundle), mode=_READABLE)
    replace_file(files.wgetrc, f"ca_certificate = {files.bundle}\n".encode(), mode=_READABLE)
    replace_file(files.node_preload, NODE_PRELOAD.read_bytes(), mode=_READABLE)
    replace_file(files.ca, ca_pem, mode=_READABLE)  # last: who waits for it finds the others too
    return files


def system_bundle(environment: Mapping[str, str], besides: Path | None = None) -> Path | None:
    """Return the file with the roots this machine trusts: the one it was told by SSL_CERT_FILE, or the system's.

    Never `besides`, which is made out of it: a part that was started with our own variables must not read its own
    bundle back, with authorities in it that are long gone.
    """
    named = environment.get("SSL_CERT_FILE")
    default = ssl.get_default_verify_paths().openssl_cafile
    for candidate in (named, default, *SYSTEM_BUNDLES):
        if candidate and Path(candidate).is_file() and not (besides and _is_same(Path(candidate), besides)):
            return Path(candidate)
    return None


def _is_same(one: Path, other: Path) -> bool:
    return other.exists() and one.samefile(other)


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
