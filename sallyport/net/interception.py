"""Where intercepted TLS ends: one authority per sandbox, one leaf per host, one server context per pair.

`CaStore` keeps each sandbox's authority in two files, so that every worker and restart issues under the same one;
`MemoryCa` is the authority of one process, whose key is never written. `CertificateAuthority` issues leaves (T4, A6).
`InterceptionContexts` turns a leaf into the context that a `TlsTransport` serves, and keeps it. Leaf keys exist in
memory alone.
"""

import contextlib
import datetime
import hashlib
import ipaddress
import os
import re
import ssl
import stat
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from sallyport.host import HostError, normalize_host
from sallyport.net.whole_file import offer_file, replace_file

_PRIVATE = 0o600
CA_VALIDITY = datetime.timedelta(days=30)
# Twice what renewal runs ahead; a shorter one would be renewed at every use.
_LEAST_VALIDITY = datetime.timedelta(days=2)
# Clocks of sandboxes run behind; a certificate of this very second would be refused there.
_BACKDATED_SECONDS = 3600.0
_LEAF_SECONDS = 12 * 3600.0
# Longer than a leaf lives, so that no leaf outlives its authority.
_RENEW_AHEAD_SECONDS = 24 * 3600.0
# What `MemoryCa` makes. Renewed while every leaf issued until then still ends before it does.
MEMORY_CA_VALIDITY = datetime.timedelta(hours=24)
_MEMORY_RENEW_AHEAD_SECONDS = 13 * 3600.0
# A context is made anew while its leaf still has this long to go, for the handshakes that just begin.
_REISSUE_AHEAD_SECONDS = 3600.0
# Authorities held in memory; each is a few kilobytes, and one that was dropped is read from its files again.
_MAX_AUTHORITIES = 4096
# RFC 5280 appendix A, ub-common-name.
_MAX_COMMON_NAME = 64

_SANDBOX_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")


class InterceptionError(Exception):
    """An authority cannot be used. Names the file and what to do about it; holds no key material."""

    def __init__(self, path: Path, problem: str, fix: str) -> None:
        super().__init__(f"{path}: {problem}; {fix}")
        self.path = path
        self.problem = problem
        self.fix = fix


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """A certificate for one host with its key, both PEM. Times are unix seconds."""

    certificate_pem: bytes
    key_pem: bytes
    not_before: float
    not_after: float

    def __repr__(self) -> str:
        return f"<Leaf until {self.not_after:.0f}>"


