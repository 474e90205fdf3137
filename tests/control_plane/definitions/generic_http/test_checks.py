"""What a manifest says as a whole: each fault at its place, and no variable where a value could redirect a secret."""

from typing import Any

import pytest

from tests.support.integrations import faults, small_manifest

SECRET = {"secretType": "api_key", "label": "Key"}
KEY: dict[str, Any] = {"kind": "api-key", "label": "Key", "auth": {"type": "bearer"}, "secrets": [SECRET]}
CODE: dict[str, Any] = {
    "kind": "oauth2-authorization-code",
    "label": "Code",
    "auth": {"type": "bearer"},
    "authorizeUrl": "https://auth.example.com/authorize",
    "tokenUrl": "https://auth.example.com/token",
}
CLIENT: dict[str, Any] = {
    "kind": "oauth2-client-credentials",
    "label": "Client",
    "auth": {"type": "bearer"},
    "tokenUrl": "https://auth.example.com/token",
}
ROUTE: dict[str, Any] = {"key": "api", "hosts": ["api.example.com"], "methods": ["GET"], "pathPrefixes": ["/v1"]}


def of_type(kind: str, name: str = "it", **members: object) -> dict[str, Any]:
    return {"name": name, "type": kind, "label": "It", **members}


def with_route(**members: object) -> dict[str, Any]:
    """A manifest with a variable of each type from each source: `{target.segment}`, `{binding.label}`, ..."""
    variables = [
        of_type("host", "host"),
        of_type("dns-label", "label"),
        of_type("segment", "segment"),
        of_type("segments", "list"),
        of_type("text", "text"),
        of_type("email", "email"),
        of_type("choice", "choice", choices=["a", "b"]),
        of_type("choice", "names", choices=["A.b"]),
    ]
    return small_manifest(
        routes=[ROUTE | members],
        targetVariables=variables,
        connectionVariables=variables,
        bindingVariables=variables,
    )


@pytest.mark.parametrize(
    "host",
    [
        "{target.host}",
        "api.{target.host}",
        "*.{target.host}",
        "{target.label}.internal",
        "{connection.label}.example.com",
        "{binding.choice}.example.com",
        "{connection.choice}.{target.host}",
    ],
)
def test_a_host_the_operator_can_answer_for(host: str) -> None:
    assert faults(with_route(hosts=[host])) == {}


@pytest.mark.parametrize(
    "host",
    [
        "{connection.host}",
        "{binding.host}",
        "{binding.label}.example.com",  # another account of the provider is another's
        "{connection.label}.com",
        "{connection.label}.{target.host}",
        "{connection.label}",
        "{target.segment}.example.com",
        "{target.text}",
        "{target.names}.example.com",
        "{binding.list}.example.com",
        "{target.unknown}",
    ],
)
def test_a_host_that_a_member_could_choose_is_refused(host: str) -> None:
    assert set(faults(with_route(hosts=["api.example.com", host]))) == {"/routes/0/hosts/1"}


@pytest.mark.parametrize("prefix", ["/{binding.segment}", "/x/{binding.list}/y", "/{binding.label}", "/{target.names}"])
def test_a_prefix_of_whole_segments(prefix: str) -> None:
    assert faults(with_route(pathPrefixes=[prefix])) == {}


@pytest.mark.parametrize(
    "prefix",
    [
        "/{binding.text}",
        "/{binding.host}",
        "/{binding.email}",
        "{binding.segment}",
        "/{binding.segment}/",
        "/../{binding.segment}",
        "/{binding.list}/{binding.list}",
    ],
)
def test_a_prefix_that_is_none_is_refused_at_its_place(prefix: str) -> None:
    assert set(faults(with_route(pathPrefixes=["/{binding.list}", prefix]))) == {"/routes/0/pathPrefixes/1"}


