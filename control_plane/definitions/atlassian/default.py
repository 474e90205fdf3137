"""Atlassian as a connector: Jira and Confluence of one cloud site, and the hosted MCP server.

From Atlassian's documentation: "OAuth 2.0 (3LO) apps" (authorize and token at auth.atlassian.com, `audience`,
`prompt=consent`, `offline_access` for a refresh token, requests to api.atlassian.com/ex/PRODUCT/CLOUDID), "Create OAuth
2.0 credential for service accounts" (client credentials at the same token endpoint, an hour), "Manage API tokens" (HTTP
Basic with the e-mail address; one with scopes is for api.atlassian.com, one without for SITE.atlassian.net), and of the
Rovo MCP server "Configuring OAuth 2.1" and "Configuring authentication via API token" (mcp.atlassian.com/v1/mcp; a
personal token by HTTP Basic). Nothing is said there of client credentials: such a connection gets no MCP server.

The site is a member's word. It opens nothing: the token reaches the sites it was granted for, whatever the path says.
"""

from collections.abc import Sequence
from typing import Final, Literal

from control_plane.definitions.atlassian.oauth import (
    CLIENT_CREDENTIALS,
    OAUTH,
    ConnectionConfig,
    TargetSecrets,
    connection_form,
)
from control_plane.definitions.contract import (
    BindingContext,
    Compiled,
    ConnectionMethod,
    Document,
    EgressUrl,
    FormContext,
    FormField,
    HttpMcp,
    IntegrationDefinition,
    Issue,
    Kind,
    McpServer,
    MethodKind,
    Nothing,
    OAuth2Access,
    Route,
    SecretField,
)
from sallyport.plan.fields import Listed, Model

API_HOST: Final = "api.atlassian.com"
MCP_HOST: Final = "mcp.atlassian.com"
OAUTH_SECRET: Final = "oauth2_access_token"
API_TOKEN_SECRET: Final = "api_token"
CLIENT_SECRET: Final = "client_secret"

Product = Literal["jira", "confluence"]
PRODUCTS: Final[tuple[Product, ...]] = ("jira", "confluence")
# Where a site itself answers; with api.atlassian.com the product stands in the path.
_ON_SITE: Final[dict[Product, tuple[str, ...]]] = {
    "jira": ("/rest/api", "/rest/agile"),
    "confluence": ("/wiki/rest/api", "/wiki/api/v2"),
}


class BindingConfig(Model):
    """The products whose API the sandbox may use, reading by GET alone, and the MCP server."""

    products: Listed[Product] = ("jira",)
    access: Literal["read", "write"] = "write"
    mcp: bool = True


type Context = BindingContext[Nothing, ConnectionConfig, BindingConfig]


def _has_mcp(context: Context) -> bool:
    return context.config.mcp and context.connection.method is not MethodKind.OAUTH2_CLIENT_CREDENTIALS


def _injection(context: Context) -> Document:
    if context.connection.method is not MethodKind.API_KEY:
        return {"type": "bearer"}
    email = context.connection.config.email
    assert email is not None, "validate_binding refuses a token without its owner's address"
    return {"type": "basic", "username": email}


def compile_binding(context: Context) -> Compiled:
    """The products at the one address or the other, and the MCP server where it is wanted and the connection can."""
    config, connection = context.config, context.connection.config
    products = [product for product in PRODUCTS if product in config.products]
    routes = []
    if products and connection.cloud_id is not None:
        routes.append(_api(context, "api", API_HOST, [f"/ex/{product}/{connection.cloud_id}" for product in products]))
    if products and connection.site is not None and context.connection.method is MethodKind.API_KEY:
        prefixes = [prefix for product in products for prefix in _ON_SITE[product]]
        routes.append(_api(context, "site", f"{connection.site}.atlassian.net", prefixes))
    if _has_mcp(context):
        routes.append(
            Route(
                key="mcp",
                hosts=[MCP_HOST],
                methods=["GET", "POST", "DELETE"],
                path_prefixes=["/v1/mcp"],
                auth_injection=_injection(context),
            )
        )
    return Compiled(routes=routes)


