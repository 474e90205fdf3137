from pathlib import Path

import pytest

from sallyport_cli.env import with_token
from sallyport_cli.failure import Failure
from tests.support.command import call


@pytest.fixture
def options(tmp_path: Path) -> list[str]:
    (tmp_path / "token").write_text("eyJ.to.ken\n", encoding="utf-8")
    paths = ["--token-file", str(tmp_path / "token"), "--ca", "/t/ca.pem", "--bundle", "/t/all.pem"]
    return ["env", "--proxy", "http://10.0.0.5:3128", *paths]


def test_sh_is_the_default(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    outcome = call(capsys, *options)
    assert outcome.status == 0
    lines = outcome.out.splitlines()
    assert "export HTTPS_PROXY=http://x:eyJ.to.ken@10.0.0.5:3128" in lines
    assert "export SSL_CERT_FILE=/t/all.pem" in lines
    assert "export NODE_EXTRA_CA_CERTS=/t/ca.pem" in lines
    assert "unset SSL_CERT_DIR" in lines


@pytest.mark.parametrize(
    ("form", "line"),
    [
        ("fish", "set -gx DENO_CERT '/t/ca.pem'"),
        ("dotenv", "DENO_CERT=/t/ca.pem"),
        ("docker", "DENO_CERT=/t/ca.pem"),
        ("powershell", "$env:DENO_CERT = '/t/ca.pem'"),
    ],
)
def test_other_formats(options: list[str], capsys: pytest.CaptureFixture[str], form: str, line: str) -> None:
    assert line in call(capsys, *options, "--format", form).out.splitlines()


@pytest.mark.parametrize("more", [["--format", "json"], ["--json"]])
def test_json(options: list[str], capsys: pytest.CaptureFixture[str], more: list[str]) -> None:
    document = call(capsys, *options, *more).json()
    assert document["set"]["CURL_CA_BUNDLE"] == "/t/all.pem"
    assert document["unset"] == ["SSL_CERT_DIR"]


def test_java_trust_store(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    document = call(capsys, *options, "--json", "--java-trust-store", "/t/java.p12").json()
    assert "trustStore=/t/java.p12" in document["set"]["JAVA_TOOL_OPTIONS"]


@pytest.mark.parametrize("content", ["", "a b", "a\nb", "täken"])
def test_a_file_without_a_token(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str
) -> None:
    (tmp_path / "token").write_text(content, encoding="utf-8")
    outcome = call(capsys, *options)
    assert outcome.status == 2
    assert "does not hold one token" in outcome.err


@pytest.mark.parametrize(
    "proxy",
    ["10.0.0.5:3128", "https://h:1", "http://h", "http://u:secret@h:1", "http://h:1/x", "http://h:99999", "http://:1"],
)
def test_what_is_no_proxy_is_refused_and_not_repeated(proxy: str) -> None:
    with pytest.raises(Failure) as caught:
        with_token(proxy, "t")
    assert "secret" not in caught.value.message + caught.value.hint


def test_an_ipv6_proxy_and_a_token_that_needs_escaping() -> None:
    assert with_token("http://[::1]:3128/", "a/b") == "http://x:a%2Fb@[::1]:3128"
