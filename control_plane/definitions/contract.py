"""What an integration consists of (contracts section 5): everything Sallyport knows of a provider, as one value.

A definition describes and never acts. Its functions are pure: they take parsed configuration and return documents, so
that a plan compiles to the same bytes everywhere and a definition can be read, and tested, without a network. What has
to be asked over HTTP or signed with a secret is described by one of the closed kinds below and carried out by the rooms
that may (control_plane.oauth, control_plane.webhooks); why is in docs/decisions/0012-definitions-describe.md.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, NamedTuple

from sallyport.plan.fields import Model

# A JSON object in the words of the plan or of the API.
type Document = Mapping[str, object]


class Kind(StrEnum):
    """What an integration is to a sandbox; a binding's kind has to be its definition's."""

    AGENT = "agent"
    CONNECTOR = "connector"
    GIT = "git"


class Nothing(Model):
    """The configuration of what has none."""


def provider_owned(model: type[Model]) -> frozenset[str]:
    """Return the members, as JSON names them, that only a provider's own word may set (fields.FromProvider).

    An account's id in a connection decides whose tokens are minted and whose events arrive. A member who could write
    it, at any endpoint that takes a connection's configuration, would be let in at another's account.
    """
    members = model.model_json_schema().get("properties", {})
    return frozenset(name for name, schema in members.items() if schema.get("readOnly") is True)


# --- what an operator and a member have configured, parsed ------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Target[T: Model]:
    """An operator's target: the provider as this environment offers it. `secrets` names those that are set."""

    key: str
    config: T
    secrets: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection[C: Model]:
    """A member's connection. `method` is one of its definition's; `secret_types` names the credentials it has."""

    id: str
    method: "MethodKind"
    config: C
    secret_types: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class BindingContext[T: Model, C: Model, B: Model]:
    """All that decides what a binding compiles to."""

    target: Target[T]
    connection: Connection[C]
    binding_id: str
    config: B


class Issue(NamedTuple):
    """One thing wrong: a code `<namespace>.<name>`, an RFC 6901 pointer, a message that holds no value of a secret.

    A binding's pointer begins in its configuration, a target's in `{config, secrets}`, a way back's in its query.
    """

    code: str
    pointer: str
    message: str


# --- what a binding compiles to ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A route of a plan without what the compiler adds: the ids of rule, binding, connection, family and variant.

    `key` is unique within the binding and names the route to `EgressUrl`. Hosts, ports, methods, prefixes, placeholders
    and limits are spelled as in the plan; `auth_injection` is that object of the plan. `secret_type` None is the one
    that the connection's method keeps (`ConnectionMethod.secret_type`).
    """

    key: str
    hosts: Sequence[str]
    methods: Sequence[str] | None = None
    path_prefixes: Sequence[str] | None = None
    ports: Sequence[int] | None = None
    base_url: str | None = None
    auth_injection: Document
    secret_type: str | None = None
    slot_key: str | None = None
    resolver_key: str | None = None
    placeholders: Sequence[Document] = ()
    additional_headers: Mapping[str, str] | None = None
    additional_credential_headers: Sequence["CredentialHeader"] = ()
    keep_headers: Sequence[str] = ()
    strip_query: Sequence[str] = ()
    limits: Document | None = None
    encoded_slash: Literal["literal"] | None = None
    allow_cleartext: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialHeader:
    """A second secret of the same connection, written as the whole value of a header."""

    header: str
    secret_type: str
    slot_key: str | None = None
    resolver_key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiled:
    """What one binding adds to a plan. All but routes are objects of the plan, an agent runtime without `bindingId`."""

    routes: Sequence[Route] = ()
    artifacts: Sequence[Document] = ()
    runtime_clients: Sequence[Document] = ()
    agent_runtimes: Sequence[Document] = ()
    workspace_sources: Sequence[Document] = ()


class EgressUrl(NamedTuple):
    """The canonical upstream URL of one of the binding's own routes, and a path below it."""

    route_key: str
    path: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpMcp:
    """An MCP server spoken to by streamable HTTP."""

    url: str | EgressUrl
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class StdioMcp:
    """An MCP server started in the sandbox."""

    command: str
    args: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class McpServer:
    """One MCP server a binding offers to the sandbox's agents. `server_id` is unique within the binding."""

    server_id: str
    name: str
    transport: HttpMcp | StdioMcp


