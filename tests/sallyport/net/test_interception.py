import asyncio
import base64
import datetime
import os
import shutil
import ssl
import stat
import threading
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from sallyport.net.interception import (
    CaStore,
    CertificateAuthority,
    InterceptionContexts,
    InterceptionError,
    MemoryCa,
    parse_authority,
)
from tests.support.transports import End, Handshake

NOW = datetime.datetime.now(datetime.UTC).timestamp()
HOUR = 3600.0
DAY = 24 * HOUR


@pytest.fixture
def ca_dir(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "ca"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> CertificateAuthority:
    return CaStore(Path(tmp_path_factory.mktemp("ca")) / "ca").authority("sbx_1", NOW)


def client_of(ca_pem: bytes) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=ca_pem.decode("ascii"))
    assert context.verify_flags & ssl.VERIFY_X509_STRICT  # Python's default since 3.13
    return context


def shake(client: ssl.SSLContext, server: ssl.SSLContext, server_hostname: str | None) -> ssl.SSLObject:
    """Run a handshake in memory and give the client's side, or raise what the client meets."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname=server_hostname),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    server_error: ssl.SSLError | None = None
    for _ in range(4):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLError as error:
                if end is ends[0]:
                    raise
                server_error = error
    assert server_error is None
    return ends[0]


# Leaves


@pytest.mark.parametrize("host", ["api.example.com", "a_b.example.com", "192.0.2.7", "2001:db8::7", "a" * 60 + ".test"])
def test_leaf_validates_strictly_for_its_host_alone_t4(host: str, ca_dir: Path) -> None:
    store = CaStore(ca_dir)
    server = InterceptionContexts(store).server_context("sbx_1", host, NOW)
    client = client_of(store.authority("sbx_1", NOW).certificate_pem)
    assert shake(client, server, host).version() == "TLSv1.3"
    with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
        shake(client, server, "192.0.2.8")  # an address sends no name, so the certificate alone decides


def test_leaf_says_what_it_must_and_no_more_t4_a6(authority: CertificateAuthority) -> None:
    leaf = x509.load_pem_x509_certificate(authority.issue("api.example.com", NOW).certificate_pem)
    ca = x509.load_pem_x509_certificate(authority.certificate_pem)
    assert leaf.not_valid_before_utc.timestamp() == int(NOW - HOUR)
    assert leaf.not_valid_after_utc.timestamp() == int(NOW + 12 * HOUR)
    values = {type(extension.value): extension.value for extension in leaf.extensions}
    assert set(values) == {
        x509.SubjectAlternativeName,
        x509.BasicConstraints,
        x509.KeyUsage,
        x509.ExtendedKeyUsage,
        x509.SubjectKeyIdentifier,
        x509.AuthorityKeyIdentifier,
    }
    assert values[x509.SubjectAlternativeName] == x509.SubjectAlternativeName([x509.DNSName("api.example.com")])
    assert values[x509.ExtendedKeyUsage] == x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    assert values[x509.BasicConstraints] == x509.BasicConstraints(ca=False, path_length=None)
    public_key = leaf.public_key()
    assert isinstance(public_key, ec.EllipticCurvePublicKey)
    assert isinstance(public_key.curve, ec.SECP256R1)
    assert public_key != ca.public_key()
    leaf.verify_directly_issued_by(ca)


def test_leaf_for_an_address_names_the_address(authority: CertificateAuthority) -> None:
    leaf = x509.load_pem_x509_certificate(authority.issue("2001:db8::7", NOW).certificate_pem)
    san = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert san == x509.SubjectAlternativeName([x509.IPAddress(ip_address("2001:db8::7"))])


def test_serials_are_random_t4(authority: CertificateAuthority) -> None:
    serials = {
        x509.load_pem_x509_certificate(authority.issue("a.test", NOW).certificate_pem).serial_number for _ in range(8)
    }
    assert len(serials) == 8
    assert max(serials).bit_length() > 128


def test_no_key_in_any_repr(authority: CertificateAuthority, ca_dir: Path) -> None:
    store = CaStore(ca_dir)
    leaf = authority.issue("a.test", NOW)
    for value in (authority, leaf, store, InterceptionContexts(store)):
        assert repr(value).startswith("<")
        assert "PRIVATE" not in repr(value)


# The authority's certificate and its files


def test_authority_is_named_and_cannot_make_others(authority: CertificateAuthority) -> None:
    ca = x509.load_pem_x509_certificate(authority.certificate_pem)
    assert ca.subject.rfc4514_string() == "CN=Sallyport CA for sbx_1"
    constraints = ca.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (constraints.value, constraints.critical) == (x509.BasicConstraints(ca=True, path_length=0), True)
    usage = ca.extensions.get_extension_for_class(x509.KeyUsage).value
    assert (usage.key_cert_sign, usage.digital_signature) == (True, False)
    assert ca.not_valid_after_utc.timestamp() == int(NOW + 30 * DAY)


def test_long_sandbox_ids_get_different_names_of_legal_length(ca_dir: Path) -> None:
    store = CaStore(ca_dir)
    names = set()
    for sandbox_id in ("x" * 127 + "a", "x" * 127 + "b"):
        ca = x509.load_pem_x509_certificate(store.authority(sandbox_id, NOW).certificate_pem)
        names.add(str(ca.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value))
    assert {len(name) for name in names} == {64}
    assert len(names) == 2


def test_files_are_private_and_a_second_store_reads_them(ca_dir: Path) -> None:
    made = CaStore(ca_dir).authority("sbx_1", NOW)
    assert stat.S_IMODE(ca_dir.stat().st_mode) == 0o700
    assert sorted(path.name for path in ca_dir.iterdir()) == ["sbx_1.key", "sbx_1.pem"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in ca_dir.iterdir()} == {0o600}
    assert CaStore(ca_dir).authority("sbx_1", NOW).certificate_pem == made.certificate_pem
    assert (ca_dir / "sbx_1.pem").read_bytes() == made.certificate_pem


def test_stores_that_race_agree(ca_dir: Path) -> None:
    barrier = threading.Barrier(8)
    made: list[bytes] = []

    def make() -> None:
        barrier.wait(5)
        made.append(CaStore(ca_dir).authority("sbx_1", NOW).certificate_pem)

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 8
    assert len(set(made)) == 1
    assert len(list(ca_dir.iterdir())) == 2


def test_key_left_alone_by_a_crash_gets_its_certificate(ca_dir: Path) -> None:
    first = CaStore(ca_dir).authority("sbx_1", NOW)
    (ca_dir / "sbx_1.pem").unlink()
    second = CaStore(ca_dir).authority("sbx_1", NOW)
    assert first.certificate_pem != second.certificate_pem
    keys = [x509.load_pem_x509_certificate(made.certificate_pem).public_key() for made in (first, second)]
    assert keys[0] == keys[1]


def test_authority_is_renewed_a_day_ahead_and_old_trust_goes_on(ca_dir: Path) -> None:
    store = CaStore(ca_dir)
    first = store.authority("sbx_1", NOW)
    assert store.authority("sbx_1", NOW + 29 * DAY - 1) is first
    renewed = store.authority("sbx_1", NOW + 29 * DAY)
    assert renewed.certificate_pem != first.certificate_pem
    assert CaStore(ca_dir).authority("sbx_1", NOW + 29 * DAY).certificate_pem == renewed.certificate_pem
    leaf = x509.load_pem_x509_certificate(renewed.issue("a.test", NOW + 29 * DAY).certificate_pem)
    leaf.verify_directly_issued_by(x509.load_pem_x509_certificate(first.certificate_pem))


def test_each_sandbox_has_its_own_authority_t1(ca_dir: Path) -> None:
    store = CaStore(ca_dir)
    server = InterceptionContexts(store).server_context("sbx_1", "a.test", NOW)
    with pytest.raises(ssl.SSLCertVerificationError):
        shake(client_of(store.authority("sbx_2", NOW).certificate_pem), server, "a.test")


@pytest.mark.parametrize(
    "sandbox_id", ["", ".", "..", "../x", "a/b", "/etc/x", "a\0b", "a\n", "-x", ".new-1", "ä", "a" * 129, "a\\b"]
)
def test_sandbox_id_that_is_no_file_name_is_refused(sandbox_id: str, ca_dir: Path) -> None:
    with pytest.raises(InterceptionError):
        CaStore(ca_dir).authority(sandbox_id, NOW)
    assert not ca_dir.exists()


def _pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _self_signed(key: ec.EllipticCurvePrivateKey, *, ca: bool, name: str = "Sallyport CA for sbx_1") -> bytes:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.fromtimestamp(NOW, datetime.UTC)
    builder = x509.CertificateBuilder(
        subject, subject, key.public_key(), 1, now - datetime.timedelta(days=1), now + datetime.timedelta(days=9)
    )
    certificate = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True).sign(
        key, hashes.SHA256()
    )
    return certificate.public_bytes(serialization.Encoding.PEM)


OTHER_KEY = ec.generate_private_key(ec.SECP256R1())


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("sbx_1.key", b"", "not an elliptic-curve private key"),
        ("sbx_1.key", b"\xff not PEM", "not an elliptic-curve private key"),
        ("sbx_1.key", _pem(rsa.generate_private_key(65537, 2048)), "not an elliptic-curve private key"),
        ("sbx_1.key", _pem(OTHER_KEY), r"does not belong to sbx_1\.key"),
        ("sbx_1.pem", b"garbage", "not the certificate of an authority"),
        ("sbx_1.pem", _self_signed(OTHER_KEY, ca=True), r"does not belong to sbx_1\.key"),
        ("sbx_1.pem", _self_signed(OTHER_KEY, ca=False), "not an authority's"),
    ],
)
def test_wrong_file_is_named_with_the_way_to_repair_it(file: str, content: bytes, words: str, ca_dir: Path) -> None:
    CaStore(ca_dir).authority("sbx_1", NOW)
    (ca_dir / file).write_bytes(content)
    with pytest.raises(InterceptionError, match=words) as caught:
        CaStore(ca_dir).authority("sbx_1", NOW)
    assert caught.value.path.parent == ca_dir
    assert str(caught.value.path) in str(caught.value)
    assert "remove both" in caught.value.fix
    assert "PRIVATE KEY" not in str(caught.value)


def test_certificate_of_another_sandbox_is_refused(ca_dir: Path) -> None:
    CaStore(ca_dir).authority("sbx_1", NOW)
    (ca_dir / "sbx_1.key").write_bytes(_pem(OTHER_KEY))
    (ca_dir / "sbx_1.pem").write_bytes(_self_signed(OTHER_KEY, ca=True, name="Sallyport CA for sbx_2"))
    with pytest.raises(InterceptionError, match="not this sandbox's"):
        CaStore(ca_dir).authority("sbx_1", NOW)


def test_key_or_directory_open_to_others_is_refused(ca_dir: Path) -> None:
    CaStore(ca_dir).authority("sbx_1", NOW)
    (ca_dir / "sbx_1.key").chmod(0o640)
    with pytest.raises(InterceptionError, match="others may read this private key; chmod 600 it"):
        CaStore(ca_dir).authority("sbx_1", NOW)
    (ca_dir / "sbx_1.key").chmod(0o600)
    ca_dir.chmod(0o770)
    with pytest.raises(InterceptionError, match="chmod 700 it"):
        CaStore(ca_dir).authority("sbx_1", NOW)


def test_directory_that_cannot_be_one_is_named(tmp_path: Path) -> None:
    (tmp_path / "ca").write_text("a file")
    with pytest.raises(InterceptionError, match="must be able to read and write there") as caught:
        CaStore(tmp_path / "ca").authority("sbx_1", NOW)
    assert caught.value.path == tmp_path / "ca"


def test_validity_too_short_to_issue_under_is_refused(ca_dir: Path) -> None:
    with pytest.raises(ValueError, match="at least 2 days"):
        CaStore(ca_dir, validity=datetime.timedelta(days=1))


# Contexts


def test_contexts_are_kept_and_bounded_by_last_use(ca_dir: Path) -> None:
    contexts = InterceptionContexts(CaStore(ca_dir), max_contexts=2)
    a, b = (contexts.server_context("sbx_1", host, NOW) for host in ("a.test", "b.test"))
    assert contexts.server_context("sbx_1", "a.test", NOW) is a
    c = contexts.server_context("sbx_2", "a.test", NOW)  # the sandbox is part of the key; this drops b.test
    assert c is not a
    assert repr(contexts) == "<InterceptionContexts: 2 of 2>"
    assert contexts.server_context("sbx_1", "a.test", NOW) is a
    assert contexts.server_context("sbx_1", "b.test", NOW) is not b


def test_context_is_made_anew_before_its_leaf_expires_and_when_the_clock_jumps_t5(ca_dir: Path) -> None:
    contexts = InterceptionContexts(CaStore(ca_dir))
    first = contexts.server_context("sbx_1", "a.test", NOW)
    assert contexts.server_context("sbx_1", "a.test", NOW + 11 * HOUR - 1) is first
    second = contexts.server_context("sbx_1", "a.test", NOW + 11 * HOUR)
    assert second is not first
    assert contexts.server_context("sbx_1", "a.test", NOW + 10 * HOUR) is second
    assert contexts.server_context("sbx_1", "a.test", NOW + 9 * HOUR) is not second  # not valid yet at that time


@pytest.fixture(scope="module")
def contexts_and_client(tmp_path_factory: pytest.TempPathFactory) -> tuple[InterceptionContexts, ssl.SSLContext]:
    store = CaStore(Path(tmp_path_factory.mktemp("ca")) / "ca")
    client = client_of(store.authority("sbx_1", NOW).certificate_pem)
    client.check_hostname = False  # what the server says to the name is the question
    return InterceptionContexts(store), client


@pytest.mark.parametrize("name", ["api.example.com", "API.Example.COM", "api.example.com.", None])
def test_name_asked_for_or_none_is_served_a1(
    name: str | None, contexts_and_client: tuple[InterceptionContexts, ssl.SSLContext]
) -> None:
    contexts, client = contexts_and_client
    server = contexts.server_context("sbx_1", "api.example.com", NOW)
    client.set_alpn_protocols(["h2", "http/1.1"])
    tls = shake(client, server, name)
    assert tls.selected_alpn_protocol() == "http/1.1"


@pytest.mark.parametrize("name", ["evil.test", "api.example.com.evil.test", "evilapi.example.com", "b@c"])
def test_wrong_name_gets_the_alert_a1_h2(
    name: str, contexts_and_client: tuple[InterceptionContexts, ssl.SSLContext]
) -> None:
    contexts, client = contexts_and_client
    server = contexts.server_context("sbx_1", "api.example.com", NOW)
    with pytest.raises(ssl.SSLError, match="unrecognized name"):
        shake(client, server, name)


def test_tls_below_1_2_is_not_spoken(ca_dir: Path) -> None:
    context = InterceptionContexts(CaStore(ca_dir)).server_context("sbx_1", "a.test", NOW)
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.options & ssl.OP_NO_RENEGOTIATION


# Real programs


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
@pytest.mark.parametrize("host", ["a.test", "192.0.2.7"])
async def test_openssl_verifies_the_chain_strictly(host: str, ca_dir: Path) -> None:
    authority = CaStore(ca_dir).authority("sbx_1", NOW)
    (ca_dir / "leaf.pem").write_bytes(authority.issue(host, NOW).certificate_pem)
    name = ("-verify_ip", host) if host[0].isdigit() else ("-verify_hostname", host)
    process = await asyncio.create_subprocess_exec(
        *("openssl", "verify", "-x509_strict", "-purpose", "sslserver", *name),
        *("-CAfile", str(ca_dir / "sbx_1.pem"), str(ca_dir / "leaf.pem")),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert (process.returncode, output.endswith(b"OK\n")) == (0, True), output


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
async def test_curl_trusts_an_intercepted_host(ca_dir: Path) -> None:
    context = InterceptionContexts(CaStore(ca_dir)).server_context("sbx_1", "api.example.com", NOW)

    def answer(end: End) -> None:
        if end.received.endswith(b"\r\n\r\n"):
            end.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")

    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: Handshake(End(on_data=answer), context, server_side=True).lower, "127.0.0.1", 0
    )
    port = server.sockets[0].getsockname()[1]
    process = await asyncio.create_subprocess_exec(
        *("curl", "-sS", "--noproxy", "*", "--cacert", str(ca_dir / "sbx_1.pem")),
        *("--connect-to", f"api.example.com:443:127.0.0.1:{port}", "https://api.example.com/"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={"PATH": os.environ["PATH"]},
    )
    output, errors = await process.communicate()
    assert (output, errors) == (b"hello", b"")
    server.close()


# ---- the authority of one process


def test_t4_the_authority_in_memory_lives_a_day_and_says_so() -> None:
    ca = MemoryCa()
    certificate = x509.load_pem_x509_certificate(ca.authority("", NOW).certificate_pem)
    assert certificate.not_valid_after_utc.timestamp() == pytest.approx(NOW + DAY, abs=1)
    assert certificate.not_valid_before_utc.timestamp() == pytest.approx(NOW - HOUR, abs=1)
    key = certificate.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert isinstance(key.curve, ec.SECP256R1)
    assert MemoryCa().authority("", NOW).certificate_pem != ca.authority("", NOW).certificate_pem


def test_t4_renewal_in_memory_keeps_what_was_issued_before() -> None:
    ca = MemoryCa()
    first = ca.authority("", NOW - 12 * HOUR)
    assert ca.authority("", NOW - 2 * HOUR) is first
    renewed = ca.authority("", NOW)
    assert renewed.certificate_pem != first.certificate_pem
    # Whoever read either certificate accepts leaves of both, so no running program notices the renewal.
    for trusted in (first, renewed):
        for issuing in (first, renewed):
            contexts = InterceptionContexts(_Fixed(issuing))
            shake(client_of(trusted.certificate_pem), contexts.server_context("", "api.test", NOW), "api.test")


def test_t4_no_leaf_outlives_the_authority_in_memory() -> None:
    ca = MemoryCa()
    for hour in range(0, 60, 3):
        now = NOW + hour * HOUR
        authority = ca.authority("", now)
        ends_at = x509.load_pem_x509_certificate(authority.certificate_pem).not_valid_after_utc.timestamp()
        assert authority.issue("api.test", now).not_after <= ends_at


def test_a_clock_that_was_set_back_makes_another_certificate() -> None:
    ca = MemoryCa()
    ca.authority("", NOW)
    earlier = x509.load_pem_x509_certificate(ca.authority("", NOW - DAY).certificate_pem)
    assert earlier.not_valid_before_utc.timestamp() < NOW - DAY


def pem_of(authority_dir: Path, sandbox_id: str = "sbx_1") -> tuple[bytes, bytes]:
    CaStore(authority_dir).authority(sandbox_id, NOW)
    return (authority_dir / f"{sandbox_id}.pem").read_bytes(), (authority_dir / f"{sandbox_id}.key").read_bytes()


def test_an_authority_is_made_of_its_documents(tmp_path: Path) -> None:
    certificate, key = pem_of(tmp_path)
    authority = parse_authority(certificate, key, "sbx_1")
    assert authority.certificate_pem == certificate
    contexts = InterceptionContexts(_Fixed(authority))
    shake(client_of(certificate), contexts.server_context("", "api.test", NOW), "api.test")


def test_documents_that_make_no_authority(tmp_path: Path) -> None:
    certificate, key = pem_of(tmp_path / "one")
    _, other = pem_of(tmp_path / "two")
    leaf = parse_authority(certificate, key, "sbx_1").issue("api.test", NOW)
    rsa_key = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    # The identifier of an algorithm that nobody knows, in the place of the one for elliptic curves.
    unknown = x509.load_pem_x509_certificate(certificate).public_bytes(serialization.Encoding.DER)
    unknown = unknown.replace(bytes.fromhex("2a8648ce3d0201"), bytes.fromhex("2a8648ce3d027f"))
    unknown = b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(unknown) + b"-----END CERTIFICATE-----\n"
    with pytest.raises(ValueError, match="not a private key and the certificate"):
        parse_authority(unknown, key, "sbx_1")
    for wrong in ((b"", b""), (certificate, b"canary"), (b"canary", key), (certificate, other), (certificate, rsa_key)):
        with pytest.raises(ValueError, match=r"^(not |the certificate is not)") as caught:
            parse_authority(*wrong, "sbx_1")
        assert "canary" not in str(caught.value)
    with pytest.raises(ValueError, match="not the certificate of an authority"):
        parse_authority(leaf.certificate_pem, leaf.key_pem, "sbx_1")


def test_t1_an_authority_is_its_own_sandbox_s(tmp_path: Path) -> None:
    certificate, key = pem_of(tmp_path)
    with pytest.raises(ValueError, match="another sandbox's authority"):
        parse_authority(certificate, key, "sbx_2")


class _Fixed:
    def __init__(self, authority: CertificateAuthority) -> None:
        self._authority = authority

    def authority(self, sandbox_id: str, now: float) -> CertificateAuthority:
        return self._authority
