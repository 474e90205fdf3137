"""What a listener is to show, told by settings."""

from pathlib import Path

import pytest
from cryptography import x509

from demo.certificates import write_origin_files
from sallyport.net.listener_tls import ListenerTls, ListenerTlsError, certificate_ends_at, listener_context
from sallyport.settings import Reader


def test_both_files_or_neither(tmp_path: Path) -> None:
    reader = Reader({}, tmp_path, "X")
    assert ListenerTls().is_whole(reader, "/tls")
    assert ListenerTls(certificate_file=tmp_path, key_file=tmp_path).is_whole(reader, "/tls")
    assert reader.issues == []
    assert not ListenerTls(key_file=tmp_path).is_whole(reader, "/tls")
    assert list(map(str, reader.issues)) == ["/tls: write both certificate_file and key_file, or neither"]


def test_without_files_there_is_no_tls() -> None:
    assert listener_context("tls", ListenerTls()) is None
    assert (ListenerTls().is_given, ListenerTls(certificate_file=Path("x")).is_given) == (False, False)


def test_a_chain_and_its_key_are_shown(tmp_path: Path) -> None:
    files = write_origin_files(tmp_path, ["gateway.test"])
    tls = ListenerTls(certificate_file=files.certificate_file, key_file=files.key_file)
    assert tls.is_given
    assert listener_context("tls", tls) is not None
    (certificate,) = x509.load_pem_x509_certificates(files.certificate_file.read_bytes())
    assert certificate_ends_at(tls) == certificate.not_valid_after_utc.timestamp()


def test_what_is_not_there_has_no_end(tmp_path: Path) -> None:
    (tmp_path / "noise").write_bytes(b"no certificate")
    for path in (None, tmp_path / "gone", tmp_path / "noise"):
        assert certificate_ends_at(ListenerTls(certificate_file=path)) is None


@pytest.mark.parametrize(
    ("certificate", "key", "words"),
    [
        ("origin.pem", "open.key", "admin.tls: others may read the private key .*open.key; chmod 600"),
        ("origin.pem", "noise", "admin.tls: .*noise are no certificate chain and its key; give both in PEM"),
        ("gone.pem", "origin.key", r"admin.tls: .*gone.pem or .* cannot be read \(No such file or directory\)"),
    ],
)
def test_what_cannot_be_shown_says_why(tmp_path: Path, certificate: str, key: str, words: str) -> None:
    files = write_origin_files(tmp_path, ["gateway.test"])
    (tmp_path / "open.key").write_bytes(files.key_file.read_bytes())
    (tmp_path / "open.key").chmod(0o644)
    (tmp_path / "noise").touch(mode=0o600)
    with pytest.raises(ListenerTlsError, match=words):
        listener_context("admin.tls", ListenerTls(certificate_file=tmp_path / certificate, key_file=tmp_path / key))
