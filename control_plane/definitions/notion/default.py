"""Notion as a connector: its API, and its hosted MCP server.

From Notion's documentation (developers.notion.com): "Authorization" and "Create a token" (api.notion.com/v1/oauth, the
client by HTTP Basic, JSON, Notion-Version on it too; `workspace_id` and `bot_id` in the answer), "Refresh a token",
"Versioning" (Notion-Version on every request), "Integrating your own MCP client" (mcp.notion.com/mcp has
an authorization server of its own, where clients register themselves, with PKCE).

So a client belongs to one of two authorization servers, and the target says to which. A token of the API's is for the
API, one of the MCP server's is for the MCP server; who offers both has two targets.
"""

from typing import Annotated, Final, Literal

from pydantic import StringConstraints

from control_plane.definitions.contract import (
    AuthorizationRequest,
    BindingContext,
    Compiled,
    ConnectionMethod,
    Document,
    EgressUrl,
    FormContext,
    FormField,
    Grant,
    HttpMcp,
    IntegrationDefinition,
    Issue,
    Kind,
    McpServer,
    MethodKind,
    OAuth2Access,
    OAuth2AuthorizationCode,
    OAuthContext,
    Route,
    SecretField,
    Target,
    TokenCall,
)
from control_plane.definitions.fields import FromProvider, SecretText
from sallyport.plan.fields import Model, Text

API_HOST: Final = "api.notion.com"
MCP_HOST: Final = "mcp.notion.com"
OAUTH_SECRET: Final = "oauth2_access_token"
TOKEN_SECRET: Final = "integration_token"
# What the token endpoint is asked in.
VERSION: Final = "2026-03-11"
# As long as an integration's token and of its characters, because tools look at both.
TOKEN_PLACEHOLDER: Final = f"ntn_{'SallyportPlaceholder':0<46}"
TOKEN_VARIABLES: Final = ("NOTION_API_KEY", "NOTION_TOKEN")


class TargetConfig(Model):
    """The authorization server that the operator's client is known at."""

    oauth: Literal["api", "mcp"] = "api"


class TargetSecrets(Model):
    """What that client is known by; one of the MCP server's may have no secret."""

    client_id: SecretText | None = None
    client_secret: SecretText | None = None


class ConnectionConfig(Model):
    """The workspace that was authorised, and its bot."""

    workspace_id: Annotated[Text | None, FromProvider] = None
    bot_id: Annotated[Text | None, FromProvider] = None


class BindingConfig(Model):
    """`version` is written as Notion-Version on every request to the API; without it, what the program writes stays."""

    version: Annotated[str, StringConstraints(pattern=r"^20[0-9]{2}-[01][0-9]-[0-3][0-9]$")] | None = None


type Context = BindingContext[TargetConfig, ConnectionConfig, BindingConfig]


def _is_for_mcp(context: Context) -> bool:
    is_by_oauth = context.connection.method is MethodKind.OAUTH2_AUTHORIZATION_CODE
    return is_by_oauth and context.target.config.oauth == "mcp"


def compile_binding(context: Context) -> Compiled:
    """The API or the MCP server: what the connection's token is for."""
    if _is_for_mcp(context):
        server = Route(
            key="mcp",
            hosts=[MCP_HOST],
            methods=["GET", "POST", "DELETE"],
            path_prefixes=["/mcp"],
            auth_injection={"type": "bearer"},
        )
        return Compiled(routes=[server])
    version = context.config.version
    api = Route(
        key="api",
        hosts=[API_HOST],
        methods=["GET", "POST", "PATCH", "DELETE"],
        path_prefixes=["/v1"],
        auth_injection={"type": "bearer"},
        placeholders=[{"value": TOKEN_PLACEHOLDER, "in": ["header"]}],
        additional_headers=None if version is None else {"Notion-Version": version},
    )
    token: Document = {
        "artifactKey": "notion",
        "name": "Notion",
        "after": [],
        "env": dict.fromkeys(TOKEN_VARIABLES, TOKEN_PLACEHOLDER),
        "lifecycle": {"install": []},
    }
    return Compiled(routes=[api], artifacts=[token])


def mcp(context: Context) -> list[McpServer]:
    """The hosted server, for a token of its own."""
    if not _is_for_mcp(context):
        return []
    return [McpServer(server_id="notion", name="notion", transport=HttpMcp(url=EgressUrl("mcp", "/mcp")))]


def validate_target(target: Target[TargetConfig]) -> list[Issue]:
    """A client of the API has a secret."""
    if target.config.oauth == "mcp" or "client_id" not in target.secrets or "client_secret" in target.secrets:
        return []
    return [Issue("notion.client_secret_missing", "/secrets/clientSecret", "a client of the API needs this too")]


