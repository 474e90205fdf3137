"""Linear as a connector.

From Linear's public documentation (linear.app): developers/oauth-2-0-authentication (scopes are joined by commas,
tokens end after a day and are refreshed), developers/graphql, developers/webhooks, and docs/mcp (the hosted MCP server
takes a token or a personal key as bearer).
"""

from typing import Annotated, Final

import orjson

from control_plane.definitions.contract import (
    AuthorizationRequest,
    BindingContext,
    Compiled,
    Connection,
    ConnectionMethod,
    EgressUrl,
    FormContext,
    FormField,
    HmacSignature,
    HttpMcp,
    IntegrationDefinition,
    Kind,
    McpServer,
    MethodKind,
    Nothing,
    OAuth2Access,
    OAuth2AuthorizationCode,
    OAuthContext,
    Route,
    SecretField,
    TokenCall,
    WebhookEvent,
    WebhookHandler,
    WebhookRefused,
    WebhookRequest,
    WebhookSource,
)
from control_plane.definitions.fields import FromProvider, Scope, SecretText
from sallyport.plan.fields import Listed, Model, Text

API_HOST: Final = "api.linear.app"
MCP_HOST: Final = "mcp.linear.app"
OAUTH_SECRET: Final = "oauth2_access_token"
API_KEY_SECRET: Final = "api_key"
# Linear's own advice against replays.
MAX_AGE_SECONDS: Final = 60


class TargetSecrets(Model):
    """What the operator's OAuth application at Linear is known by, and what signs its events."""

    client_id: SecretText | None = None
    client_secret: SecretText | None = None
    webhook_secret: SecretText | None = None


class ConnectionConfig(Model):
    """The scopes asked for, and the workspace that was authorised."""

    scopes: Listed[Scope] | None = None
    organization_id: Annotated[Text | None, FromProvider] = None


class BindingConfig(Model):
    """What the sandbox may reach."""

    mcp: bool = True


def compile_binding(context: BindingContext[Nothing, ConnectionConfig, BindingConfig]) -> Compiled:
    """The GraphQL API, and the MCP server where it is wanted."""
    by_key = context.connection.method is MethodKind.API_KEY
    api = Route(
        key="api",
        hosts=[API_HOST],
        methods=["POST"],
        path_prefixes=["/graphql"],
        # A personal key stands there as it is, without a scheme.
        auth_injection={"type": "header", "header": "Authorization"} if by_key else {"type": "bearer"},
    )
    server = Route(
        key="mcp",
        hosts=[MCP_HOST],
        methods=["GET", "POST", "DELETE"],
        path_prefixes=["/mcp"],
        auth_injection={"type": "bearer"},
    )
    return Compiled(routes=[api, server] if context.config.mcp else [api])


def mcp(context: BindingContext[Nothing, ConnectionConfig, BindingConfig]) -> list[McpServer]:
    """The hosted server, which takes a personal key as well as an OAuth token."""
    if not context.config.mcp:
        return []
    return [McpServer(server_id="linear", name="linear", transport=HttpMcp(url=EgressUrl("mcp", "/mcp")))]


def connection_form(context: FormContext[Nothing, ConnectionConfig]) -> list[FormField]:
    """A personal key has the scopes it was made with."""
    by_key = context.connection is not None and context.connection.method is MethodKind.API_KEY
    return [
        FormField(
            name="scopes",
            label="Scopes",
            widget="list",
            help="read and write where none is named; issues:create and comments:create are narrower than write.",
            hidden=by_key,
        )
    ]


def binding_form(context: FormContext[Nothing, ConnectionConfig]) -> list[FormField]:
    """There is one thing to choose."""
    return [FormField(name="mcp", label="Linear's MCP server", widget="checkbox")]


def token_call(context: OAuthContext[Nothing, ConnectionConfig]) -> TokenCall:
    """The client's id and secret stand in the body."""
    return TokenCall(url=f"https://{API_HOST}/oauth/token", client_authentication="post")


def start(context: OAuthContext[Nothing, ConnectionConfig]) -> AuthorizationRequest:
    """Ask for a token of the member's."""
    return AuthorizationRequest(
        url="https://linear.app/oauth/authorize",
        parameters={"scope": ",".join(context.config.scopes or ("read", "write")), "prompt": "consent"},
    )


def resolve_webhook_request(request: WebhookRequest) -> WebhookEvent:
    """An event is told by its delivery's id; `organizationId` names the workspace."""
    try:
        payload = orjson.loads(request.body)
    except orjson.JSONDecodeError:
        raise WebhookRefused("the body is not JSON") from None
    delivery = request.headers.get("linear-delivery")
    if not isinstance(payload, dict) or not delivery:
        raise WebhookRefused("an object and the field Linear-Delivery are expected")
    kind, action = payload.get("type"), payload.get("action")
    at = payload.get("webhookTimestamp")
    workspace = payload.get("organizationId")
    return WebhookEvent(
        external_id=delivery,
        type=f"{kind}.{action}" if isinstance(kind, str) and isinstance(action, str) else "unknown",
        payload=payload,
        occurred_at=at // 1000 if isinstance(at, int) else None,
        subject={"organization_id": workspace} if isinstance(workspace, str) else {},
    )


def resolve_connection(event: WebhookEvent, connection: Connection[ConnectionConfig]) -> bool:
    """The connection that was authorised for the event's workspace."""
    workspace = event.subject.get("organization_id")
    return workspace is not None and connection.config.organization_id == workspace


DEFINITION: Final = IntegrationDefinition(
    family_id="linear",
    variant_id="linear-default",
    kind=Kind.CONNECTOR,
    display_name="Linear",
    description="Issues and projects of a Linear workspace, by its API and its MCP server.",
    logo_key="linear",
    target_config=Nothing,
    target_secrets=TargetSecrets,
    connection_config=ConnectionConfig,
    binding_config=BindingConfig,
    connection_form=connection_form,
    binding_form=binding_form,
    connection_methods=[
        ConnectionMethod(
            kind=MethodKind.OAUTH2_AUTHORIZATION_CODE,
            label="Authorise with Linear",
            secret_type=OAUTH_SECRET,
            requires=("client_id", "client_secret"),
        ),
        ConnectionMethod(
            kind=MethodKind.API_KEY,
            label="Personal API key",
            secret_type=API_KEY_SECRET,
            secrets=[SecretField(secret_type=API_KEY_SECRET, label="API key", pattern=r"lin_api_[A-Za-z0-9]{20,}")],
        ),
    ],
    credential_resolvers={OAUTH_SECRET: lambda context: OAuth2Access()},
    oauth2_authorization_code=OAuth2AuthorizationCode(
        start_authorization=start,
        complete_authorization_code_grant=token_call,
        refresh_access_token=token_call,
    ),
    webhook_handler=WebhookHandler(
        resolve_webhook_request=resolve_webhook_request,
        verification=HmacSignature(header="linear-signature"),
        resolve_connection=resolve_connection,
        max_age=MAX_AGE_SECONDS,
    ),
    webhook_source=WebhookSource(
        ownership="target",
        routing="payload",
        registration="implicit",
        event_types=("Issue.create", "Issue.update", "Issue.remove", "Comment.create", "Comment.update"),
        describe="Enter this URL as webhook URL in the OAuth application's settings at Linear; keep its secret here.",
    ),
    compile_binding=compile_binding,
    mcp=mcp,
)
