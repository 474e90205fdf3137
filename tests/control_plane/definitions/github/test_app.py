"""The App: an installation is claimed by the way back and proved by its member; its tokens are as narrow as can be."""

import re
from collections.abc import Mapping

import pytest

from control_plane.definitions.contract import (
    ConfigToProve,
    Connection,
    FormContext,
    MethodKind,
    OAuthContext,
    ResolveContext,
    Target,
    provider_owned,
)
from control_plane.definitions.github.app import (
    APP_SECRETS,
    CONNECTION_METHODS,
    READ_BY_GIT,
    ConnectionConfig,
    TargetSecrets,
    complete,
    connection_form,
    installation_token,
    start,
    target_form,
    target_secret_form,
    validate_target,
)
from control_plane.definitions.github.binding import TOKEN_PLACEHOLDER, BindingConfig
from control_plane.definitions.github.site import ServerTargetConfig, TargetConfig

CLOUD = Target(
    key="github-cloud", config=TargetConfig.model_validate({"appSlug": "agents"}), secrets=frozenset(APP_SECRETS)
)
SERVER = Target(
    key="ghe",
    config=ServerTargetConfig.model_validate({"baseUrl": "https://ghe.example:8443", "appSlug": "agents"}),
    secrets=frozenset(APP_SECRETS),
)
WAY_BACK = {"installation_id": "4711", "setup_action": "install", "code": "c0de", "state": "s"}


def returned(query: Mapping[str, str], target: Target[TargetConfig] = CLOUD) -> object:
    return complete(OAuthContext(target=target, config=ConnectionConfig()), query)


def codes(query: Mapping[str, str]) -> list[str]:
    issues = returned(query)
    assert isinstance(issues, list)
    return [issue.code for issue in issues]


def resolved(**binding: object) -> tuple[object, ...]:
    config = BindingConfig.model_validate(binding) if binding else None
    connection = Connection(
        id="con_1",
        method=MethodKind.GITHUB_APP_INSTALLATION,
        config=ConnectionConfig.model_validate({"installationId": "4711"}),
    )
    source = installation_token(ResolveContext(target=SERVER, connection=connection, binding=config))
    assert (source.api_base_url, source.installation_id) == ("https://ghe.example:8443/api/v3", "4711")
    return tuple(source.repositories), source.permissions


def test_the_browser_is_sent_to_the_app_s_page() -> None:
    url = start(OAuthContext(target=CLOUD, config=ConnectionConfig()))
    assert url == "https://github.com/apps/agents/installations/new"
    url = start(OAuthContext(target=SERVER, config=ConnectionConfig()))
    assert url == "https://ghe.example:8443/github-apps/agents/installations/new"


def test_an_installation_is_not_taken_by_its_number_alone() -> None:
    claim = returned(WAY_BACK)
    assert isinstance(claim, ConfigToProve)
    assert (claim.config, claim.code) == ({"installationId": "4711"}, "c0de")
    assert claim.token.url == "https://github.com/login/oauth/access_token"
    assert claim.url == "https://api.github.com/user/installations/4711/repositories?per_page=1"
    ConnectionConfig.model_validate(claim.config)
    assert "c0de" not in repr(claim)


def test_a_server_proves_by_itself() -> None:
    claim = returned(WAY_BACK, SERVER)
    assert isinstance(claim, ConfigToProve)
    assert claim.token.url == "https://ghe.example:8443/login/oauth/access_token"
    assert claim.url.startswith("https://ghe.example:8443/api/v3/user/installations/4711/")


@pytest.mark.parametrize("number", ["", "0", "-1", "4711/../1", "4711?x", "４", "1" * 21, "4711\n"])
def test_what_is_no_installation_is_refused(number: str) -> None:
    assert codes({**WAY_BACK, "installation_id": number}) == ["github.installation_missing"]


def test_an_app_that_asks_for_no_authorization_proves_nothing() -> None:
    assert codes({name: value for name, value in WAY_BACK.items() if name != "code"}) == [
        "github.authorization_missing"
    ]


def test_an_installation_that_an_owner_has_to_approve_is_not_one_yet() -> None:
    assert codes({"setup_action": "request", "state": "s"}) == ["github.installation_requested"]


def test_the_installation_is_never_a_member_s_word() -> None:
    assert provider_owned(ConnectionConfig) == {"installationId"}


def test_a_token_is_for_the_bound_repositories() -> None:
    assert resolved(repositories=["acme/web", "acme/api"]) == (("acme/web", "acme/api"), None)
    assert resolved(repositories=["acme/web"], access="read") == (("acme/web",), None)
    assert resolved(repositories=["acme/web"], access="read", api="none") == (("acme/web",), READ_BY_GIT)
    assert resolved() == ((), None), "outside of a binding it is for none"


@pytest.mark.parametrize("absent", APP_SECRETS)
def test_an_app_is_described_whole(absent: str) -> None:
    secrets = frozenset(APP_SECRETS) - {absent}
    [issue] = validate_target(Target(key="github-cloud", config=CLOUD.config, secrets=secrets))
    assert issue.pointer == f"/secrets/{TargetSecrets.model_fields[absent].alias}"


def test_an_app_needs_its_name() -> None:
    [issue] = validate_target(Target(key="github-cloud", config=TargetConfig(), secrets=frozenset(APP_SECRETS)))
    assert issue.pointer == "/config/appSlug"


@pytest.mark.parametrize("target", [CLOUD, SERVER, Target(key="github-cloud", config=TargetConfig())])
def test_a_whole_app_and_none_are_both_well(target: Target[TargetConfig]) -> None:
    assert validate_target(target) == []


@pytest.mark.parametrize(
    ("token", "taken"),
    [
        (TOKEN_PLACEHOLDER, True),
        ("github_pat_" + "A1" * 41, True),
        ("ghs_" + "a" * 36, False),
        ("ghp_short", False),
        ("ghp_" + "a" * 36 + "\n", False),
    ],
)
def test_a_personal_access_token_has_its_form(token: str, taken: bool) -> None:
    [secret] = [secret for method in CONNECTION_METHODS for secret in method.secrets]
    assert (re.fullmatch(secret.pattern or "", token) is not None) is taken


def test_the_forms_show_what_can_be_typed_in() -> None:
    context: FormContext[TargetConfig, ConnectionConfig] = FormContext(target=CLOUD, connection=None, value={})
    assert [field.name for field in target_form(context)] == ["appSlug"]
    assert [field.hidden for field in connection_form(context)] == [True]
    assert {field.name for field in target_secret_form(context)} == {
        field.alias for field in TargetSecrets.model_fields.values()
    }
