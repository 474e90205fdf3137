"""A manifest as a definition: what its connections, bindings and OAuth endpoints come to."""

import json
from typing import Any

import pytest

from control_plane.definitions.contract import (
    AnyDefinition,
    AwsSession,
    BindingContext,
    Connection,
    EgressUrl,
    FormContext,
    HttpMcp,
    MethodKind,
    Nothing,
    OAuth2Access,
    OAuthContext,
    ResolveContext,
    StdioMcp,
    Target,
)
from control_plane.definitions.generic_http.definition import ManifestError, read_manifest
from control_plane.definitions.registry import definition_faults
from tests.support.integrations import small_manifest

CODE: dict[str, Any] = {
    "kind": "oauth2-authorization-code",
    "label": "Code",
    "auth": {"type": "bearer"},
    "authorizeUrl": "https://{target.host}/authorize",
    "authorizeParameters": {"audience": "a"},
    "tokenUrl": "https://{target.host}/token",
    "tokenParameters": {"audience": "a"},
    "tokenHeaders": {"X-Version": "1"},
    "tokenMembers": {"accessToken": "token"},
    "scopes": ["read", "write"],
    "clientAuthentication": "post",
    "encoding": "json",
}
CLIENT: dict[str, Any] = {
    "kind": "oauth2-client-credentials",
    "label": "Client",
    "auth": {"type": "bearer"},
    "tokenUrl": "https://{target.host}/token",
    "scopes": ["read"],
}
HOST = {"name": "host", "type": "host", "label": "Host", "default": "api.example.com"}


def manifest(**members: object) -> AnyDefinition:
    return read_manifest(small_manifest(**{"targetVariables": [HOST], **members}))


def oauth_context(definition: AnyDefinition, **config: str) -> OAuthContext[Any, Any]:
    target = Target(key="t", config=definition.target_config.model_validate(config))
    return OAuthContext(target=target, config=definition.connection_config.model_validate({}))


def binding_context(
    definition: AnyDefinition, method: MethodKind, *, binding: object = None, connection: object = None
) -> BindingContext[Any, Any, Any]:
    return BindingContext(
        target=Target(key="t", config=definition.target_config.model_validate({})),
        connection=Connection(
            id="con_1", method=method, config=definition.connection_config.model_validate(connection or {})
        ),
        binding_id="bnd_1",
        config=definition.binding_config.model_validate(binding or {}),
    )


def test_authorization_code() -> None:
    definition = manifest(connectionMethods=[CODE])
    oauth = definition.oauth2_authorization_code
    assert oauth is not None
    context = oauth_context(definition, host="own.example")
    request = oauth.start_authorization(context)
    assert (request.url, list(request.scopes)) == ("https://own.example/authorize", ["read", "write"])
    assert request.parameters == {"audience": "a"}
    for call in (oauth.complete_authorization_code_grant(context), oauth.refresh_access_token(context)):
        assert (call.url, call.client_authentication, call.encoding) == ("https://own.example/token", "post", "json")
        assert (call.parameters, call.headers) == ({"audience": "a"}, {"X-Version": "1"})
    grant = oauth.read_grant({})
    assert (grant.access_token, grant.refresh_token) == ("token", "refresh_token")
    [method] = definition.connection_methods
    assert method.requires == ("client_id", "client_secret")
    assert set(definition.target_secrets.model_fields) == {"client_id", "client_secret"}
    assert definition_faults(definition) == []


def test_scopes_by_commas_and_a_client_without_a_secret() -> None:
    definition = manifest(connectionMethods=[CODE | {"scopeSeparator": "comma", "clientAuthentication": "none"}])
    oauth = definition.oauth2_authorization_code
    assert oauth is not None
    request = oauth.start_authorization(oauth_context(definition))
    assert (request.scopes, request.parameters) == ((), {"audience": "a", "scope": "read,write"})
    assert definition.connection_methods[0].requires == ("client_id",)