@dataclass(frozen=True, slots=True, kw_only=True)
class McpConfig:
    """The file in which an agent looks for MCP servers: one of its own runtime client's.

    A binding that compiled to no such client has no agent in the sandbox, and nothing to write to.

    `path` is where they stand in the file; `headers_name` is what the agent calls HTTP headers there, and
    `http_type` what it wants as `type` of a streamable-HTTP server (None: no such member).
    """

    client_id: str
    file_id: str
    format: Literal["toml", "json"]
    path: Sequence[str]
    headers_name: str
    http_type: str | None = None


# --- how a connection is made -----------------------------------------------------------------------------------------


class MethodKind(StrEnum):
    """How a member authorises a connection."""

    API_KEY = "api-key"
    OAUTH2_AUTHORIZATION_CODE = "oauth2-authorization-code"
    OAUTH2_CLIENT_CREDENTIALS = "oauth2-client-credentials"
    REDIRECT = "redirect"
    GITHUB_APP_INSTALLATION = "github-app-installation"


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretField:
    """A secret that a member types in. `pattern` is checked against the whole value and never shown with it."""

    secret_type: str
    label: str
    help: str = ""
    pattern: str | None = None
    required: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionMethod:
    """One way to connect. `secret_type` is what the routes of a connection so made inject unless they say otherwise.

    It is a secret a member typed, or the name of one of the definition's credential resolvers. `requires` names the
    target secrets without which the method is not offered.
    """

    kind: MethodKind
    label: str
    secret_type: str
    secrets: Sequence[SecretField] = ()
    requires: Sequence[str] = ()


# --- credentials that are made, not stored ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class GitHubInstallationToken:
    """A token of a GitHub App's installation, narrowed to repositories (`owner/name`); none of them is none at all.

    The App's id and private key are target secrets or connection secrets of these names.
    """

    api_base_url: str
    installation_id: str
    app_id: str
    private_key: str
    repositories: Sequence[str]
    permissions: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AwsSession:
    """AWS keys: those stored as `access_key_id` and `secret_access_key`, or a role assumed with them."""

    role_arn: str | None
    external_id: str | None
    session_name: str
    duration_seconds: int
    sts_url: str
    region: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OAuth2Access:
    """The access token of a connection by authorization code or client credentials, refreshed ahead of its end."""


type CredentialSource = GitHubInstallationToken | AwsSession | OAuth2Access


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolveContext[T: Model, C: Model, B: Model]:
    """What a resolver may look at. `binding` is None where a credential is tried outside a binding (health)."""

    target: Target[T]
    connection: Connection[C]
    binding: B | None


# --- OAuth 2.0 --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class OAuthContext[T: Model, C: Model]:
    """A target, and the configuration the connection has or is to have."""

    target: Target[T]
    config: C


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorizationRequest:
    """Where to send the member's browser. state, redirect_uri, client_id and PKCE are added by control_plane.oauth.

    Scopes are joined by spaces (RFC 6749); a provider that wants them otherwise has `scope` among its parameters.
    """

    url: str
    scopes: Sequence[str] = ()
    parameters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenCall:
    """A call of a token endpoint. grant_type, code, refresh_token and the client's authentication are added."""

    url: str
    client_authentication: Literal["basic", "post", "none"] = "basic"
    parameters: Mapping[str, str] = field(default_factory=dict)
    encoding: Literal["form", "json"] = "form"
    # What the provider asks for besides; never what HTTP or the client's authentication write.
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What a token endpoint's answer means. The token members name where in the answer the values stand.

    `config` is merged into the connection's configuration (a workspace's id, a cloud id): never a secret.
    """

    access_token: str = "access_token"
    refresh_token: str = "refresh_token"
    expires_in: str = "expires_in"
    config: Document = field(default_factory=dict)


class GrantRefused(Exception):
    """A token endpoint's answer that is a refusal though its status is 200. `permanent`: asking again is useless."""

    def __init__(self, reason: str, *, permanent: bool) -> None:
        super().__init__(reason)
        self.reason = reason
        self.permanent = permanent