def _api(context: Context, key: str, host: str, prefixes: Sequence[str]) -> Route:
    return Route(
        key=key,
        hosts=[host],
        methods=["GET"] if context.config.access == "read" else ["GET", "POST", "PUT", "DELETE"],
        path_prefixes=prefixes,
        auth_injection=_injection(context),
    )


def mcp(context: Context) -> list[McpServer]:
    """The hosted server."""
    if not _has_mcp(context):
        return []
    return [McpServer(server_id="atlassian", name="atlassian", transport=HttpMcp(url=EgressUrl("mcp", "/v1/mcp")))]


def validate_binding(context: Context) -> list[Issue]:
    """What the connection does not say, and this binding needs."""
    connection, method = context.connection.config, context.connection.method
    issues = []
    if method is MethodKind.API_KEY and connection.email is None:
        message = "the connection has no e-mail address, which goes with an API token"
        issues.append(Issue("atlassian.email_missing", "", message))
    if method is MethodKind.OAUTH2_CLIENT_CREDENTIALS and connection.client_id is None:
        message = "the connection has no clientId, which goes with its client secret"
        issues.append(Issue("atlassian.client_id_missing", "", message))
    has_site = connection.site is not None and method is MethodKind.API_KEY
    if context.config.products and connection.cloud_id is None and not has_site:
        message = "the connection names no cloudId, so there is no address for a product"
        issues.append(Issue("atlassian.cloud_id_missing", "/products", message))
    return issues


def binding_form(context: FormContext[Nothing, ConnectionConfig]) -> list[FormField]:
    """The MCP server is offered where the connection can use it."""
    by_client = context.connection is not None and context.connection.method is MethodKind.OAUTH2_CLIENT_CREDENTIALS
    return [
        FormField(name="products", label="Products", widget="list", choices=PRODUCTS, help="Whose API may be used."),
        FormField(
            name="access",
            label="Access",
            widget="select",
            choices=("read", "write"),
            help="Of the API; reading is GET alone. What the MCP server may do, its token decides.",
        ),
        FormField(name="mcp", label="Atlassian's MCP server", widget="checkbox", hidden=by_client),
    ]


DEFINITION: Final = IntegrationDefinition(
    family_id="atlassian",
    variant_id="atlassian-default",
    kind=Kind.CONNECTOR,
    display_name="Atlassian",
    description="Jira and Confluence of a cloud site, by their APIs and Atlassian's MCP server.",
    logo_key="atlassian",
    target_config=Nothing,
    target_secrets=TargetSecrets,
    connection_config=ConnectionConfig,
    binding_config=BindingConfig,
    connection_form=connection_form,
    binding_form=binding_form,
    connection_methods=[
        ConnectionMethod(
            kind=MethodKind.OAUTH2_AUTHORIZATION_CODE,
            label="Authorise with Atlassian",
            secret_type=OAUTH_SECRET,
            requires=("client_id", "client_secret"),
        ),
        ConnectionMethod(
            kind=MethodKind.OAUTH2_CLIENT_CREDENTIALS,
            label="OAuth client of a service account",
            secret_type=OAUTH_SECRET,
            secrets=[SecretField(secret_type=CLIENT_SECRET, label="Client secret")],
        ),
        ConnectionMethod(
            kind=MethodKind.API_KEY,
            label="API token",
            secret_type=API_TOKEN_SECRET,
            secrets=[
                SecretField(
                    secret_type=API_TOKEN_SECRET,
                    label="API token",
                    help="One with scopes is narrower; it needs the cloud id.",
                    pattern=r"[A-Za-z0-9_=.-]{20,512}",
                )
            ],
        ),
    ],
    credential_resolvers={OAUTH_SECRET: lambda context: OAuth2Access()},
    oauth2_authorization_code=OAUTH,
    oauth2_client_credentials=CLIENT_CREDENTIALS,
    validate_binding_write_context=validate_binding,
    compile_binding=compile_binding,
    mcp=mcp,
)