def test_client_credentials() -> None:
    definition = manifest(connectionMethods=[CLIENT])
    client = definition.oauth2_client_credentials
    assert client is not None
    assert definition.target_secrets is Nothing
    config = definition.connection_config.model_validate({"clientId": "c1"})
    assert client.client_id(config) == "c1"
    assert client.scopes(oauth_context(definition)) == ("read",)
    assert client.exchange_client_credentials(oauth_context(definition)).url == "https://api.example.com/token"
    validate = definition.validate_binding_write_context
    assert validate is not None
    kind = MethodKind.OAUTH2_CLIENT_CREDENTIALS
    assert validate(binding_context(definition, kind, connection={"clientId": "c1"})) == []
    [issue] = validate(binding_context(definition, kind))
    assert issue.code == "generic_http.client_id_missing"
    assert definition_faults(definition) == []


@pytest.mark.parametrize(
    ("method", "hidden"),
    [(None, False), (MethodKind.OAUTH2_CLIENT_CREDENTIALS, False), (MethodKind.OAUTH2_AUTHORIZATION_CODE, True)],
)
def test_a_clients_id_is_asked_where_it_is_needed(method: MethodKind | None, hidden: bool) -> None:
    definition = manifest(connectionMethods=[CLIENT, CODE])
    config = definition.connection_config.model_validate({})
    connection: Connection[Any] | None = None if method is None else Connection(id="c", method=method, config=config)
    assert definition.connection_form is not None
    [field] = definition.connection_form(FormContext(target=None, connection=connection, value={}))
    assert field.hidden is hidden


def test_what_an_oauth_connection_injects_is_refreshed() -> None:
    definition = manifest(connectionMethods=[CODE])
    [method] = definition.connection_methods
    context = binding_context(definition, MethodKind.OAUTH2_AUTHORIZATION_CODE)
    source = definition.credential_resolvers[method.secret_type]
    resolve: ResolveContext[Any, Any, Any] = ResolveContext(
        target=context.target, connection=context.connection, binding=None
    )
    assert source(resolve) == OAuth2Access()


def test_keys_that_sign_are_used_as_they_are() -> None:
    secrets = [{"secretType": name, "label": name} for name in ("access_key_id", "secret_access_key")]
    auth = {"type": "aws_sigv4", "region": "auto", "service": "s3"}
    definition = manifest(connectionMethods=[{"kind": "api-key", "label": "Key", "auth": auth, "secrets": secrets}])
    context = binding_context(definition, MethodKind.API_KEY)
    [route] = definition.compile_binding(context).routes
    assert route.auth_injection == auth
    [method] = definition.connection_methods
    resolve: ResolveContext[Any, Any, Any] = ResolveContext(
        target=context.target, connection=context.connection, binding=None
    )
    source = definition.credential_resolvers[method.secret_type](resolve)
    assert isinstance(source, AwsSession)
    assert (source.role_arn, source.region) == (None, "auto")
    assert definition_faults(definition) == []


