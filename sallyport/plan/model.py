"""The compiled runtime plan as values (contracts section 1): strict, closed, frozen.

Attributes are snake_case, the document's names are camelCase. Make a plan with `sallyport.plan.codec.parse_plan`,
which also checks what no single model can: ids, ties between routes, the digest. An absent optional field is None
here (or its stated default); null in a document is refused before these models see it.
"""

from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from sallyport.destination import Destination
from sallyport.host import HostPatternKind
from sallyport.plan.fields import (
    BaseUrl,
    BindingId,
    ConnectionId,
    Count,
    Digest,
    HeaderName,
    HeaderPrefix,
    HeaderValue,
    Id,
    InjectedHeader,
    Listed,
    Map,
    Method,
    Model,
    NonEmpty,
    PathPrefix,
    PlaceholderValue,
    Port,
    Positive,
    RouteHost,
    RuleHost,
    SandboxId,
    ServiceName,
    Text,
    UserName,
    read_base_url,
    refusal,
)
from sallyport.plan.issue_codes import IssueCode
from sallyport.plan.workload import AgentRuntime, Artifact, Image, McpServer, RuntimeClient, WorkspaceSource

# --- egress: who may go where -----------------------------------------------------------------------------------------


class EgressRule(Model):
    """Allows or denies what it claims. Absent ports, methods and prefixes claim every one; so does the host `*`."""

    rule_id: Id
    action: Literal["allow", "deny"]
    hosts: NonEmpty[RuleHost]
    ports: NonEmpty[Port] | None = None
    methods: NonEmpty[Method] | None = None
    path_prefixes: NonEmpty[PathPrefix] | None = None
    reason: Text | None = None

    @property
    def reads_requests(self) -> bool:
        """Whether the rule looks at methods or paths, so that the hosts it claims must be intercepted."""
        return self.methods is not None or self.path_prefixes is not None


class Egress(Model):
    """What happens to a request that no route claims, and to opaque bytes toward a managed host."""

    default: Literal["passthrough", "deny"]
    managed_passthrough: Literal["deny", "allow"]
    rules: Listed[EgressRule]


# --- routes: which request gets which credential ----------------------------------------------------------------------


class RouteMatch(Model):
    """The requests a route claims. Absent ports mean the scheme's default port, absent methods and prefixes any."""

    hosts: NonEmpty[RouteHost]
    ports: NonEmpty[Port] | None = None
    methods: NonEmpty[Method] | None = None
    path_prefixes: NonEmpty[PathPrefix] | None = None
    encoded_slash: Literal["literal"] | None = None


class Upstream(Model):
    """Where a claimed request goes instead of the host it named."""

    base_url: BaseUrl

    @cached_property
    def destination(self) -> Destination:
        """The base URL as scheme, host and port."""
        return read_base_url(self.base_url)


class BearerInjection(Model):
    """`<header>: Bearer <secret>`; the header is Authorization when absent."""

    type: Literal["bearer"]
    header: InjectedHeader | None = None


class BasicInjection(Model):
    """`Authorization: Basic` over `username:<secret>` (RFC 7617)."""

    type: Literal["basic"]
    username: UserName


class HeaderInjection(Model):
    """`<header>: <prefix><secret>`, with nothing between prefix and secret."""

    type: Literal["header"]
    header: InjectedHeader
    prefix: HeaderPrefix | None = None


class QueryInjection(Model):
    """`?<parameter>=<secret>`, replacing every spelling of that parameter in the request."""

    type: Literal["query"]
    parameter: Text


class AwsSigv4Injection(Model):
    """AWS Signature Version 4 over the request, for one region and service."""

    type: Literal["aws_sigv4"]
    region: ServiceName
    service: ServiceName


AuthInjection = Annotated[
    BearerInjection | BasicInjection | HeaderInjection | QueryInjection | AwsSigv4Injection,
    Field(discriminator="type"),
]


class CredentialResolver(Model):
    """Which secret of which connection; together the name under which it is resolved (contracts section 4)."""

    kind: Literal["integration_connection"]
    connection_id: ConnectionId
    secret_type: Id
    slot_key: Id | None = None
    resolver_key: Id | None = None


class AdditionalCredentialHeader(Model):
    """A second secret, written as the whole value of a header."""

    header: InjectedHeader
    credential_resolver: CredentialResolver


class Placeholder(Model):
    """A value that stands for the credential inside the sandbox, replaced in the named parts of a request only."""

    value: PlaceholderValue
    parts: NonEmpty[Literal["header", "query", "path"]] = Field(alias="in")


