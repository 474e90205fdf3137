"""A manifest as a definition: the one function that others call, and the definition's own functions behind it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from pydantic import ValidationError

from control_plane.definitions.contract import (
    AnyDefinition,
    AuthorizationRequest,
    AwsSession,
    BindingContext,
    Compiled,
    ConnectionMethod,
    CredentialHeader,
    CredentialSource,
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
    Nothing,
    OAuth2Access,
    OAuth2AuthorizationCode,
    OAuth2ClientCredentials,
    OAuthContext,
    ResolveContext,
    Route,
    SecretField,
    StdioMcp,
    TokenCall,
)
from control_plane.definitions.fields import SecretText
from control_plane.definitions.generic_http import manifest as words
from control_plane.definitions.generic_http.checks import (
    OAUTH_SECRET,
    ManifestIssue,
    artifact_document,
    auth_document,
    check_manifest,
    headers_of,
    is_used,
)
from control_plane.definitions.generic_http.manifest import UNIONS, Manifest
from control_plane.definitions.generic_http.template import Values, parse_template
from control_plane.definitions.generic_http.variables import fields_of, model_of
from sallyport.plan.codec import MAX_ISSUES, json_pointer
from sallyport.plan.fields import Model, Text
from sallyport.plan.model import AwsSigv4Injection
from sallyport.plan.schema_faults import schema_faults

CLIENT_SECRET: Final = "client_secret"
AWS_SESSION: Final = "aws_session"


class ManifestError(Exception):
    """A document that is no manifest, with every issue it has."""

    def __init__(self, issues: Sequence[ManifestIssue]) -> None:
        super().__init__("; ".join(f"{issue.pointer or '/'}: {issue.message}" for issue in issues))
        self.issues = tuple(issues)


class TargetSecrets(Model):
    """What the operator's OAuth client is known by."""

    client_id: SecretText | None = None
    client_secret: SecretText | None = None


def read_manifest(document: Mapping[str, object]) -> AnyDefinition:
    """Read a parsed document; raises ManifestError."""
    try:
        manifest = Manifest.model_validate(dict(document))
    except ValidationError as error:
        faults = schema_faults(error, document, already=frozenset(), most=MAX_ISSUES, unions=UNIONS)
        raise ManifestError([ManifestIssue(json_pointer(fault.path), fault.message) for fault in faults]) from None
    issues = check_manifest(manifest)
    if issues:
        raise ManifestError(issues)
    return _Reading(manifest).definition()


type Context = BindingContext[Any, Any, Any]


class _Reading:
    """A manifest, and what a definition asks of it."""

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self._methods: dict[MethodKind, words.ConnectionMethod] = {
            method.kind: method for method in manifest.connection_methods
        }

    def definition(self) -> AnyDefinition:
        manifest = self._manifest
        code, client = None, None
        for method in manifest.connection_methods:
            match method:
                case words.AuthorizationCode():
                    code = _authorization_code(method)
                case words.ClientCredentials():
                    client = _client_credentials(method)
                case words.ApiKey():
                    pass
        client_id: dict[str, Any] = {} if client is None else {"client_id": (Text | None, None)}
        return IntegrationDefinition(
            family_id=manifest.family_id,
            variant_id=manifest.variant_id,
            kind=Kind(manifest.kind),
            display_name=manifest.display_name,
            description=manifest.description,
            logo_key=manifest.logo_key,
            target_config=model_of("TargetConfig", manifest.target_variables, {}),
            target_secrets=Nothing if code is None else TargetSecrets,
            connection_config=model_of("ConnectionConfig", manifest.connection_variables, client_id),
            binding_config=model_of("BindingConfig", manifest.binding_variables, {}),
            target_form=lambda context: fields_of(manifest.target_variables),
            connection_form=self._connection_form,
            binding_form=lambda context: fields_of(manifest.binding_variables),
            connection_methods=[_connection_method(method) for method in manifest.connection_methods],
            credential_resolvers=_resolvers(manifest.connection_methods),
            oauth2_authorization_code=code,
            oauth2_client_credentials=client,
            validate_binding_write_context=_validate_binding,
            compile_binding=self._compile,
            mcp=self._mcp if manifest.mcp_servers else None,
        )

    def _compile(self, context: Context) -> Compiled:
        values = values_of(context)
        method = self._methods[context.connection.method]
        routes = [_route(route, method, values) for route in self._manifest.routes if _is_there(route, context, values)]
        return Compiled(
            # Of a list that is empty come no prefixes; a route without any would claim every path.
            routes=[route for route in routes if route.path_prefixes],
            artifacts=[artifact_document(artifact, values) for artifact in self._manifest.artifacts],
        )

    def _mcp(self, context: Context) -> list[McpServer]:
        values = values_of(context)
        there = {route.key for route in self._compile(context).routes}
        return [
            McpServer(server_id=server.server_id, name=server.name, transport=_transport(server.transport, values))
            for server in self._manifest.mcp_servers
            if _is_there(server, context, values)
            and (isinstance(server.transport, words.StdioTransport) or server.transport.route_key in there)
        ]

    def _connection_form(self, context: FormContext[Any, Any]) -> list[FormField]:
        fields = fields_of(self._manifest.connection_variables)
        if MethodKind.OAUTH2_CLIENT_CREDENTIALS in self._methods:
            method = None if context.connection is None else context.connection.method
            others = method is not None and method is not MethodKind.OAUTH2_CLIENT_CREDENTIALS
            fields.append(FormField(name="clientId", label="Client ID", hidden=others))
        return fields