def standard_grant(answer: Document) -> Grant:
    """Read an answer as RFC 6749 section 5.1 has it."""
    return Grant()


@dataclass(frozen=True, slots=True, kw_only=True)
class OAuth2AuthorizationCode[T: Model, C: Model]:
    """Authorization code with PKCE (RFC 6749, 7636). The client's id and secret are target secrets of these names.

    `complete_authorization_code_grant` and `refresh_access_token` say where to ask; `read_grant` reads the answer of
    either, and raises GrantRefused.
    """

    start_authorization: Callable[[OAuthContext[T, C]], AuthorizationRequest]
    complete_authorization_code_grant: Callable[[OAuthContext[T, C]], TokenCall]
    refresh_access_token: Callable[[OAuthContext[T, C]], TokenCall]
    read_grant: Callable[[Document], Grant] = standard_grant
    client_id: str = "client_id"
    client_secret: str = "client_secret"


@dataclass(frozen=True, slots=True, kw_only=True)
class OAuth2ClientCredentials[T: Model, C: Model]:
    """Client credentials (RFC 6749 section 4.4): the secret is the connection's, the id is in its configuration."""

    exchange_client_credentials: Callable[[OAuthContext[T, C]], TokenCall]
    client_id: Callable[[C], str]
    scopes: Callable[[OAuthContext[T, C]], Sequence[str]]
    client_secret: str = "client_secret"
    read_grant: Callable[[Document], Grant] = standard_grant


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigToProve:
    """What a way back claims, and how the member proves that it is theirs: anybody can write another's id into a query.

    `token` exchanges `code` for a token of the member's own at the provider; with it as bearer, a GET of `url` has to
    be answered 200. Then the token is thrown away and `config` taken; without that, nothing is.
    """

    config: Document
    code: str = field(repr=False)  # it is as good as a token until it is exchanged
    token: TokenCall
    url: str
    client_id: str = "client_id"
    client_secret: str = "client_secret"


@dataclass(frozen=True, slots=True, kw_only=True)
class RedirectHandler[T: Model, C: Model]:
    """A redirect that is no OAuth, such as the installation of an App.

    `start` gives the URL to send the browser to; `state_parameter` is added. `complete` reads the query of the way
    back into the connection's configuration, into one that is still to be proved, or into what is wrong with it.
    """

    start: Callable[[OAuthContext[T, C]], str]
    complete: Callable[[OAuthContext[T, C], Mapping[str, str]], "Document | ConfigToProve | Sequence[Issue]"]
    state_parameter: str = "state"


# --- webhooks ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookRequest:
    """What a provider sent. Header names are in lower case."""

    method: str
    headers: Mapping[str, str]
    query: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookResponse:
    """An immediate answer, such as the echo of a challenge. It is given to whoever asks, so it tells nothing."""

    status: int
    body: bytes
    content_type: str = "application/json"
    # Slack signs its challenge like everything else; a provider that does not is answered without.
    needs_verification: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookEvent:
    """An event as its provider tells it. `external_id` is unique at the provider, so that a redelivery is known."""

    external_id: str
    type: str
    payload: Document
    occurred_at: int | None = None
    # What names the provider's account in the payload (an installation, a workspace), for resolve_connection.
    subject: Mapping[str, str] = field(default_factory=dict)


class WebhookRefused(Exception):
    """A request that is no event of this provider; answered 400 with this reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HmacSignature:
    """HMAC-SHA256 over the body in a header: `prefix` and then hex (GitHub, Linear)."""

    header: str
    prefix: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlackSignature:
    """Slack's v0: over `v0:timestamp:body`, no older than 300 s."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StandardSignature:
    """Standard Webhooks 1.0: `webhook-id`, `webhook-timestamp`, `webhook-signature` over `id.timestamp.body`."""