class RouteLimits(Model):
    """Bounds on what one sandbox may send over a route."""

    max_request_body_bytes: Count | None = None
    requests_per_minute: Positive | None = None
    max_concurrent: Positive | None = None


class EgressRoute(Model):
    """A claim on requests and the credential written into them.

    Field order matters: each check below reads fields that stand above its own, so that a fault elsewhere in the
    route does not hide it.
    """

    egress_rule_id: Id
    binding_id: BindingId
    family_id: Id
    variant_id: Id
    match: RouteMatch
    upstream: Upstream | None = None
    allow_cleartext: bool = Field(default=False, validate_default=True)
    auth_injection: AuthInjection
    credential_resolver: CredentialResolver
    additional_headers: Map[InjectedHeader, HeaderValue] | None = None
    additional_credential_headers: Listed[AdditionalCredentialHeader] | None = None
    placeholders: Listed[Placeholder] | None = None
    keep_headers: Listed[HeaderName] | None = None
    strip_query: Listed[Text] | None = None
    limits: RouteLimits | None = None

    @field_validator("upstream")
    @classmethod
    def _no_wildcard_to_one_upstream(cls, upstream: Upstream | None, info: ValidationInfo) -> Upstream | None:
        match = info.data.get("match")
        if match is not None and any(host.kind is not HostPatternKind.EXACT for host in match.hosts):
            raise refusal(IssueCode.WILDCARD_BASE_URL, "a wildcard host cannot be sent to one baseUrl")
        return upstream

    @field_validator("allow_cleartext")
    @classmethod
    def _no_credential_in_the_clear(cls, allowed: bool, info: ValidationInfo) -> bool:
        upstream = info.data.get("upstream")
        if upstream is not None and upstream.destination.scheme == "http" and not allowed:
            raise refusal(
                IssueCode.CLEARTEXT_BASE_URL, "an http baseUrl sends the credential in the clear: needs allowCleartext"
            )
        return allowed

    @field_validator("additional_headers", "additional_credential_headers")
    @classmethod
    def _one_writer_per_header[Headers](cls, headers: Headers, info: ValidationInfo) -> Headers:
        names = [*_written_headers(info.data), *_names_of(headers)]
        if len(set(names)) != len(names):
            raise refusal(
                IssueCode.HEADER_CONFLICT, "each header is written by one injection, whatever its letters' case"
            )
        return headers

    @field_validator("keep_headers")
    @classmethod
    def _keep_no_auth_slot(cls, kept: tuple[str, ...] | None, info: ValidationInfo) -> tuple[str, ...] | None:
        written = {"authorization", *_written_headers(info.data)}
        refused = [name for name in kept or () if name.lower() in written]
        if refused:
            raise refusal(
                IssueCode.KEPT_AUTH_HEADER,
                f"a header the gateway writes, and Authorization, cannot be kept: {', '.join(refused)}",
            )
        return kept

    @property
    def injected_headers(self) -> tuple[str, ...]:
        """The lower-case names of every header this route writes."""
        return tuple(_written_headers(self.__dict__))


def _written_headers(fields: Mapping[str, object]) -> list[str]:
    """The lower-case header names the route's fields write; fields that failed their own checks are absent."""
    names: list[str] = []
    match fields.get("auth_injection"):
        case HeaderInjection(header=header) | BearerInjection(header=str(header)):
            names.append(header.lower())
        case BearerInjection() | BasicInjection():
            names.append("authorization")
        case AwsSigv4Injection():
            names += ["authorization", "x-amz-content-sha256", "x-amz-date", "x-amz-security-token"]
    names += _names_of(fields.get("additional_headers"))
    names += _names_of(fields.get("additional_credential_headers"))
    return names


def _names_of(headers: object) -> list[str]:
    match headers:
        case tuple():
            return [item.header.lower() for item in headers]
        case Mapping():
            return [name.lower() for name in headers]
        case _:
            return []


# --- the whole --------------------------------------------------------------------------------------------------------


class CompiledRuntimePlan(Model):
    """Everything decided for one sandbox at one revision."""

    schema_version: Literal[1]
    sandbox_profile_id: Id
    version: Positive
    organization_id: Id
    sandbox_id: SandboxId
    revision: Positive
    digest: Digest
    image: Image
    egress: Egress
    egress_routes: Listed[EgressRoute]
    artifacts: Listed[Artifact]
    workspace_sources: Listed[WorkspaceSource]
    runtime_clients: Listed[RuntimeClient]
    agent_runtimes: Listed[AgentRuntime]
    mcp_servers: Listed[McpServer]