def values_of(context: Context) -> Values:
    """Return what the variables hold, by the names that templates use."""
    sources = {"target": context.target.config, "connection": context.connection.config, "binding": context.config}
    return {name: value for source, model in sources.items() for name, value in _members(source, model)}


def _members(source: str, model: Model) -> Iterator[tuple[str, str | tuple[str, ...]]]:
    for name, value in model.model_dump(by_alias=True).items():
        if isinstance(value, str):
            yield f"{source}.{name}", value
        elif isinstance(value, list | tuple):
            yield f"{source}.{name}", tuple(value)


def _is_there(item: words.Route | words.McpServer, context: Context, values: Values) -> bool:
    chosen = all(values[name] in allowed for name, allowed in (item.when or {}).items())
    return chosen and is_used(item, context.connection.method)


def _validate_binding(context: Context) -> list[Issue]:
    """A client's secret goes with its id."""
    by_client = context.connection.method is MethodKind.OAUTH2_CLIENT_CREDENTIALS
    if not by_client or context.connection.config.client_id is not None:
        return []
    return [Issue("generic_http.client_id_missing", "", "the connection has no clientId, which goes with its secret")]


# --- routes and servers -----------------------------------------------------------------------------------------------


def _route(route: words.Route, method: words.ConnectionMethod, values: Values) -> Route:
    rendered = [prefix for text in route.path_prefixes for prefix in parse_template(text).render(values)]
    return Route(
        key=route.key,
        hosts=[parse_template(text).one(values) for text in route.hosts],
        methods=route.methods,
        path_prefixes=rendered,
        ports=route.ports,
        base_url=None if route.base_url is None else parse_template(route.base_url).one(values),
        auth_injection=auth_document(route.auth or method.auth, values),
        secret_type=route.secret_type,
        placeholders=[each.model_dump(by_alias=True) for each in route.placeholders],
        additional_headers=headers_of(route.additional_headers, values) or None,
        additional_credential_headers=[
            CredentialHeader(header=each.header, secret_type=each.secret_type)
            for each in route.additional_credential_headers
        ],
        keep_headers=route.keep_headers,
        strip_query=route.strip_query,
        limits=None if route.limits is None else route.limits.model_dump(by_alias=True, exclude_unset=True),
        encoded_slash=route.encoded_slash,
        allow_cleartext=route.allow_cleartext,
    )


def _transport(transport: words.HttpTransport | words.StdioTransport, values: Values) -> HttpMcp | StdioMcp:
    match transport:
        case words.HttpTransport(route_key=key, path=path, headers=headers):
            return HttpMcp(url=EgressUrl(key, parse_template(path).one(values)), headers=headers_of(headers, values))
        case words.StdioTransport(command=command, args=args, env=env):
            rendered = [parse_template(text).one(values) for text in args]
            return StdioMcp(command=command, args=rendered, env=headers_of(env, values))


