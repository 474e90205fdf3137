"""What no member of a manifest can say alone: which variable may stand where, and that everything named is there.

The rules for variables keep a secret where its owner sent it. A host is the operator's to choose. A connection may hold
one label of a host that goes on with labels of the manifest's own, as accounts of one provider are told apart. A
binding, which anybody may make who may use the connection, only chooses among words of the manifest. An OAuth endpoint
gets the operator's client secret, so only the operator's variables stand in its URL.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from pydantic import ValidationError

from control_plane.definitions.contract import MethodKind
from control_plane.definitions.generic_http.manifest import (
    ApiKey,
    Artifact,
    AuthorizationCode,
    ClientCredentials,
    ConnectionMethod,
    HttpTransport,
    Manifest,
    McpServer,
    Route,
)
from control_plane.definitions.generic_http.template import Template, TemplateError, Values, parse_template
from control_plane.definitions.generic_http.variables import Variable, faults_of
from sallyport.plan.codec import MAX_ISSUES, json_pointer
from sallyport.plan.model import AuthInjection, AwsSigv4Injection, BasicInjection, EgressRoute
from sallyport.plan.schema_faults import schema_faults
from sallyport.plan.url import UrlError, split_url
from sallyport.plan.workload import ExecStep, Step
from sallyport.setup import SetupError, setup_document

OAUTH_SECRET: Final = "oauth2_access_token"
AWS_SECRETS: Final = ("access_key_id", "secret_access_key")

_OWN_LABELS: Final = re.compile(r"(?:\.[a-z0-9-]+){2,}")

type Path = tuple[str | int, ...]
type Variables = Mapping[str, Variable]


class ManifestIssue(NamedTuple):
    """One thing wrong with a manifest: an RFC 6901 pointer, and a message without a value."""

    pointer: str
    message: str


# Whether a variable of a source may stand in a text.
type Rule = Callable[[str, Variable, Template], bool]


def _in_host(source: str, variable: Variable, template: Template) -> bool:
    if variable.type == "choice":
        return variable.is_label
    if source == "connection":
        return variable.type == "dns-label" and _OWN_LABELS.fullmatch(template.literals[-1]) is not None
    return source == "target" and variable.type in ("host", "dns-label")


def _in_path(source: str, variable: Variable, template: Template) -> bool:
    return variable.type in ("segment", "dns-label", "choice")


def _in_prefix(source: str, variable: Variable, template: Template) -> bool:
    return variable.type == "segments" or _in_path(source, variable, template)


def _in_operators_url(source: str, variable: Variable, template: Template) -> bool:
    return source == "target" and variable.type in ("host", "dns-label", "segment", "choice")


def _in_username(source: str, variable: Variable, template: Template) -> bool:
    return variable.type in ("email", "segment", "dns-label", "choice")


def _in_text(source: str, variable: Variable, template: Template) -> bool:
    return variable.type != "segments"


def check_manifest(manifest: Manifest) -> list[ManifestIssue]:
    """Return everything that is wrong with a manifest whose members are good by themselves."""
    variables = _by_name(manifest)
    found = [
        *_check_variables(manifest),
        *_check_methods(manifest, variables),
        *(each for index, route in enumerate(manifest.routes) for each in _check_route(index, route, variables)),
        *_check_servers(manifest, variables),
        *_check_artifacts(manifest, variables),
        *_check_secrets(manifest),
        *_check_uses(manifest, variables),
    ]
    return found or [*_check_samples(manifest, {name: each.sample for name, each in variables.items()})]


def _by_name(manifest: Manifest) -> Variables:
    sources = {
        "target": manifest.target_variables,
        "connection": manifest.connection_variables,
        "binding": manifest.binding_variables,
    }
    return {f"{source}.{each.name}": each for source, variables in sources.items() for each in variables}


def _issue(message: str, *path: str | int) -> ManifestIssue:
    return ManifestIssue(json_pointer(path), message)


def _check_text(text: str, rule: Rule, variables: Variables, *path: str | int) -> Iterator[ManifestIssue]:
    try:
        template = parse_template(text)
    except TemplateError as error:  # a member of the plan's own schema, which knows of no templates
        yield _issue(str(error), *path)
        return
    for name in template.names:
        variable = variables.get(name)
        if variable is None:
            yield _issue(f"there is no variable {name}", *path)
        elif not rule(name.partition(".")[0], variable, template):
            yield _issue(f"{name}, of type {variable.type}, may not stand here", *path)
    lists = [name for name in template.names if name in variables and variables[name].type == "segments"]
    if len(lists) > 1:
        yield _issue("one list at most may stand in a text", *path)


def _repeated(keys: Sequence[str], member: str, *path: str | int) -> Iterator[ManifestIssue]:
    for index, key in enumerate(keys):
        if key in keys[:index]:
            yield _issue("it stands twice", *path, index, member)


# --- variables and methods --------------------------------------------------------------------------------------------


def _check_variables(manifest: Manifest) -> Iterator[ManifestIssue]:
    kinds = {method.kind for method in manifest.connection_methods}
    for member, variables in (
        ("targetVariables", manifest.target_variables),
        ("connectionVariables", manifest.connection_variables),
        ("bindingVariables", manifest.binding_variables),
    ):
        yield from _repeated([variable.name for variable in variables], "name", member)
        for index, variable in enumerate(variables):
            for part, message in faults_of(variable):
                yield _issue(message, member, index, part)
            is_ours = member == "connectionVariables" and variable.name == "clientId"
            if is_ours and MethodKind.OAUTH2_CLIENT_CREDENTIALS in kinds:
                yield _issue("client credentials have this member already", member, index, "name")


def _check_methods(manifest: Manifest, variables: Variables) -> Iterator[ManifestIssue]:
    yield from _repeated([method.kind for method in manifest.connection_methods], "kind", "connectionMethods")
    for index, method in enumerate(manifest.connection_methods):
        path = ("connectionMethods", index)
        yield from _check_auth(method.auth, method, variables, *path, "auth")
        if isinstance(method, ApiKey):
            yield from _repeated([secret.secret_type for secret in method.secrets], "secretType", *path, "secrets")
        for member, text in _urls(method).items():
            yield from _check_text(text, _in_operators_url, variables, *path, member)


def _urls(method: ConnectionMethod) -> Mapping[str, str]:
    match method:
        case AuthorizationCode(authorize_url=authorize, token_url=token):
            return {"authorizeUrl": authorize, "tokenUrl": token}
        case ClientCredentials(token_url=token):
            return {"tokenUrl": token}
        case ApiKey():
            return {}


def _check_auth(
    auth: AuthInjection, method: ConnectionMethod, variables: Variables, *path: str | int
) -> Iterator[ManifestIssue]:
    match auth:
        case BasicInjection(username=username):
            yield from _check_text(username, _in_username, variables, *path, "username")
        case AwsSigv4Injection():
            typed = tuple(secret.secret_type for secret in method.secrets) if isinstance(method, ApiKey) else ()
            if sorted(typed) != sorted(AWS_SECRETS):
                yield _issue(f"signing needs an api-key method with the secrets {' and '.join(AWS_SECRETS)}", *path)


def _check_secrets(manifest: Manifest) -> Iterator[ManifestIssue]:
    """Every secret a route names is one that each connection it is there for has."""
    for index, route in enumerate(manifest.routes):
        named: dict[Path, str] = {} if route.secret_type is None else {("secretType",): route.secret_type}
        named |= {
            ("additionalCredentialHeaders", place, "secretType"): each.secret_type
            for place, each in enumerate(route.additional_credential_headers)
        }
        for method in manifest.connection_methods:
            if not is_used(route, method.kind):
                continue
            for path, secret_type in named.items():
                if secret_type not in _secrets_of(method):
                    yield _issue(f"a connection by {method.kind.value} has no such secret", "routes", index, *path)
            if isinstance(method.auth, AwsSigv4Injection) and route.auth is not None and route.secret_type is None:
                yield _issue("keys that sign are no value to write: name a secretType", "routes", index, "auth")


def _secrets_of(method: ConnectionMethod) -> frozenset[str]:
    if isinstance(method, ApiKey):
        return frozenset(secret.secret_type for secret in method.secrets)
    return frozenset({OAUTH_SECRET})


def _check_uses(manifest: Manifest, variables: Variables) -> Iterator[ManifestIssue]:
    """What a route or a server says of when it is there."""
    kinds = {method.kind for method in manifest.connection_methods}
    users: list[tuple[str, Sequence[Route | McpServer]]] = [
        ("routes", manifest.routes),
        ("mcpServers", manifest.mcp_servers),
    ]
    for member, items in users:
        for index, item in enumerate(items):
            for place, kind in enumerate(item.connection_methods or ()):
                if kind not in kinds:
                    yield _issue("no connection is made so", member, index, "connectionMethods", place)
            for name, words in (item.when or {}).items():
                variable = variables.get(name)
                choices = None if variable is None else variable.choices
                if choices is None:
                    yield _issue("a variable of type choice is expected", member, index, "when", name)
                elif not set(words) <= set(choices):
                    yield _issue("these are not among its choices", member, index, "when", name)


# --- routes, servers, artifacts ---------------------------------------------------------------------------------------


def _check_route(index: int, route: Route, variables: Variables) -> Iterator[ManifestIssue]:
    path = ("routes", index)
    for place, text in enumerate(route.hosts):
        yield from _check_text(text, _in_host, variables, *path, "hosts", place)
    for place, text in enumerate(route.path_prefixes):
        yield from _check_text(text, _in_prefix, variables, *path, "pathPrefixes", place)
    if route.base_url is not None:
        yield from _check_text(route.base_url, _in_operators_url, variables, *path, "baseUrl")
    for name, text in (route.additional_headers or {}).items():
        yield from _check_text(text, _in_text, variables, *path, "additionalHeaders", name)
    if isinstance(route.auth, BasicInjection):
        yield from _check_text(route.auth.username, _in_username, variables, *path, "auth", "username")
    if isinstance(route.auth, AwsSigv4Injection):
        yield _issue("what is signed stands with the connection method, whose keys it needs", *path, "auth")


def _check_servers(manifest: Manifest, variables: Variables) -> Iterator[ManifestIssue]:
    yield from _repeated([server.server_id for server in manifest.mcp_servers], "serverId", "mcpServers")
    keys = {route.key for route in manifest.routes}
    for index, server in enumerate(manifest.mcp_servers):
        path = ("mcpServers", index, "transport")
        texts: dict[Path, str] = {}
        if isinstance(server.transport, HttpTransport):
            yield from _check_text(server.transport.path, _in_path, variables, *path, "path")
            if server.transport.route_key not in keys:
                yield _issue("there is no such route", *path, "routeKey")
            texts = {("headers", name): text for name, text in (server.transport.headers or {}).items()}
        else:
            texts = {("args", place): text for place, text in enumerate(server.transport.args)}
            texts |= {("env", name): text for name, text in (server.transport.env or {}).items()}
        for place, text in texts.items():
            yield from _check_text(text, _in_text, variables, *path, *place)


def _check_artifacts(manifest: Manifest, variables: Variables) -> Iterator[ManifestIssue]:
    yield from _repeated([artifact.artifact_key for artifact in manifest.artifacts], "artifactKey", "artifacts")
    for index, artifact in enumerate(manifest.artifacts):
        for name, text in (artifact.env or {}).items():
            yield from _check_text(text, _in_text, variables, "artifacts", index, "env", name)


# --- with values in it ------------------------------------------------------------------------------------------------


def _check_samples(manifest: Manifest, values: Values) -> Iterator[ManifestIssue]:
    """Have the plan's own readers look at what comes of the manifest."""
    yield from _repeated([route.key for route in manifest.routes], "key", "routes")
    for index, method in enumerate(manifest.connection_methods):
        for member, text in _urls(method).items():
            if not _is_https(parse_template(text).one(values)):
                yield _issue("an https URL is expected", "connectionMethods", index, member)
    for index, route in enumerate(manifest.routes):
        methods = [method for method in manifest.connection_methods if is_used(route, method.kind)]
        for method in methods[:1] if route.auth is not None else methods:
            yield from _check_sample(index, route, method, values)
    yield from _check_claims(manifest, values)
    yield from _check_setup(manifest.artifacts, values)