def target_form(context: FormContext[TargetConfig, ConnectionConfig]) -> list[FormField]:
    """Two authorization servers."""
    return [
        FormField(
            name="oauth",
            label="Connections by OAuth are for",
            widget="select",
            choices=("api", "mcp"),
            help="api: a public integration's client. mcp: a client registered at mcp.notion.com/register.",
        )
    ]


def target_secret_form(context: FormContext[TargetConfig, ConnectionConfig]) -> list[FormField]:
    """The client's secret is optional where it may have none."""
    is_mcp = context.target is not None and context.target.config.oauth == "mcp"
    return [
        FormField(name="clientId", label="Client ID", widget="password"),
        FormField(
            name="clientSecret",
            label="Client secret",
            widget="password",
            help="Where the registration gave one." if is_mcp else "",
        ),
    ]


def connection_form(context: FormContext[TargetConfig, ConnectionConfig]) -> list[FormField]:
    """Nothing is typed in: the workspace is Notion's word."""
    return [
        FormField(name="workspaceId", label="Workspace", hidden=True),
        FormField(name="botId", label="Bot", hidden=True),
    ]


def binding_form(context: FormContext[TargetConfig, ConnectionConfig]) -> list[FormField]:
    """The MCP server knows no version."""
    by_oauth = context.connection is not None and context.connection.method is MethodKind.OAUTH2_AUTHORIZATION_CODE
    is_for_mcp = by_oauth and context.target is not None and context.target.config.oauth == "mcp"
    return [
        FormField(
            name="version",
            label="API version",
            help=f"Such as {VERSION}, written on every request; without it the program's own stays.",
            hidden=is_for_mcp,
        )
    ]


def start(context: OAuthContext[TargetConfig, ConnectionConfig]) -> AuthorizationRequest:
    """Where a member shares pages with the integration, or admits the MCP client."""
    if context.target.config.oauth == "mcp":
        return AuthorizationRequest(url=f"https://{MCP_HOST}/authorize")
    return AuthorizationRequest(url=f"https://{API_HOST}/v1/oauth/authorize", parameters={"owner": "user"})


def token_call(context: OAuthContext[TargetConfig, ConnectionConfig]) -> TokenCall:
    """Each server has its own way."""
    if context.target.config.oauth == "mcp":
        has_secret = "client_secret" in context.target.secrets
        return TokenCall(url=f"https://{MCP_HOST}/token", client_authentication="basic" if has_secret else "none")
    return TokenCall(url=f"https://{API_HOST}/v1/oauth/token", encoding="json", headers={"Notion-Version": VERSION})


def read_grant(answer: Document) -> Grant:
    """Read whose workspace it is; the MCP server does not say."""
    said = {"workspaceId": answer.get("workspace_id"), "botId": answer.get("bot_id")}
    return Grant(config={name: value for name, value in said.items() if isinstance(value, str) and value})


DEFINITION: Final = IntegrationDefinition(
    family_id="notion",
    variant_id="notion-default",
    kind=Kind.CONNECTOR,
    display_name="Notion",
    description="Pages and databases that are shared with an integration, or all of a member's by Notion's MCP server.",
    logo_key="notion",
    target_config=TargetConfig,
    target_secrets=TargetSecrets,
    connection_config=ConnectionConfig,
    binding_config=BindingConfig,
    target_form=target_form,
    target_secret_form=target_secret_form,
    connection_form=connection_form,
    binding_form=binding_form,
    connection_methods=[
        ConnectionMethod(
            kind=MethodKind.OAUTH2_AUTHORIZATION_CODE,
            label="Authorise with Notion",
            secret_type=OAUTH_SECRET,
            requires=("client_id",),
        ),
        ConnectionMethod(
            kind=MethodKind.API_KEY,
            label="Internal integration",
            secret_type=TOKEN_SECRET,
            secrets=[
                SecretField(
                    secret_type=TOKEN_SECRET,
                    label="Integration token",
                    help="It reaches the pages that are shared with the integration.",
                    pattern=r"(?:ntn|secret)_[A-Za-z0-9]{40,64}",
                )
            ],
        ),
    ],
    validate_target=validate_target,
    credential_resolvers={OAUTH_SECRET: lambda context: OAuth2Access()},
    oauth2_authorization_code=OAuth2AuthorizationCode(
        start_authorization=start,
        complete_authorization_code_grant=token_call,
        refresh_access_token=token_call,
        read_grant=read_grant,
    ),
    compile_binding=compile_binding,
    mcp=mcp,
)
