"""The operator's app at Slack: its secrets, where a member installs it, and what Slack answers.

From Slack's documentation (docs.slack.dev): "Installing with OAuth" (authorize at /oauth/v2/authorize, scopes joined by
commas), oauth.v2.access (the client by HTTP Basic; `ok`, `error`, `team`, `enterprise`; it refreshes too), "Using token
rotation". Slack answers a refusal with status 200, and the word in `error` says whether asking again helps.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Final

from control_plane.definitions.contract import (
    AuthorizationRequest,
    Document,
    FormContext,
    FormField,
    Grant,
    GrantRefused,
    MethodKind,
    Nothing,
    OAuth2AuthorizationCode,
    OAuthContext,
    TokenCall,
)
from control_plane.definitions.fields import FromProvider, Scope, SecretText
from sallyport.plan.fields import Listed, Model, Text

HOST: Final = "slack.com"
# Reading channels that the bot is in, and writing as the bot.
DEFAULT_SCOPES: Final = ("channels:history", "channels:read", "chat:write", "files:read", "users:read")

# Errors that Slack documents for this method or for all: with these the same question gets the same answer.
_PERMANENT: Final = frozenset(
    {
        *("bad_client_secret", "bad_redirect_uri", "invalid_client_id", "invalid_code", "code_already_used"),
        *("invalid_code_verifier", "invalid_grant_type", "invalid_refresh_token", "invalid_scope", "token_expired"),
        *("token_revoked", "account_inactive", "org_login_required", "no_scopes", "team_access_not_granted"),
        *("oauth_authorization_url_mismatch", "cannot_install_an_org_installed_app", "preview_feature_not_available"),
    }
)
_TEMPORARY: Final = frozenset(
    {"ratelimited", "internal_error", "fatal_error", "service_unavailable", "request_timeout", "team_added_to_org"}
)


class TargetSecrets(Model):
    """What the operator's app at Slack is known by, and what signs its events."""

    client_id: SecretText | None = None
    client_secret: SecretText | None = None
    webhook_secret: SecretText | None = None


class ConnectionConfig(Model):
    """The scopes asked for, and where Slack installed the app: a workspace, or a whole enterprise."""

    scopes: Listed[Scope] | None = None
    team_id: Annotated[Text | None, FromProvider] = None
    enterprise_id: Annotated[Text | None, FromProvider] = None


def connection_form(context: FormContext[Nothing, ConnectionConfig]) -> list[FormField]:
    """A token that was typed in has the scopes it has."""
    by_token = context.connection is not None and context.connection.method is MethodKind.API_KEY
    return [
        FormField(
            name="scopes",
            label="Bot scopes",
            widget="list",
            help=f"Where none is named: {', '.join(DEFAULT_SCOPES)}.",
            hidden=by_token,
        )
    ]


def start(context: OAuthContext[Nothing, ConnectionConfig]) -> AuthorizationRequest:
    """Ask for a bot's token."""
    return AuthorizationRequest(
        url=f"https://{HOST}/oauth/v2/authorize",
        parameters={"scope": ",".join(context.config.scopes or DEFAULT_SCOPES)},
    )


def token_call(context: OAuthContext[Nothing, ConnectionConfig]) -> TokenCall:
    """The same method for a code and for a refresh token."""
    return TokenCall(url=f"https://{HOST}/api/oauth.v2.access")


def read_grant(answer: Document) -> Grant:
    """Read what Slack says with status 200: a bot's token with its workspace, or a refusal."""
    if answer.get("ok") is not True:
        word = answer.get("error")
        if isinstance(word, str) and word in _PERMANENT | _TEMPORARY:
            raise GrantRefused(word, permanent=word in _PERMANENT)
        # What Slack does not document may pass; a connection is not given up for it.
        raise GrantRefused("Slack refused for a reason it does not document", permanent=False)
    if not isinstance(answer.get("access_token"), str):
        raise GrantRefused(
            "Slack gave no token of a bot: the app has no bot, or no bot scope was asked", permanent=True
        )
    config = {"teamId": _id_of(answer.get("team")), "enterpriseId": _id_of(answer.get("enterprise"))}
    return Grant(config={name: value for name, value in config.items() if value is not None})


def _id_of(value: Any) -> str | None:  # noqa: ANN401  JSON
    found = value.get("id") if isinstance(value, Mapping) else None
    return found if isinstance(found, str) and found else None


OAUTH: Final = OAuth2AuthorizationCode(
    start_authorization=start,
    complete_authorization_code_grant=token_call,
    refresh_access_token=token_call,
    read_grant=read_grant,
)