type Verification = HmacSignature | SlackSignature | StandardSignature


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookHandler[C: Model]:
    """How requests of a provider are read and proved.

    `secret` names the signing secret: of the target or of the connection, as `WebhookSource.ownership` says.
    `max_age` bounds how old a payload's own timestamp may be where the signature covers it; None where there is none.
    """

    resolve_webhook_request: Callable[[WebhookRequest], WebhookResponse | WebhookEvent]
    verification: Verification
    secret: str = "webhook_secret"
    # The first candidate this is true of is the event's connection; candidates come in the order of their ids.
    resolve_connection: Callable[[WebhookEvent, Connection[C]], bool] = lambda event, connection: True
    occurred_at: Callable[[WebhookEvent], int | None] = lambda event: event.occurred_at
    max_age: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookSource:
    """Who owns the source of a provider's events, how they find their connection, and who registers it."""

    ownership: Literal["target", "connection"]
    routing: Literal["path", "payload"]
    registration: Literal["implicit", "managed"]
    event_types: Sequence[str]
    # What to do at the provider, shown beside the URL.
    describe: str


# --- forms ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class FormField:
    """How one member of a schema is shown. `choices` narrows what it may be; `hidden` leaves it out."""

    name: str
    label: str
    help: str = ""
    widget: Literal["text", "password", "textarea", "select", "checkbox", "list", "number"] = "text"
    choices: Sequence[str] | None = None
    hidden: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FormContext[T: Model, C: Model]:
    """What a form may depend on; what is not known yet is None. `value` is what has been entered so far."""

    target: Target[T] | None
    connection: Connection[C] | None
    value: Document


type Form[T: Model, C: Model] = Callable[[FormContext[T, C]], Sequence[FormField]]


# --- the whole --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class IntegrationDefinition[T: Model, S: Model, C: Model, B: Model]:
    """A provider's variant. The four models are the configuration of its target, target secrets, connection, binding.

    Every member of a target secret's model is a `SecretText`, every such member optional. Schemas say what is valid;
    forms only how it is shown.
    """

    family_id: str
    variant_id: str
    kind: Kind
    display_name: str
    description: str
    logo_key: str
    target_config: type[T]
    target_secrets: type[S]
    connection_config: type[C]
    binding_config: type[B]
    connection_methods: Sequence[ConnectionMethod]
    compile_binding: Callable[[BindingContext[T, C, B]], Compiled]
    target_form: Form[T, C] | None = None
    target_secret_form: Form[T, C] | None = None
    connection_form: Form[T, C] | None = None
    binding_form: Form[T, C] | None = None
    validate_target: Callable[[Target[T]], Sequence[Issue]] | None = None
    validate_binding_write_context: Callable[[BindingContext[T, C, B]], Sequence[Issue]] | None = None
    # By name. A route's resolver key names one, and where it has none its secret type; what no resolver is named like
    # is stored.
    credential_resolvers: Mapping[str, Callable[[ResolveContext[T, C, B]], CredentialSource]] = field(
        default_factory=dict
    )
    oauth2_authorization_code: OAuth2AuthorizationCode[T, C] | None = None
    oauth2_client_credentials: OAuth2ClientCredentials[T, C] | None = None
    redirect_handler: RedirectHandler[T, C] | None = None
    webhook_handler: WebhookHandler[C] | None = None
    webhook_source: WebhookSource | None = None
    mcp: Callable[[BindingContext[T, C, B]], Sequence[McpServer]] | None = None
    mcp_config: McpConfig | None = None

    @property
    def target_key(self) -> str:
        """The key of the target that `targets sync` makes of this definition; an operator may add others."""
        return self.variant_id

    def method(self, kind: MethodKind) -> ConnectionMethod | None:
        """Return the definition's connection method of a kind."""
        return next((method for method in self.connection_methods if method.kind is kind), None)


# One registry holds definitions of every configuration; what a function gets was parsed by its own definition's models.
type AnyDefinition = IntegrationDefinition[Any, Any, Any, Any]