def _check_claims(manifest: Manifest, values: Values) -> Iterator[ManifestIssue]:
    """A server's URL is one its route claims: no other request gets the credential."""
    claimed = {
        route.key: [prefix for text in route.path_prefixes for prefix in parse_template(text).render(values)]
        for route in manifest.routes
    }
    for index, server in enumerate(manifest.mcp_servers):
        if isinstance(server.transport, HttpTransport):
            path = parse_template(server.transport.path).one(values)
            prefixes = claimed[server.transport.route_key]
            if not any(path == prefix or path.startswith(f"{prefix.rstrip('/')}/") for prefix in prefixes):
                yield _issue("the route does not claim this path", "mcpServers", index, "transport", "path")


def is_used(item: Route | McpServer, kind: MethodKind) -> bool:
    """Say whether a route or a server is there for connections of a kind."""
    return item.connection_methods is None or kind in item.connection_methods


def _is_https(url: str) -> bool:
    try:
        return split_url(url).destination.scheme == "https" and url.startswith("https://")
    except UrlError:
        return False


def _check_sample(index: int, route: Route, method: ConnectionMethod, values: Values) -> Iterator[ManifestIssue]:
    document, origins = route_document(route, route.auth or method.auth, values)
    try:
        EgressRoute.model_validate(document)
    except ValidationError as error:
        for fault in schema_faults(error, document, already=frozenset(), most=MAX_ISSUES, unions=_ROUTE_UNIONS):
            yield ManifestIssue(json_pointer(_place(index, fault.path, origins)), fault.message)