# --- connections ------------------------------------------------------------------------------------------------------


def _connection_method(method: words.ConnectionMethod) -> ConnectionMethod:
    match method:
        case words.ApiKey(label=label, secrets=secrets, auth=auth):
            is_signed = isinstance(auth, AwsSigv4Injection)
            return ConnectionMethod(
                kind=method.kind,
                label=label,
                secret_type=AWS_SESSION if is_signed else secrets[0].secret_type,
                secrets=[
                    SecretField(
                        secret_type=secret.secret_type,
                        label=secret.label,
                        help=secret.help or "",
                        pattern=secret.pattern,
                        required=secret.required,
                    )
                    for secret in secrets
                ],
            )
        case words.AuthorizationCode(label=label, client_authentication=how):
            requires = ("client_id",) if how == "none" else ("client_id", "client_secret")
            return ConnectionMethod(kind=method.kind, label=label, secret_type=OAUTH_SECRET, requires=requires)
        case words.ClientCredentials(label=label):
            secret = SecretField(secret_type=CLIENT_SECRET, label="Client secret")
            return ConnectionMethod(kind=method.kind, label=label, secret_type=OAUTH_SECRET, secrets=[secret])


type Resolver = Callable[[ResolveContext[Any, Any, Any]], CredentialSource]


def _resolvers(methods: Sequence[words.ConnectionMethod]) -> dict[str, Resolver]:
    made: dict[str, Resolver] = {}
    for method in methods:
        if not isinstance(method, words.ApiKey):
            made[OAUTH_SECRET] = lambda context: OAuth2Access()
        elif isinstance(method.auth, AwsSigv4Injection):
            made[AWS_SESSION] = _aws_keys(method.auth.region)
    return made


def _aws_keys(region: str) -> Resolver:
    """The keys as they were typed in: whoever speaks S3 without being AWS has no roles."""
    keys = AwsSession(
        role_arn=None,
        external_id=None,
        session_name="sallyport",
        duration_seconds=3_600,
        sts_url="https://sts.amazonaws.com/",
        region=region,
    )
    return lambda context: keys


def _authorization_code(method: words.AuthorizationCode) -> OAuth2AuthorizationCode[Any, Any]:
    def start(context: OAuthContext[Any, Any]) -> AuthorizationRequest:
        parameters = dict(method.authorize_parameters or {})
        if method.scopes and method.scope_separator == "comma":
            return AuthorizationRequest(
                url=_url(method.authorize_url, context), parameters=parameters | {"scope": ",".join(method.scopes)}
            )
        return AuthorizationRequest(
            url=_url(method.authorize_url, context), scopes=method.scopes, parameters=parameters
        )

    def call(context: OAuthContext[Any, Any]) -> TokenCall:
        return _token_call(method, context)

    return OAuth2AuthorizationCode(
        start_authorization=start,
        complete_authorization_code_grant=call,
        refresh_access_token=call,
        read_grant=_reader(method.token_members),
    )


def _client_credentials(method: words.ClientCredentials) -> OAuth2ClientCredentials[Any, Any]:
    return OAuth2ClientCredentials(
        exchange_client_credentials=lambda context: _token_call(method, context),
        # A binding to a connection without one is refused before its token is asked for.
        client_id=lambda config: config.client_id or "",
        scopes=lambda context: method.scopes,
        client_secret=CLIENT_SECRET,
        read_grant=_reader(method.token_members),
    )


def _token_call(
    method: words.AuthorizationCode | words.ClientCredentials, context: OAuthContext[Any, Any]
) -> TokenCall:
    return TokenCall(
        url=_url(method.token_url, context),
        client_authentication=method.client_authentication,
        parameters=method.token_parameters or {},
        encoding=method.encoding,
        headers=method.token_headers or {},
    )


def _url(template: str, context: OAuthContext[Any, Any]) -> str:
    return parse_template(template).one(dict(_members("target", context.target.config)))


def _reader(members: words.TokenMembers) -> Callable[[Document], Grant]:
    grant = Grant(access_token=members.access_token, refresh_token=members.refresh_token, expires_in=members.expires_in)
    return lambda answer: grant
