"""OpenAI: where its requests go, which key it takes, and what its forms show."""

import re

import pytest
from pydantic import ValidationError

from control_plane.definitions.contract import FormContext, Target
from control_plane.definitions.openai.default import (
    DEFINITION,
    KEY_PLACEHOLDER,
    ConnectionConfig,
    TargetConfig,
    binding_form,
    connection_form,
    target_form,
    validate_target,
)


def target(**members: object) -> Target[TargetConfig]:
    return Target(key="openai-default", config=TargetConfig.model_validate(members))


@pytest.mark.parametrize(
    "base_url",
    [
        *("https://llm.example/v1", "https://llm.example/", "https://llm.example?x", "ftp://llm.example"),
        *("llm.example", "https://key@llm.example", "https://llm.example#x", "wss://llm.example", ""),
    ],
)
def test_a_base_url_is_scheme_and_host(base_url: str) -> None:
    with pytest.raises(ValidationError):
        TargetConfig.model_validate({"baseUrl": base_url})


def test_cleartext_has_to_be_wanted() -> None:
    [issue] = validate_target(target(baseUrl="http://llm.internal"))
    assert (issue.code, issue.pointer) == ("openai.cleartext_base_url", "/config/baseUrl")
    assert validate_target(target(baseUrl="http://llm.internal", allowCleartext=True)) == []
    assert validate_target(target(baseUrl="https://llm.internal")) == []
    assert validate_target(target()) == []


@pytest.mark.parametrize("value", ["", "org acme", "org\r\nX-A: 1", "ö", "o" * 129])
def test_what_is_no_id_of_an_account_is_refused(value: str) -> None:
    with pytest.raises(ValidationError):
        ConnectionConfig.model_validate({"organization": value})


@pytest.mark.parametrize(
    ("key", "taken"),
    [
        ("sk-proj-abcDEF_0123-456789", True),
        ("sk-svcacct-0123456789abcdef", True),
        (KEY_PLACEHOLDER, True),
        ("sk-admin-0123456789abcdef", False),
        ("sk-short", False),
        ("pk-proj-0123456789", False),
    ],
)
def test_an_administrator_s_key_is_refused(key: str, taken: bool) -> None:
    [secret] = DEFINITION.connection_methods[0].secrets
    assert (re.fullmatch(secret.pattern or "", key) is not None) is taken


def test_cleartext_is_offered_where_it_is_needed() -> None:
    def hidden(base_url: str) -> bool:
        fields = target_form(FormContext(target=None, connection=None, value={"baseUrl": base_url}))
        return next(field.hidden for field in fields if field.name == "allowCleartext")

    assert not hidden("http://llm.internal")
    assert hidden("https://llm.internal")
    assert hidden("")


def test_models_are_listed_unless_the_target_leads_elsewhere() -> None:
    def is_listed(target: Target[TargetConfig] | None) -> bool:
        fields = binding_form(FormContext(target=target, connection=None, value={}))
        return next(field.choices for field in fields if field.name == "model") is not None

    assert is_listed(None)
    assert is_listed(target())
    assert not is_listed(target(baseUrl="https://llm.example"))


def test_the_connection_s_form_asks_for_the_account() -> None:
    fields = connection_form(FormContext(target=None, connection=None, value={}))
    assert [field.name for field in fields] == ["organization", "project"]