_ROUTE_UNIONS: Final = ((("authInjection",), "type"),)
_RENAMED: Final[Mapping[str | int, str]] = {"authInjection": "auth", "upstream": "baseUrl"}


def _place(index: int, path: Path, origins: Sequence[int]) -> Path:
    """Find the place in the manifest of a place in a route of the plan."""
    match path:
        case ("match", "pathPrefixes", int(place)):
            return ("routes", index, "pathPrefixes", origins[place])
        case ("match", *rest):
            return ("routes", index, *rest)
        case (str(member), *rest) if member in _RENAMED:
            return ("routes", index, _RENAMED[member])
        case _:
            return ("routes", index, *path)


def route_document(route: Route, auth: AuthInjection, values: Values) -> tuple[dict[str, Any], list[int]]:
    """Write a route in the words of the plan, with ids of no meaning; and of each prefix, of which template it came."""
    prefixes = [
        (prefix, place)
        for place, text in enumerate(route.path_prefixes)
        for prefix in parse_template(text).render(values)
    ]
    resolver = {"kind": "integration_connection", "connectionId": "con_sample", "secretType": "sample"}
    match_document: dict[str, Any] = {
        "hosts": [parse_template(text).one(values) for text in route.hosts],
        "methods": list(route.methods),
        "pathPrefixes": [prefix for prefix, _ in prefixes],
    }
    if route.ports is not None:
        match_document["ports"] = list(route.ports)
    if route.encoded_slash is not None:
        match_document["encodedSlash"] = route.encoded_slash
    document: dict[str, Any] = {
        **{"egressRuleId": route.key, "bindingId": "bnd_sample", "familyId": "sample", "variantId": "sample"},
        "match": match_document,
        "authInjection": auth_document(auth, values),
        "credentialResolver": resolver,
        "additionalHeaders": headers_of(route.additional_headers, values),
        "additionalCredentialHeaders": [
            {"header": each.header, "credentialResolver": resolver} for each in route.additional_credential_headers
        ],
        "placeholders": [each.model_dump(by_alias=True) for each in route.placeholders],
        "keepHeaders": list(route.keep_headers),
        "stripQuery": list(route.strip_query),
        "allowCleartext": route.allow_cleartext,
    }
    if route.base_url is not None:
        document["upstream"] = {"baseUrl": parse_template(route.base_url).one(values)}
    return document, [place for _, place in prefixes]


