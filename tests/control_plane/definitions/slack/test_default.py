"""Slack: a method of its API is one segment, and a bot's token is told from a user's."""

import re

import pytest
from pydantic import ValidationError

from control_plane.definitions.contract import FormContext, MethodKind
from control_plane.definitions.slack.default import DEFINITION, TOKEN_PLACEHOLDER, BindingConfig, binding_form


@pytest.mark.parametrize("name", ["chat.postMessage", "admin.users.session.reset", "oauth.v2.access", "views.open"])
def test_a_method_of_the_api(name: str) -> None:
    assert BindingConfig.model_validate({"apiMethods": [name]}).api_methods == (name,)


@pytest.mark.parametrize("name", ["chat", "chat.", "../chat.x", "chat/x.y", "chat.post message", "", "chat..x"])
def test_what_is_no_method_is_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        BindingConfig.model_validate({"apiMethods": [name]})


def test_a_typed_token_is_a_bots() -> None:
    method = DEFINITION.method(MethodKind.API_KEY)
    assert method is not None
    pattern = method.secrets[0].pattern
    assert pattern is not None
    assert re.fullmatch(pattern, TOKEN_PLACEHOLDER)
    assert not re.fullmatch(pattern, TOKEN_PLACEHOLDER.replace("xoxb", "xoxp"))


def test_the_form_names_what_narrows() -> None:
    fields = binding_form(FormContext(target=None, connection=None, value={}))
    assert [field.name for field in fields] == ["apiMethods", "files"]