class CertificateAuthority:
    """Issue leaves for one sandbox. All of them share one key of their own, made in memory with this object."""

    __slots__ = ("_aki", "_certificate", "_key", "_leaf_key", "_leaf_key_pem", "_leaf_ski", "certificate_pem")

    def __init__(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self._certificate = certificate
        self._key = key
        self._aki = x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())
        self._leaf_key = ec.generate_private_key(ec.SECP256R1())
        self._leaf_key_pem = _key_pem(self._leaf_key)
        self._leaf_ski = x509.SubjectKeyIdentifier.from_public_key(self._leaf_key.public_key())
        self.certificate_pem = certificate.public_bytes(serialization.Encoding.PEM)

    def is_current(self, now: float, *, ahead_seconds: float = _RENEW_AHEAD_SECONDS) -> bool:
        """Say whether leaves issued now are good for their whole life."""
        begins_at = self._certificate.not_valid_before_utc.timestamp()
        ends_at = self._certificate.not_valid_after_utc.timestamp()
        return begins_at <= now < ends_at - ahead_seconds

    def issue(self, host: str, now: float) -> Leaf:
        """Issue a leaf for a normalised host (a name, or an address without brackets)."""
        not_before = now - _BACKDATED_SECONDS
        not_after = now + _LEAF_SECONDS
        # The SAN is what counts; the subject repeats it where it fits, for people who read certificates.
        subject = [x509.NameAttribute(NameOID.COMMON_NAME, host)] if len(host) <= _MAX_COMMON_NAME else []
        certificate = (
            x509.CertificateBuilder(
                issuer_name=self._certificate.subject,
                subject_name=x509.Name(subject),
                public_key=self._leaf_key.public_key(),
                serial_number=x509.random_serial_number(),
                not_valid_before=_utc(not_before),
                not_valid_after=_utc(not_after),
            )
            .add_extension(x509.SubjectAlternativeName([_general_name(host)]), critical=not subject)
            .add_extension(_NOT_A_CA, critical=True)
            .add_extension(_LEAF_USAGE, critical=True)
            .add_extension(_SERVER_AUTH, critical=False)
            .add_extension(self._leaf_ski, critical=False)
            .add_extension(self._aki, critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return Leaf(
            certificate_pem=certificate.public_bytes(serialization.Encoding.PEM),
            key_pem=self._leaf_key_pem,
            not_before=not_before,
            not_after=not_after,
        )

    def __repr__(self) -> str:
        return f"<CertificateAuthority {self._certificate.subject.rfc4514_string()}>"


class Authorities(Protocol):
    """Where the authority of a sandbox comes from."""

    def authority(self, sandbox_id: str, now: float) -> CertificateAuthority:
        """Give the sandbox's authority, made or renewed where needed; InterceptionError."""


class MemoryCa:
    """The authority of the one sandbox this process is in: its key is made here and never leaves this memory (T4).

    A renewal is a new certificate over the same key and name. So a program that read an older certificate goes on
    with it until that one expires, and whoever reads the newest one accepts the older leaves as well.
    """

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        # Named by its key: after a restart there is another one, and trust stores confuse two of the same name.
        key_id = x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()).digest.hex()
        self._name = f"Sallyport CA of this sandbox {key_id[:16]}"
        self._authority: CertificateAuthority | None = None

    def authority(self, sandbox_id: str, now: float) -> CertificateAuthority:
        """Give the authority, renewed where needed. The id is not looked at: there is one sandbox."""
        known = self._authority
        if known is None or not known.is_current(now, ahead_seconds=_MEMORY_RENEW_AHEAD_SECONDS):
            certificate = _authority_certificate(self._name, self._key, MEMORY_CA_VALIDITY, now)
            self._authority = known = CertificateAuthority(certificate, self._key)
        return known

    def __repr__(self) -> str:
        return f"<MemoryCa {self._name}>"


def make_authority_key() -> bytes:
    """Make the key of a new authority, in PEM."""
    return _key_pem(ec.generate_private_key(ec.SECP256R1()))


def certify_authority(sandbox_id: str, key_pem: bytes, now: float) -> tuple[bytes, float]:
    """Make a certificate of a sandbox's authority over its key; return it in PEM with the instant it ends."""
    key = serialization.load_pem_private_key(key_pem, password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey), "make_authority_key made it"
    certificate = _authority_certificate(_authority_name(sandbox_id), key, CA_VALIDITY, now)
    return certificate.public_bytes(serialization.Encoding.PEM), certificate.not_valid_after_utc.timestamp()


def parse_authority(certificate_pem: bytes, key_pem: bytes, sandbox_id: str) -> CertificateAuthority:
    """Make a sandbox's authority of two PEM documents; ValueError, whose text holds nothing of them."""
    try:
        key = serialization.load_pem_private_key(key_pem, password=None)
        certificate = x509.load_pem_x509_certificate(certificate_pem)
        certified = certificate.public_key()
        is_ca = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (ValueError, TypeError, x509.ExtensionNotFound, x509.DuplicateExtension, UnsupportedAlgorithm):
        raise ValueError("not a private key and the certificate of an authority in PEM") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not is_ca:
        raise ValueError("not an elliptic-curve key, or not the certificate of an authority")
    if certified != key.public_key():
        raise ValueError("the certificate is not the key's")
    if not _is_named(certificate, sandbox_id):
        raise ValueError("it is another sandbox's authority")
    return CertificateAuthority(certificate, key)


def _is_named(certificate: x509.Certificate, sandbox_id: str) -> bool:
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return [name.value for name in names] == [_authority_name(sandbox_id)]


class CaStore:
    """Keep one authority per sandbox as `<sandboxId>.pem` and `<sandboxId>.key` (both 0600) in a directory (0700).

    Always: the key file decides, and is never replaced; any certificate over that key will do. So processes that
    make or renew an authority at the same moment agree whoever comes last, and a sandbox that read the certificate
    before a renewal can go on with it until it expires.
    """

    def __init__(self, ca_dir: Path, *, validity: datetime.timedelta = CA_VALIDITY) -> None:
        if validity < _LEAST_VALIDITY:
            raise ValueError(f"an authority is valid for at least {_LEAST_VALIDITY.days} days")
        self._ca_dir = ca_dir
        self._validity = validity
        self._known: dict[str, CertificateAuthority] = {}

    def authority(self, sandbox_id: str, now: float) -> CertificateAuthority:
        """Give the sandbox's authority, made or renewed where needed; InterceptionError. Reads files the first time."""
        known = self._known.get(sandbox_id)
        if known is not None and known.is_current(now):
            return known
        authority = self._load_or_make(sandbox_id, now)
        self._known.pop(sandbox_id, None)
        while len(self._known) >= _MAX_AUTHORITIES:
            del self._known[next(iter(self._known))]
        self._known[sandbox_id] = authority
        return authority

    def _load_or_make(self, sandbox_id: str, now: float) -> CertificateAuthority:
        if not _SANDBOX_ID.fullmatch(sandbox_id):
            raise InterceptionError(self._ca_dir, "no file is made for this sandbox id", "use letters, digits, '._-'")
        certificate_path = self._ca_dir / f"{sandbox_id}.pem"
        key_path = self._ca_dir / f"{sandbox_id}.key"
        try:
            self._ensure_directory()
            if not key_path.exists():
                offer_file(key_path, _key_pem(ec.generate_private_key(ec.SECP256R1())), mode=_PRIVATE)
            key = _load_key(key_path)
            if not certificate_path.exists():
                offer_file(certificate_path, self._certificate_pem(sandbox_id, key, now), mode=_PRIVATE)
            authority = CertificateAuthority(_load_certificate(certificate_path, sandbox_id, key), key)
            if not authority.is_current(now):
                replace_file(certificate_path, self._certificate_pem(sandbox_id, key, now), mode=_PRIVATE)
                authority = CertificateAuthority(_load_certificate(certificate_path, sandbox_id, key), key)
            return authority
        except OSError as error:
            at = Path(error.filename) if isinstance(error.filename, str) else self._ca_dir
            raise InterceptionError(
                at, error.strerror or str(error), "this process must be able to read and write there"
            ) from None

    def _ensure_directory(self) -> None:
        self._ca_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        if stat.S_IMODE(self._ca_dir.stat().st_mode) & 0o022:
            raise InterceptionError(self._ca_dir, "others may replace authorities in it", "chmod 700 it")

    def _certificate_pem(self, sandbox_id: str, key: ec.EllipticCurvePrivateKey, now: float) -> bytes:
        certificate = _authority_certificate(_authority_name(sandbox_id), key, self._validity, now)
        return certificate.public_bytes(serialization.Encoding.PEM)

    def __repr__(self) -> str:
        return f"<CaStore {self._ca_dir}: {len(self._known)} authorities in memory>"


class InterceptionContexts:
    """Keep the server context of each (sandbox, host) that was used lately, and make those that are missing."""

    def __init__(self, store: Authorities, *, max_contexts: int = 1024) -> None:
        self._store = store
        self._max_contexts = max_contexts
        # Least recently used first: (context, usable from, usable until).
        self._known: dict[tuple[str, str], tuple[ssl.SSLContext, float, float]] = {}

    def server_context(self, sandbox_id: str, host: str, now: float) -> ssl.SSLContext:
        """Give the context that answers for a normalised host; InterceptionError. Costs about a millisecond when new.

        A client that asks for another name by SNI gets the alert unrecognized_name; one that asks for none means
        this host. Clients that offer no http/1.1 by ALPN are the caller's to refuse: OpenSSL goes on without it.
        """
        key = (sandbox_id, host)
        known = self._known.pop(key, None)
        if known is None or not known[1] <= now < known[2]:
            leaf = self._store.authority(sandbox_id, now).issue(host, now)
            known = (_server_context(leaf, host), leaf.not_before, leaf.not_after - _REISSUE_AHEAD_SECONDS)
            while len(self._known) >= self._max_contexts:
                del self._known[next(iter(self._known))]
        self._known[key] = known
        return known[0]

    def __repr__(self) -> str:
        return f"<InterceptionContexts: {len(self._known)} of {self._max_contexts}>"


def _server_context(leaf: Leaf, host: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    with _as_file(leaf.certificate_pem + leaf.key_pem) as path:
        context.load_cert_chain(path)

    def check_name(_object: ssl.SSLObject, name: str | None, _context: ssl.SSLContext) -> int | None:
        if name is None or name == host:
            return None
        try:
            return None if normalize_host(name) == host else ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
        except HostError:
            return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME

    context.sni_callback = check_name
    return context


@contextlib.contextmanager
def _as_file(content: bytes) -> Iterator[str]:
    """Give a path to read `content` from, which is all `load_cert_chain` takes; in memory where the system can."""
    if sys.platform == "linux":
        descriptor = os.memfd_create("sallyport-leaf", os.MFD_CLOEXEC)
        try:
            os.write(descriptor, content)
            yield f"/proc/self/fd/{descriptor}"
        finally:
            os.close(descriptor)
    else:
        with tempfile.NamedTemporaryFile() as file:  # 0600
            file.write(content)
            file.flush()
            yield file.name


# Reading what lies in the directory


def _load_key(path: Path) -> ec.EllipticCurvePrivateKey:
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise InterceptionError(path, "others may read this private key", "chmod 600 it")
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise InterceptionError(path, "not an elliptic-curve private key in PEM without a password", _START_AFRESH)
    return key


def _load_certificate(path: Path, sandbox_id: str, key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        name = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
    except (ValueError, IndexError, x509.ExtensionNotFound, x509.DuplicateExtension, UnsupportedAlgorithm):
        raise InterceptionError(path, "not the certificate of an authority in PEM", _START_AFRESH) from None
    if not constraints.ca:
        raise InterceptionError(path, "the certificate is not an authority's", _START_AFRESH)
    if certificate.public_key() != key.public_key():
        raise InterceptionError(path, f"it does not belong to {path.stem}.key", _START_AFRESH)
    if name != _authority_name(sandbox_id):
        raise InterceptionError(path, f"it is the authority {name!r} and not this sandbox's", _START_AFRESH)
    return certificate


_START_AFRESH = "put the right file back, or remove both the .pem and the .key and a new authority is made"


# What certificates hold


def _authority_name(sandbox_id: str) -> str:
    name = f"Sallyport CA for {sandbox_id}"
    if len(name) <= _MAX_COMMON_NAME:
        return name
    digest = hashlib.sha256(sandbox_id.encode("ascii")).hexdigest()[:16]
    return f"{name[: _MAX_COMMON_NAME - 17]}~{digest}"


def _authority_certificate(
    name: str, key: ec.EllipticCurvePrivateKey, validity: datetime.timedelta, now: float
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    return (
        x509.CertificateBuilder(
            issuer_name=subject,
            subject_name=subject,
            public_key=key.public_key(),
            serial_number=x509.random_serial_number(),
            not_valid_before=_utc(now - _BACKDATED_SECONDS),
            not_valid_after=_utc(now) + validity,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_CA_USAGE, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _utc(seconds: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _key_usage(*, digital_signature: bool, certificate_signing: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=certificate_signing,
        crl_sign=certificate_signing,
        encipher_only=False,
        decipher_only=False,
    )


_CA_USAGE = _key_usage(digital_signature=False, certificate_signing=True)
_LEAF_USAGE = _key_usage(digital_signature=True, certificate_signing=False)
_NOT_A_CA = x509.BasicConstraints(ca=False, path_length=None)
_SERVER_AUTH = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
