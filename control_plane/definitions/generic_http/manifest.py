"""What stands in a manifest: the document as values, strict, with the types of the plan wherever it says the same.

docs/integrations.md explains each member. Texts called `Templated` may hold variables; what may stand where is checked
in checks.py, since no single member knows.
"""

import re
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field, StringConstraints

from control_plane.definitions.contract import MethodKind
from control_plane.definitions.fields import Scope
from control_plane.definitions.generic_http.template import TemplateError, parse_template
from control_plane.definitions.generic_http.variables import Segment, Variable
from sallyport.plan.fields import (
    Argument,
    HeaderName,
    Id,
    InjectedHeader,
    Listed,
    Map,
    Method,
    Model,
    NonEmpty,
    Port,
    Text,
    VariableName,
    refusal,
)
from sallyport.plan.issue_codes import IssueCode
from sallyport.plan.model import AuthInjection, Placeholder, RouteLimits
from sallyport.plan.schema_faults import Unions
from sallyport.plan.workload import Step

# Where a value is one of several objects, for schema_faults.
UNIONS: Final[Unions] = (
    (("connectionMethods", None), "kind"),
    (("connectionMethods", None, "auth"), "type"),
    (("routes", None, "auth"), "type"),
    (("mcpServers", None, "transport"), "type"),
    (("artifacts", None, "lifecycle", None, None), "op"),
)


def _check_template(text: str) -> str:
    try:
        parse_template(text)
    except TemplateError as error:
        raise refusal(IssueCode.MALFORMED, str(error)) from None
    return text


def _check_regex(text: str) -> str:
    try:
        re.compile(text)
    except re.error:
        raise refusal(IssueCode.MALFORMED, "not a regular expression") from None
    return text


Templated = Annotated[str, StringConstraints(min_length=1, max_length=2_048), AfterValidator(_check_template)]
Slug = Annotated[str, StringConstraints(pattern=r"^[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?$")]
Pattern = Annotated[str, StringConstraints(min_length=1, max_length=512), AfterValidator(_check_regex)]
VariablePath = Annotated[str, StringConstraints(pattern=r"^(?:target|connection|binding)\.[a-z][A-Za-z0-9]{0,39}$")]
# A word of a document, where a strict model would want the member itself.
Kind = Annotated[MethodKind, Field(strict=False)]
Conditions = Map[VariablePath, NonEmpty[Segment]]


class Secret(Model):
    """A secret a member types in."""

    secret_type: Id
    label: Text
    help: Text | None = None
    pattern: Pattern | None = None
    required: bool = True


class ApiKey(Model):
    """A connection by secrets that are typed in; routes inject the first, or sign with both of AWS's."""

    kind: Literal[MethodKind.API_KEY]
    label: Text
    auth: AuthInjection
    secrets: NonEmpty[Secret]


class TokenMembers(Model):
    """Where in a token endpoint's answer things stand, if not where RFC 6749 has them."""

    access_token: Text = "access_token"
    refresh_token: Text = "refresh_token"
    expires_in: Text = "expires_in"


class _OAuth(Model):
    label: Text
    auth: AuthInjection
    token_url: Templated
    scopes: Listed[Scope] = ()
    client_authentication: Literal["basic", "post", "none"] = "basic"
    encoding: Literal["form", "json"] = "form"
    token_parameters: Map[Text, Text] | None = None
    token_headers: Map[InjectedHeader, Text] | None = None
    token_members: TokenMembers = TokenMembers()


class AuthorizationCode(_OAuth):
    """A connection by OAuth's authorization code, with the operator's client."""

    kind: Literal[MethodKind.OAUTH2_AUTHORIZATION_CODE]
    authorize_url: Templated
    authorize_parameters: Map[Text, Text] | None = None
    scope_separator: Literal["space", "comma"] = "space"


class ClientCredentials(_OAuth):
    """A connection by OAuth's client credentials: the client is the member's, its id in the connection."""

    kind: Literal[MethodKind.OAUTH2_CLIENT_CREDENTIALS]


ConnectionMethod = Annotated[ApiKey | AuthorizationCode | ClientCredentials, Field(discriminator="kind")]


class SecretHeader(Model):
    """A further secret of the connection, as the whole value of a header."""

    header: InjectedHeader
    secret_type: Id


class Route(Model):
    """A route of the plan, in its words. `auth` and `secretType` are the connection method's unless they stand here."""

    key: Slug
    hosts: NonEmpty[Templated]
    ports: NonEmpty[Port] | None = None
    methods: NonEmpty[Method]
    path_prefixes: NonEmpty[Templated]
    base_url: Templated | None = None
    connection_methods: NonEmpty[Kind] | None = None
    when: Conditions | None = None
    auth: AuthInjection | None = None
    secret_type: Id | None = None
    placeholders: Listed[Placeholder] = ()
    additional_headers: Map[InjectedHeader, Templated] | None = None
    additional_credential_headers: Listed[SecretHeader] = ()
    keep_headers: Listed[HeaderName] = ()
    strip_query: Listed[Text] = ()
    limits: RouteLimits | None = None
    encoded_slash: Literal["literal"] | None = None
    allow_cleartext: bool = False


class HttpTransport(Model):
    """An MCP server behind a route of the manifest."""

    type: Literal["streamable-http"]
    route_key: Slug
    path: Templated
    headers: Map[HeaderName, Templated] | None = None


class StdioTransport(Model):
    """An MCP server started in the sandbox."""

    type: Literal["stdio"]
    command: Argument
    args: Listed[Templated] = ()
    env: Map[VariableName, Templated] | None = None


class McpServer(Model):
    """An MCP server; it is there where its route is."""

    server_id: Slug
    name: Text
    transport: Annotated[HttpTransport | StdioTransport, Field(discriminator="type")]
    connection_methods: NonEmpty[Kind] | None = None
    when: Conditions | None = None


class Lifecycle(Model):
    """The steps of the plan; no variable stands in them."""

    install: Listed[Step] = ()
    update: Listed[Step] | None = None
    remove: Listed[Step] | None = None


class Artifact(Model):
    """An artifact of the plan, with variables in its environment."""

    artifact_key: Id
    name: Text
    description: Text | None = None
    after: Listed[Id] | None = None
    env: Map[VariableName, Templated] | None = None
    lifecycle: Lifecycle = Lifecycle()


class Manifest(Model):
    """A whole integration."""

    manifest_version: Literal[1]
    family_id: Slug
    variant_id: Slug
    kind: Literal["connector"]
    display_name: Text
    description: Text
    logo_key: Slug = "generic-http"
    target_variables: Listed[Variable] = ()
    connection_variables: Listed[Variable] = ()
    binding_variables: Listed[Variable] = ()
    connection_methods: NonEmpty[ConnectionMethod]
    routes: NonEmpty[Route]
    mcp_servers: Listed[McpServer] = ()
    artifacts: Listed[Artifact] = ()