def test_a_route_in_full() -> None:
    route = {
        "key": "api",
        "hosts": ["{target.host}"],
        "ports": [8443],
        "methods": ["GET"],
        "pathPrefixes": ["/v1/{binding.list}"],
        "baseUrl": "http://{target.host}",
        "auth": {"type": "basic", "username": "{connection.email}"},
        "secretType": "second",
        "placeholders": [{"value": "placeholder", "in": ["header", "query"]}],
        "additionalHeaders": {"X-A": "is {binding.text}"},
        "additionalCredentialHeaders": [{"header": "X-B", "secretType": "first"}],
        "keepHeaders": ["Cookie"],
        "stripQuery": ["token"],
        "limits": {"requestsPerMinute": 60},
        "encodedSlash": "literal",
        "allowCleartext": True,
    }
    key = {
        "kind": "api-key",
        "label": "Key",
        "auth": {"type": "bearer"},
        "secrets": [
            {"secretType": "first", "label": "1", "help": "Why.", "pattern": "a+"},
            {"secretType": "second", "label": "2", "required": False},
        ],
    }
    definition = manifest(
        connectionMethods=[key],
        routes=[route],
        connectionVariables=[{"name": "email", "type": "email", "label": "E"}],
        bindingVariables=[
            {"name": "list", "type": "segments", "label": "L"},
            {"name": "text", "type": "text", "label": "T"},
        ],
    )
    binding = {"list": ["a", "b"], "text": "t"}
    context = binding_context(definition, MethodKind.API_KEY, binding=binding, connection={"email": "a@b.example"})
    [found] = definition.compile_binding(context).routes
    assert (found.hosts, found.ports, found.path_prefixes) == (["api.example.com"], (8443,), ["/v1/a", "/v1/b"])
    assert found.auth_injection == {"type": "basic", "username": "a@b.example"}
    assert (found.base_url, found.secret_type, found.allow_cleartext) == ("http://api.example.com", "second", True)
    assert found.additional_headers == {"X-A": "is t"}
    assert found.additional_credential_headers[0].secret_type == "first"
    assert (found.keep_headers, found.strip_query, found.encoded_slash) == (("Cookie",), ("token",), "literal")
    assert found.limits == {"requestsPerMinute": 60}
    [method] = definition.connection_methods
    assert method.secret_type == "first"
    assert [(each.pattern, each.required, each.help) for each in method.secrets] == [
        ("a+", True, "Why."),
        (None, False, ""),
    ]


def test_servers_are_there_with_their_routes() -> None:
    servers = [
        {
            "serverId": "web",
            "name": "web",
            "transport": {
                "type": "streamable-http",
                "routeKey": "api",
                "path": "/v1/mcp",
                "headers": {"X-A": "{target.host}"},
            },
        },
        {
            "serverId": "local",
            "name": "local",
            "transport": {"type": "stdio", "command": "c", "args": ["{target.host}"], "env": {"A": "{target.host}"}},
        },
    ]
    route = {
        "key": "api",
        "hosts": ["h.example.com"],
        "methods": ["POST"],
        "pathPrefixes": ["/v1"],
        "when": {"binding.api": ["with"]},
    }
    choice = {"name": "api", "type": "choice", "label": "API", "choices": ["with", "without"], "default": "without"}
    definition = manifest(routes=[route], mcpServers=servers, bindingVariables=[choice])
    assert definition.mcp is not None
    web, local = definition.mcp(binding_context(definition, MethodKind.API_KEY, binding={"api": "with"}))
    assert web.transport == HttpMcp(url=EgressUrl("api", "/v1/mcp"), headers={"X-A": "api.example.com"})
    expected = StdioMcp(command="c", args=["api.example.com"], env={"A": "api.example.com"})
    assert local.transport == expected
    [alone] = definition.mcp(binding_context(definition, MethodKind.API_KEY))
    assert alone.server_id == "local", "behind a route that is not there is nothing"


def test_an_artifact_has_variables_in_its_environment_alone() -> None:
    install = [{"op": "exec", "args": ["sh", "-c", "echo {target.host}"], "env": {"A": "1"}, "timeoutMs": 1000}]
    artifact = {
        "artifactKey": "a",
        "name": "A",
        "description": "What.",
        "env": {"HOST": "{target.host}"},
        "lifecycle": {
            "install": install,
            "remove": [{"op": "file", "path": "/a", "mode": 420, "content": "", "writeMode": "overwrite"}],
        },
    }
    definition = manifest(artifacts=[artifact])
    [found] = definition.compile_binding(binding_context(definition, MethodKind.API_KEY)).artifacts
    assert json.loads(json.dumps(found)) == {**artifact, "env": {"HOST": "api.example.com"}}


def test_an_error_names_every_issue() -> None:
    with pytest.raises(ManifestError) as caught:
        manifest(routes=[], logoKey="A")
    assert {issue.pointer for issue in caught.value.issues} == {"/routes", "/logoKey"}
    assert str(caught.value).startswith("/")
