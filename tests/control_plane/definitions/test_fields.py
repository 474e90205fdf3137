"""Secrets are read without being shown, and a repository never leads elsewhere."""

import pytest
from pydantic import ValidationError

from control_plane.definitions.fields import (
    MAX_CREDENTIAL_BYTES,
    Directory,
    Repository,
    Scope,
    SecretPem,
    SecretText,
    SecretTyped,
    distinct,
)
from sallyport.plan.fields import Model


class Fields(Model):
    text: SecretText | None = None
    pem: SecretPem | None = None
    typed: SecretTyped | None = None
    repository: Repository | None = None
    directory: Directory | None = None
    scope: Scope | None = None


@pytest.mark.parametrize("value", ["", " canary", "canary\n", "canary\x00", 7, "canary" * MAX_CREDENTIAL_BYTES])
def test_a_faulty_secret_is_refused_and_not_repeated(value: object) -> None:
    with pytest.raises(ValidationError) as caught:
        Fields.model_validate({"text": value})
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("value", ["canary", 7, "-----BEGIN" + "canary" * MAX_CREDENTIAL_BYTES])
def test_a_faulty_key_is_refused_and_not_repeated(value: object) -> None:
    with pytest.raises(ValidationError) as caught:
        Fields.model_validate({"pem": value})
    assert "canary" not in str(caught.value)


def test_a_typed_secret_may_be_a_key() -> None:
    for value in ("abc", "-----BEGIN KEY-----\nabc\n-----END KEY-----\n"):
        found = Fields.model_validate({"typed": value}).typed
        assert found is not None
        assert found.reveal() == value.encode()
    for value in ("a\nb", "canary\n-----BEGIN KEY-----"):
        with pytest.raises(ValidationError) as caught:
            Fields.model_validate({"typed": value})
        assert "canary" not in str(caught.value)


def test_a_secret_is_held_as_one() -> None:
    fields = Fields.model_validate({"text": "canary", "pem": "-----BEGIN PRIVATE KEY-----\ncanary"})
    assert "canary" not in repr(fields)
    assert fields.text is not None
    assert fields.text.reveal() == b"canary"


@pytest.mark.parametrize(
    "value", ["acme/..", "acme/.", "../x", "acme", "acme/a/b", "acme/a b", "-a/b", "acme/a%2e", "", "acme/a.git"]
)
def test_what_is_no_repository_is_refused(value: str) -> None:
    with pytest.raises(ValidationError):
        Fields.model_validate({"repository": value})


@pytest.mark.parametrize("value", ["acme/api", "a/.github", "Acme-Corp/web_2.0"])
def test_a_repository_is_taken_as_it_is(value: str) -> None:
    assert Fields.model_validate({"repository": value}).repository == value


@pytest.mark.parametrize("value", ["/a", "/var/lib/codex", "/srv/a.b/c-d_e"])
def test_a_directory_is_absolute_and_plain(value: str) -> None:
    assert Fields.model_validate({"directory": value}).directory == value


@pytest.mark.parametrize(
    "value",
    ["", "/", "a", "a/b", "/a/", "//a", "/a//b", "/a/..", "/./a", "/a b", "/a\n", "/" + "a" * 65, "/~", "/$HOME"],
)
def test_what_hides_where_it_leads_is_no_directory(value: str) -> None:
    with pytest.raises(ValidationError):
        Fields.model_validate({"directory": value})


def test_letters_alone_make_no_difference() -> None:
    assert distinct(["acme/web", "acme/api"])
    assert not distinct(["acme/web", "Acme/WEB"])
    assert distinct([])


@pytest.mark.parametrize("scope", ["read", "read:jira-work", "https://example.com/auth/x.y"])
def test_a_scope(scope: str) -> None:
    assert Fields.model_validate({"scope": scope}).scope == scope


@pytest.mark.parametrize("scope", ["", "a b", "a,b", 'a"', "a\\b", "\u00e9"])
def test_what_would_be_another_scope_is_refused(scope: str) -> None:
    with pytest.raises(ValidationError):
        Fields.model_validate({"scope": scope})