@pytest.mark.parametrize(
    ("members", "pointers"),
    [
        ({"hosts": ["bad_{target.label}..example.com"]}, ["/routes/0/hosts/0"]),
        ({"baseUrl": "https://{target.host}"}, []),
        ({"baseUrl": "https://{connection.host}"}, ["/routes/0/baseUrl"]),
        ({"baseUrl": "https://{target.host}/v1"}, ["/routes/0/baseUrl"]),
        ({"baseUrl": "http://{target.host}"}, ["/routes/0/allowCleartext"]),
        ({"hosts": ["*.example.com"], "baseUrl": "https://{target.host}"}, ["/routes/0/baseUrl"]),
        ({"additionalHeaders": {"X-A": "{binding.text}"}}, []),
        ({"additionalHeaders": {"X-A": "{binding.list}"}}, ["/routes/0/additionalHeaders/X-A"]),
        ({"additionalHeaders": {"Authorization": "x"}}, ["/routes/0/additionalHeaders"]),
        ({"keepHeaders": ["Authorization"]}, ["/routes/0/keepHeaders"]),
        ({"auth": {"type": "basic", "username": "{connection.email}"}}, []),
        ({"auth": {"type": "basic", "username": "{connection.text}"}}, ["/routes/0/auth/username"]),
        ({"auth": {"type": "basic", "username": "{connection"}}, ["/routes/0/auth/username"]),
        ({"auth": {"type": "query", "parameter": "key"}}, []),
        ({"auth": {"type": "aws_sigv4", "region": "r", "service": "s3"}}, ["/routes/0/auth"]),
        ({"secretType": "other"}, ["/routes/0/secretType"]),
        (
            {"additionalCredentialHeaders": [{"header": "X-B", "secretType": "other"}]},
            ["/routes/0/additionalCredentialHeaders/0/secretType"],
        ),
        ({"connectionMethods": ["redirect"]}, ["/routes/0/connectionMethods/0"]),
        ({"when": {"binding.choice": ["a"]}}, []),
        ({"when": {"binding.choice": ["c"]}}, ["/routes/0/when/binding.choice"]),
        ({"when": {"binding.segment": ["a"]}}, ["/routes/0/when/binding.segment"]),
        ({"when": {"binding.unknown": ["a"]}}, ["/routes/0/when/binding.unknown"]),
        ({"placeholders": [{"value": "placeholder", "in": ["header"]}], "ports": [8443]}, []),
        ({"limits": {"requestsPerMinute": 60}, "encodedSlash": "literal", "stripQuery": ["token"]}, []),
    ],
)
def test_a_route(members: dict[str, Any], pointers: list[str]) -> None:
    assert sorted(faults(with_route(**members))) == pointers


@pytest.mark.parametrize(
    ("methods", "pointers"),
    [
        ([KEY, CODE, CLIENT], []),
        ([KEY, KEY], ["/connectionMethods/1/kind"]),
        ([KEY | {"secrets": [SECRET, SECRET]}], ["/connectionMethods/0/secrets/1/secretType"]),
        ([CODE | {"tokenUrl": "https://{target.host}/token"}], []),
        ([CODE | {"tokenUrl": "https://{connection.host}/token"}], ["/connectionMethods/0/tokenUrl"]),
        ([CODE | {"authorizeUrl": "https://{binding.choice}.example.com"}], ["/connectionMethods/0/authorizeUrl"]),
        ([CODE | {"authorizeUrl": "http://auth.example.com/a"}], ["/connectionMethods/0/authorizeUrl"]),
        ([CLIENT | {"tokenUrl": "auth.example.com"}], ["/connectionMethods/0/tokenUrl"]),
        ([KEY | {"auth": {"type": "basic", "username": "{binding.email}"}}], []),
        ([KEY | {"auth": {"type": "basic", "username": "{binding.list}"}}], ["/connectionMethods/0/auth/username"]),
        ([KEY | {"auth": {"type": "basic", "username": "}"}}], ["/connectionMethods/0/auth/username"]),
        ([CODE | {"auth": {"type": "aws_sigv4", "region": "r", "service": "s"}}], ["/connectionMethods/0/auth"]),
        ([KEY | {"auth": {"type": "aws_sigv4", "region": "r", "service": "s"}}], ["/connectionMethods/0/auth"]),
    ],
)
def test_connection_methods(methods: list[dict[str, Any]], pointers: list[str]) -> None:
    assert sorted(faults(with_route() | {"connectionMethods": methods})) == pointers


