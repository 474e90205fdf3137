"""The operator's GitHub App: its secrets, its installation by a member, the tokens of an installation.

From GitHub's documentation: "Sharing your GitHub App" (`/apps/NAME/installations/new`, `state` comes back), "About the
setup URL" (the way back has `installation_id` and `setup_action`; bad actors can write another's id there, so the
user's own token has to prove it), "Creating a GitHub App" ("Request user authorization (OAuth) during installation"
adds `code`), "Generating a user access token" (`/login/oauth/access_token`), REST API endpoints for installations
(`GET /user/installations/{id}/repositories` answers only who may see the installation), "Generating an installation
access token" (`repositories` and `permissions` narrow it; about an hour).

The App is the target's, and so is the source of its events: GitHub sends all installations' to one URL of the App.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Final

from pydantic import StringConstraints
from pydantic.alias_generators import to_camel

from control_plane.definitions.contract import (
    ConfigToProve,
    ConnectionMethod,
    FormContext,
    FormField,
    GitHubInstallationToken,
    Issue,
    MethodKind,
    OAuthContext,
    RedirectHandler,
    ResolveContext,
    SecretField,
    Target,
    TokenCall,
)
from control_plane.definitions.fields import FromProvider, SecretPem, SecretText
from control_plane.definitions.github.binding import BindingConfig
from control_plane.definitions.github.site import TargetConfig
from sallyport.plan.fields import Model

API_KEY_SECRET: Final = "api_key"
INSTALLATION_SECRET: Final = "installation_token"
APP_SECRETS: Final = ("app_id", "private_key", "client_id", "client_secret")
# What git alone needs, where a binding only reads and has no API: less than the App may have.
READ_BY_GIT: Final[Mapping[str, str]] = {"contents": "read", "metadata": "read"}

_INSTALLATION_ID: Final = re.compile(r"[1-9][0-9]{0,19}")


class TargetSecrets(Model):
    """What the operator's App is known by, and what signs its events."""

    app_id: SecretText | None = None
    private_key: SecretPem | None = None
    client_id: SecretText | None = None
    client_secret: SecretText | None = None
    webhook_secret: SecretText | None = None


class ConnectionConfig(Model):
    """The installation that was proved to be the member's; none with a personal access token."""

    installation_id: Annotated[
        Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]{0,19}$")] | None, FromProvider
    ] = None


def validate_target(target: Target[TargetConfig]) -> list[Issue]:
    """An App is described whole or not at all."""
    is_named, present = target.config.app_slug is not None, [name for name in APP_SECRETS if name in target.secrets]
    if not is_named and not present:
        return []
    missing = [name for name in APP_SECRETS if name not in target.secrets]
    issues = [
        Issue("github.app_incomplete", f"/secrets/{to_camel(name)}", "the App needs this too") for name in missing
    ]
    if not is_named:
        issues.append(Issue("github.app_incomplete", "/config/appSlug", "the App needs this too"))
    return issues


def start(context: OAuthContext[TargetConfig, ConnectionConfig]) -> str:
    """The page where the App is installed."""
    config = context.target.config
    assert config.app_slug is not None, "the method is offered where the App is described whole"
    return f"{config.site.web_url}/{config.site.app_pages}/{config.app_slug}/installations/new"


def complete(
    context: OAuthContext[TargetConfig, ConnectionConfig], query: Mapping[str, str]
) -> ConfigToProve | Sequence[Issue]:
    """Read the way back: an installation, which the member's own token has still to see."""
    if query.get("setup_action") == "request":
        message = "an owner has to approve the installation; connect again when that is done"
        return [Issue("github.installation_requested", "/setup_action", message)]
    installation_id, code = query.get("installation_id", ""), query.get("code", "")
    if _INSTALLATION_ID.fullmatch(installation_id) is None:
        return [Issue("github.installation_missing", "/installation_id", "GitHub named no installation")]
    if not code:
        message = "the App has to request user authorization during installation; its operator can switch that on"
        return [Issue("github.authorization_missing", "/code", message)]
    site = context.target.config.site
    return ConfigToProve(
        config={"installationId": installation_id},
        code=code,
        token=TokenCall(url=f"{site.web_url}/login/oauth/access_token", client_authentication="post"),
        url=f"{site.rest_url}/user/installations/{installation_id}/repositories?per_page=1",
    )


def installation_token(
    context: ResolveContext[TargetConfig, ConnectionConfig, BindingConfig],
) -> GitHubInstallationToken:
    """A token of the installation for the repositories of the binding and no other."""
    installation_id, binding = context.connection.config.installation_id, context.binding
    assert installation_id is not None, "a connection by the App has an installation"
    reads_by_git = binding is not None and binding.access == "read" and binding.api == "none"
    return GitHubInstallationToken(
        api_base_url=context.target.config.site.rest_url,
        installation_id=installation_id,
        app_id="app_id",
        private_key="private_key",
        repositories=() if binding is None else binding.repositories,
        permissions=READ_BY_GIT if reads_by_git else None,
    )


CONNECTION_METHODS: Final = (
    ConnectionMethod(
        kind=MethodKind.GITHUB_APP_INSTALLATION,
        label="Install the GitHub App",
        secret_type=INSTALLATION_SECRET,
        requires=APP_SECRETS,
    ),
    ConnectionMethod(
        kind=MethodKind.API_KEY,
        label="Personal access token",
        secret_type=API_KEY_SECRET,
        secrets=[
            SecretField(
                secret_type=API_KEY_SECRET,
                label="Personal access token",
                help="A fine-grained one, for the repositories to be bound: what it may beyond them, nobody can undo.",
                pattern=r"(?:ghp|github_pat)_[A-Za-z0-9_]{36,251}",
            )
        ],
    ),
)

REDIRECT_HANDLER: Final = RedirectHandler(start=start, complete=complete)


def target_form(context: FormContext[TargetConfig, ConnectionConfig]) -> list[FormField]:
    """The App's name; the rest of it is secret."""
    return [FormField(name="appSlug", label="GitHub App", help="Its name as it stands in its URL: /apps/NAME.")]


def target_secret_form(context: FormContext[TargetConfig, ConnectionConfig]) -> list[FormField]:
    """All that the App's settings at GitHub show once."""
    return [
        FormField(name="appId", label="App ID"),
        FormField(name="privateKey", label="Private key", widget="textarea", help="The .pem file GitHub gave."),
        FormField(name="clientId", label="Client ID"),
        FormField(name="clientSecret", label="Client secret", widget="password"),
        FormField(name="webhookSecret", label="Webhook secret", widget="password"),
    ]


def connection_form(context: FormContext[TargetConfig, ConnectionConfig]) -> list[FormField]:
    """Nothing is typed in: the installation is GitHub's word."""
    return [FormField(name="installationId", label="Installation", hidden=True)]
