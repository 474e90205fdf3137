import ssl
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
from cryptography.hazmat.primitives.serialization import pkcs12

from sallyport.net import trust_files as trust
from sallyport.net.interception import CaStore
from sallyport.net.trust_files import java_trust_store, system_bundle, write_trust
from sallyport_cli.times import now


@pytest.fixture
def ca_pem(tmp_path: Path) -> bytes:
    return CaStore(tmp_path / "ca").authority("sbx_one", now()).certificate_pem


@pytest.fixture
def no_roots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trust, "SYSTEM_BUNDLES", ())
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: SimpleNamespace(openssl_cafile="/nowhere/cert.pem"))


def test_the_bundle_holds_the_roots_and_the_ca(tmp_path: Path, ca_pem: bytes) -> None:
    other = CaStore(tmp_path / "other").authority("sbx_other", now()).certificate_pem
    (tmp_path / "roots.pem").write_bytes(other.rstrip())
    files = write_trust(tmp_path / "trust", ca_pem, {"SSL_CERT_FILE": str(tmp_path / "roots.pem")})
    assert files.ca.read_bytes() == ca_pem
    assert files.bundle.read_bytes() == other + ca_pem
    context = ssl.create_default_context(cafile=str(files.bundle))
    assert len(context.get_ca_certs()) == 2


@pytest.mark.usefixtures("no_roots")
def test_without_roots_the_bundle_is_the_ca(tmp_path: Path, ca_pem: bytes) -> None:
    files = write_trust(tmp_path / "trust", ca_pem, {})
    assert files.bundle.read_bytes() == ca_pem


@pytest.mark.usefixtures("no_roots")
def test_a_bundle_that_is_named_and_missing_is_passed_over() -> None:
    assert system_bundle({"SSL_CERT_FILE": "/nowhere/roots.pem"}) is None


def test_the_systems_roots_are_found_where_it_keeps_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_roots: None
) -> None:
    (tmp_path / "ca-bundle.crt").touch()
    monkeypatch.setattr(trust, "SYSTEM_BUNDLES", ("/nowhere", str(tmp_path / "ca-bundle.crt")))
    assert system_bundle({}) == tmp_path / "ca-bundle.crt"


def test_java_reads_every_certificate_without_a_password(ca_pem: bytes) -> None:
    broken = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    content = java_trust_store(ca_pem + broken + b"# a comment\n" + ca_pem)
    assert len(pkcs12.load_pkcs12(content, None).additional_certs) == 2
    # 2.16.840.1.113894.746875.1.1, trustedKeyUsage: without it a JVM does not take an entry for a trusted root.
    assert content.count(bytes.fromhex("060c6086480186f966adca7b0101")) == 2


def test_certificates_that_bend_the_rules_do_not_warn() -> None:
    bundle = system_bundle({})
    if bundle is None:
        pytest.skip("no roots on this machine")
    with warnings.catch_warnings(action="error"):
        assert java_trust_store(bundle.read_bytes())


def test_the_preload_for_node_comes_with_the_files(tmp_path: Path, ca_pem: bytes) -> None:
    files = write_trust(tmp_path / "trust", ca_pem, {})
    assert b"NODE_USE_ENV_PROXY" in files.node_preload.read_bytes()


def test_files_are_replaced_whole_and_readable_by_all(tmp_path: Path, ca_pem: bytes) -> None:
    folder = tmp_path / "trust"
    write_trust(folder, b"# an old authority\n", {})
    files = write_trust(folder, ca_pem, {"SSL_CERT_FILE": str(folder / "bundle.pem")})
    assert files.ca.read_bytes() == ca_pem
    assert b"# an old authority" not in files.bundle.read_bytes(), "its own bundle was read back"
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o644}
    assert len(list(folder.iterdir())) == 5