def test_a_secret_is_one_that_every_connection_of_the_route_has() -> None:
    second = KEY | {"secrets": [SECRET, {"secretType": "second", "label": "2"}]}
    route = ROUTE | {"secretType": "second"}
    assert faults(small_manifest(connectionMethods=[second], routes=[route])) == {}
    methods = [second, CODE]
    assert set(faults(small_manifest(connectionMethods=methods, routes=[route]))) == {"/routes/0/secretType"}
    by_key = route | {"connectionMethods": ["api-key"]}
    assert faults(small_manifest(connectionMethods=methods, routes=[by_key])) == {}


def test_keys_that_sign_are_written_nowhere() -> None:
    secrets = [{"secretType": name, "label": name} for name in ("access_key_id", "secret_access_key")]
    signed = KEY | {"auth": {"type": "aws_sigv4", "region": "auto", "service": "s3"}, "secrets": secrets}
    assert faults(small_manifest(connectionMethods=[signed])) == {}
    route = ROUTE | {"auth": {"type": "bearer"}}
    assert set(faults(small_manifest(connectionMethods=[signed], routes=[route]))) == {"/routes/0/auth"}


@pytest.mark.parametrize(
    ("members", "pointers"),
    [
        ({"targetVariables": [of_type("text"), of_type("text")]}, ["/targetVariables/1/name"]),
        ({"bindingVariables": [of_type("segment", default="..")]}, ["/bindingVariables/0/default"]),
        (
            {"connectionMethods": [CLIENT], "connectionVariables": [of_type("text", "clientId")]},
            ["/connectionVariables/0/name"],
        ),
        ({"routes": [ROUTE, ROUTE]}, ["/routes/1/key"]),
        (
            {"mcpServers": [{"serverId": "s", "name": "s", "transport": {"type": "stdio", "command": "c"}}] * 2},
            ["/mcpServers/1/serverId"],
        ),
        (
            {
                "mcpServers": [
                    {
                        "serverId": "s",
                        "name": "s",
                        "transport": {"type": "streamable-http", "routeKey": "other", "path": "/{target.x}"},
                    }
                ]
            },
            ["/mcpServers/0/transport/path", "/mcpServers/0/transport/routeKey"],
        ),
        (
            {
                "mcpServers": [
                    {
                        "serverId": "s",
                        "name": "s",
                        "transport": {"type": "stdio", "command": "c", "args": ["{x.y}"], "env": {"A": "a"}},
                    }
                ]
            },
            ["/mcpServers/0/transport/args/0"],
        ),
        (
            {"artifacts": [{"artifactKey": "a", "name": "a", "env": {"A": "{target.x}"}}]},
            ["/artifacts/0/env/A"],
        ),
        ({"artifacts": [{"artifactKey": "a", "name": "a"}] * 2}, ["/artifacts/1/artifactKey"]),
        ({"artifacts": [{"artifactKey": "a", "name": "a", "after": ["b"]}]}, ["/artifacts/0/after/0"]),
        (
            {
                "artifacts": [
                    {"artifactKey": "a", "name": "a", "env": {"A": "1"}},
                    {"artifactKey": "b", "name": "b", "env": {"A": "2"}},
                ]
            },
            ["/artifacts/1/env/A"],
        ),
    ],
)
def test_what_is_told_of_the_rest(members: dict[str, Any], pointers: list[str]) -> None:
    assert sorted(faults(small_manifest(**members))) == pointers


@pytest.mark.parametrize(
    ("path", "pointers"),
    [
        ("/v1", []),
        ("/v1/mcp", []),
        ("/v10", ["/mcpServers/0/transport/path"]),
        ("v1", ["/mcpServers/0/transport/path"]),
    ],
)
def test_a_server_is_where_its_route_leads(path: str, pointers: list[str]) -> None:
    transport = {"type": "streamable-http", "routeKey": "api", "path": path}
    assert (
        sorted(faults(small_manifest(mcpServers=[{"serverId": "s", "name": "s", "transport": transport}]))) == pointers
    )
