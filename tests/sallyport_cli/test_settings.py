from pathlib import Path

import pytest

from sallyport_cli.failure import ExitStatus, Failure
from sallyport_cli.settings import is_given, read_document, read_settings


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "gateway.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_file_and_environment(tmp_path: Path) -> None:
    path = written(tmp_path, "tokens: {public_key: key.pem}")
    settings = read_settings(path, {"SALLYPORT_LISTEN_PROXY": "127.0.0.1:1234"})
    assert settings.listen.proxy.port == 1234
    assert settings.tokens.public_key == tmp_path / "key.pem"


def test_every_fault_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="3 faults in the settings") as caught:
        read_settings(written(tmp_path, "lisen: {}\nlimits: {sandboxes: -1}"), {})
    assert caught.value.status == ExitStatus.BAD_INPUT
    assert len(caught.value.hint.splitlines()) == 3


def test_a_file_that_cannot_be_read_is_another_kind(tmp_path: Path) -> None:
    for read in (read_settings, read_document):
        with pytest.raises(Failure, match="cannot be read") as caught:
            read(tmp_path / "none")
        assert caught.value.status == ExitStatus.ENVIRONMENT


def test_a_document_that_is_no_yaml(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="one fault") as caught:
        read_document(written(tmp_path, "a: ["))
    assert "not valid YAML" in caught.value.hint


@pytest.mark.parametrize(
    ("document", "environment", "given"),
    [
        ({"tokens": {"jwks": "a"}}, {}, True),
        ({"tokens": {"jwks": None}}, {}, False),
        ({"tokens": None}, {}, False),
        ({}, {"SALLYPORT_TOKENS_JWKS": "a"}, True),
        ({}, {"SALLYPORT_TOKENS_JWKS": ""}, False),
        ({"tokens": {"public_key": "a"}}, {}, False),
    ],
)
def test_whether_a_setting_is_given(document: dict[str, object], environment: dict[str, str], *, given: bool) -> None:
    assert is_given(document, environment, "tokens", "jwks") is given