def auth_document(auth: AuthInjection, values: Values) -> dict[str, Any]:
    """Write an injection in the words of the plan."""
    document = auth.model_dump(by_alias=True, exclude_unset=True)
    if isinstance(auth, BasicInjection):
        document["username"] = parse_template(auth.username).one(values)
    return document


def headers_of(headers: Mapping[str, str] | None, values: Values) -> dict[str, str]:
    """Put the values into texts that stand under names."""
    return {name: parse_template(text).one(values) for name, text in (headers or {}).items()}


def artifact_document(artifact: Artifact, values: Values) -> dict[str, Any]:
    """Write an artifact in the words of the plan."""
    document: dict[str, Any] = {"artifactKey": artifact.artifact_key, "name": artifact.name}
    if artifact.description is not None:
        document["description"] = artifact.description
    if artifact.after is not None:
        document["after"] = artifact.after
    if artifact.env:
        document["env"] = headers_of(artifact.env, values)
    lifecycle = {"install": [_step(step) for step in artifact.lifecycle.install]}
    for name, steps in (("update", artifact.lifecycle.update), ("remove", artifact.lifecycle.remove)):
        lifecycle |= {} if steps is None else {name: [_step(step) for step in steps]}
    return document | {"lifecycle": lifecycle}


def _step(step: Step) -> dict[str, Any]:
    document = step.model_dump(by_alias=True, exclude_unset=True, exclude={"env"})
    # A read-only map is nothing that a model writes out.
    return document | ({"env": dict(step.env)} if isinstance(step, ExecStep) and step.env else {})


def _check_setup(artifacts: Sequence[Artifact], values: Values) -> Iterator[ManifestIssue]:
    written = [artifact_document(artifact, values) for artifact in artifacts]
    nothing = ("workspaceSources", "runtimeClients", "agentRuntimes", "mcpServers")
    try:
        setup_document({"sandboxId": "sbx_1", "revision": 1, "artifacts": written} | {name: [] for name in nothing})
    except SetupError as error:
        yield from (ManifestIssue(issue.pointer, issue.message) for issue in error.issues)
