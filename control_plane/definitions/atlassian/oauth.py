"""Whose site a connection is to, and how tokens for it are asked for at auth.atlassian.com (sources: default.py)."""

from typing import Annotated, Final

from pydantic import StringConstraints

from control_plane.definitions.contract import (
    AuthorizationRequest,
    FormContext,
    FormField,
    MethodKind,
    Nothing,
    OAuth2AuthorizationCode,
    OAuth2ClientCredentials,
    OAuthContext,
    TokenCall,
)
from control_plane.definitions.fields import Scope, SecretText
from sallyport.plan.fields import Listed, Model, Text, UserName

AUTH_URL: Final = "https://auth.atlassian.com"
AUDIENCE: Final = "api.atlassian.com"
# Without it there is no refresh token.
OFFLINE_ACCESS: Final = "offline_access"
DEFAULT_SCOPES: Final = ("read:jira-work", "read:jira-user", "write:jira-work")

CloudId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$")]
# SITE of SITE.atlassian.net: one label, so it names no other host.
SiteName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$")]


class TargetSecrets(Model):
    """What the operator's OAuth app at Atlassian is known by."""

    client_id: SecretText | None = None
    client_secret: SecretText | None = None


class ConnectionConfig(Model):
    """The site by its cloud id, or by its name for a token without scopes; whose token; a service account's client."""

    cloud_id: CloudId | None = None
    site: SiteName | None = None
    email: UserName | None = None
    client_id: Text | None = None
    scopes: Listed[Scope] | None = None


type Context = OAuthContext[Nothing, ConnectionConfig]


def start(context: Context) -> AuthorizationRequest:
    """Ask for an access token that can be refreshed."""
    wanted = context.config.scopes or DEFAULT_SCOPES
    return AuthorizationRequest(
        url=f"{AUTH_URL}/authorize",
        scopes=[*(scope for scope in wanted if scope != OFFLINE_ACCESS), OFFLINE_ACCESS],
        parameters={"audience": AUDIENCE, "prompt": "consent"},
    )


def token_call(context: Context) -> TokenCall:
    """The client's id and secret stand in the body, which is JSON."""
    return TokenCall(url=f"{AUTH_URL}/oauth/token", client_authentication="post", encoding="json")


def client_token_call(context: Context) -> TokenCall:
    """The same for a service account, which has to say what the token is for."""
    return TokenCall(
        url=f"{AUTH_URL}/oauth/token",
        client_authentication="post",
        parameters={"audience": AUDIENCE},
        encoding="json",
    )


def connection_form(context: FormContext[Nothing, ConnectionConfig]) -> list[FormField]:
    """Each way to connect needs something else; before one is chosen everything is offered."""
    method = None if context.connection is None else context.connection.method

    def only(*kinds: MethodKind) -> bool:
        return method is not None and method not in kinds

    return [
        FormField(name="cloudId", label="Cloud ID", help="https://SITE.atlassian.net/_edge/tenant_info tells it."),
        FormField(
            name="site",
            label="Site",
            help="SITE of SITE.atlassian.net, for a token without scopes.",
            hidden=only(MethodKind.API_KEY),
        ),
        FormField(name="email", label="E-mail address of the token's owner", hidden=only(MethodKind.API_KEY)),
        FormField(name="clientId", label="Client ID", hidden=only(MethodKind.OAUTH2_CLIENT_CREDENTIALS)),
        FormField(
            name="scopes",
            label="Scopes",
            widget="list",
            help=f"Where none is named: {', '.join(DEFAULT_SCOPES)}. The app at Atlassian has to have them.",
            hidden=only(MethodKind.OAUTH2_AUTHORIZATION_CODE),
        ),
    ]


OAUTH: Final = OAuth2AuthorizationCode(
    start_authorization=start,
    complete_authorization_code_grant=token_call,
    refresh_access_token=token_call,
)

CLIENT_CREDENTIALS: Final = OAuth2ClientCredentials(
    exchange_client_credentials=client_token_call,
    # A binding to a connection without one is refused before its token is asked for.
    client_id=lambda config: config.client_id or "",
    # They are chosen when the credential is made.
    scopes=lambda context: (),
)
