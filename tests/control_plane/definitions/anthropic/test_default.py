"""Anthropic: which key it takes; and the files endpoint is held to it, whatever a client sends."""

import re

import pytest

from control_plane.definitions.anthropic.default import DEFINITION, KEY_PLACEHOLDER, binding_form, compile_binding
from control_plane.definitions.contract import BindingContext, Connection, FormContext, MethodKind, Nothing, Target

CONNECTION = Connection(id="con_1", method=MethodKind.API_KEY, config=Nothing())
TARGET = Target(key="anthropic-default", config=Nothing())


@pytest.mark.parametrize(
    ("key", "taken"),
    [
        (KEY_PLACEHOLDER, True),
        ("sk-ant-api03-0123456789abcdef0123", True),
        ("sk-ant-admin01-0123456789abcdef0123", False),
        ("sk-ant-oat01-0123456789abcdef0123", False),
        ("sk-proj-0123456789abcdef0123", False),
    ],
)
def test_only_a_workspace_s_key_is_taken(key: str, taken: bool) -> None:
    [secret] = DEFINITION.connection_methods[0].secrets
    assert (re.fullmatch(secret.pattern or "", key) is not None) is taken


def test_no_header_by_which_a_client_brings_a_key_is_kept() -> None:
    context = BindingContext(
        target=TARGET, connection=CONNECTION, binding_id="bnd_1", config=DEFINITION.binding_config()
    )
    [route] = compile_binding(context).routes
    assert route.auth_injection == {"type": "header", "header": "x-api-key"}
    assert route.keep_headers == ()
    assert route.methods == ["GET", "POST"]


def test_the_form_follows_what_is_chosen() -> None:
    fields = binding_form(FormContext(target=TARGET, connection=CONNECTION, value={"claudeCode": "none"}))
    assert [field.name for field in fields if not field.hidden] == ["claudeCode"]
