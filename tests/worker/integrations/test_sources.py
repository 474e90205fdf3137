"""Sources of every kind, and the registry's server.json."""

import pytest

from worker.integrations.errors import Category, IntegrationError
from worker.integrations.manifest import HttpTransport, Manifest, NpmPackage, PypiPackage, StdioTransport
from worker.integrations.sources import InstallRequest, manifest_of


def read(source: object, **more: object) -> Manifest:
    return manifest_of(InstallRequest.model_validate({"source": source, **more}))


def refused(source: object, **more: object) -> IntegrationError:
    with pytest.raises(IntegrationError) as caught:
        read(source, **more)
    return caught.value


def test_a_name_of_the_catalog() -> None:
    assert read("time").package == PypiPackage(registry="pypi", name="mcp-server-time")
    error = refused("timer")
    assert (error.category, error.details is not None and "time" in str(error.details)) == (Category.NOT_FOUND, True)


@pytest.mark.parametrize(
    ("source", "name", "package"),
    [
        ("npm:@a/b", "a-b", NpmPackage(registry="npm", name="@a/b")),
        ("npm:@a/b@1.2.3", "a-b", NpmPackage(registry="npm", name="@a/b", version="1.2.3")),
        ("npm:b@1", "b", NpmPackage(registry="npm", name="b", version="1")),
        ("pypi:mcp-x", "mcp-x", PypiPackage(registry="pypi", name="mcp-x")),
        ("pypi:mcp-x==1.0", "mcp-x", PypiPackage(registry="pypi", name="mcp-x", version="1.0")),
    ],
)
def test_packages(source: str, name: str, package: object) -> None:
    manifest = read(source)
    assert (manifest.id, manifest.package, manifest.transport) == (name, package, StdioTransport(type="stdio"))


@pytest.mark.parametrize("source", ["npm:", "npm:../x", "pypi:x>=1", "gem:x", "npm:x@1 y", "pypi:--help", "http://x"])
def test_what_is_no_source(source: str) -> None:
    assert refused(source).category is Category.VALIDATION_ERROR


def test_what_an_operator_adds_wins() -> None:
    manifest = read(
        {"id": "x", "transport": {"type": "stdio", "command": "c", "args": ["a"]}, "environment": {"A": "1", "B": "2"}},
        id="mine",
        tier="standard",
        arguments=["b"],
        environment={"A": "3"},
        secrets={"TOKEN": {"file": "/run/token"}},
    )
    assert (manifest.id, manifest.tier, manifest.environment) == ("mine", "standard", {"A": "3", "B": "2"})
    assert isinstance(manifest.transport, StdioTransport)
    assert manifest.transport.args == ("a", "b")
    assert list(manifest.secrets) == ["TOKEN"]


def test_a_server_at_a_url_takes_no_arguments() -> None:
    assert "no arguments" in str(refused("github-connector", arguments=["x"]))


SERVER: dict[str, object] = {
    "$schema": "https://static.modelcontextprotocol.io/schemas/2025-12-11/server.schema.json",
    "name": "io.github.example/weather",
    "description": "Weather",
    "version": "1.0.2",
    "packages": [
        {"registryType": "oci", "identifier": "docker.io/example/weather:1.0.2", "transport": {"type": "stdio"}},
        {
            "registryType": "npm",
            "identifier": "@example/weather-mcp",
            "version": "1.0.2",
            "transport": {"type": "stdio"},
            "packageArguments": [
                {"type": "named", "name": "--units", "value": "metric"},
                {"type": "positional", "valueHint": "place", "default": "Zurich"},
            ],
            "environmentVariables": [
                {"name": "WEATHER_API_KEY", "isRequired": True, "isSecret": True},
                {"name": "WEATHER_CACHE", "default": "1h"},
                {"name": "WEATHER_PROXY"},
            ],
        },
    ],
}
REMOTE: dict[str, object] = {
    "name": "com.example/remote",
    "remotes": [
        {"type": "sse", "url": "https://mcp.example.com/sse"},
        {
            "type": "streamable-http",
            "url": "https://mcp.example.com/mcp",
            "headers": [{"name": "X-Api-Key", "isRequired": True, "isSecret": True}, {"name": "X-Plan", "value": "a"}],
        },
    ],
}


@pytest.mark.parametrize("document", [SERVER, {"server": SERVER, "_meta": {"x": 1}}])
def test_a_server_json_with_packages(document: dict[str, object]) -> None:
    manifest = read(document)
    assert manifest.id == "io.github.example-weather"
    assert manifest.package == NpmPackage(registry="npm", name="@example/weather-mcp", version="1.0.2")
    assert manifest.transport == StdioTransport(type="stdio", args=("--units", "metric", "Zurich"))
    assert manifest.environment == {"WEATHER_CACHE": "1h"}
    assert manifest.model_dump()["secrets"] == {"WEATHER_API_KEY": {"env": "WEATHER_API_KEY", "prefix": ""}}


def test_its_secrets_can_be_said_to_be_elsewhere() -> None:
    manifest = read(SERVER, secrets={"WEATHER_API_KEY": {"credential": "weather"}})
    assert manifest.model_dump()["secrets"] == {"WEATHER_API_KEY": {"credential": "weather", "prefix": ""}}


def test_a_server_json_with_remotes() -> None:
    manifest = read(REMOTE)
    url = "https://mcp.example.com/mcp"
    assert manifest.transport == HttpTransport(type="streamable-http", url=url, headers={"X-Plan": "a"})
    assert manifest.model_dump()["secrets"] == {"X-Api-Key": {"env": "X_API_KEY", "prefix": ""}}


def test_what_a_server_json_leaves_open_or_cannot_be_done() -> None:
    package = {"registryType": "npm", "identifier": "x", "transport": {"type": "stdio"}}
    needed = [{"type": "named", "name": "--place", "isRequired": True}]
    assert "--place" in str(refused({"name": "a/b", "packages": [package | {"packageArguments": needed}]}))
    variables = [{"name": "PLACE", "isRequired": True}]
    document = {"name": "a/b", "packages": [package | {"environmentVariables": variables}]}
    assert "PLACE" in str(refused(document))
    assert read(document, environment={"PLACE": "Bern"}).environment == {"PLACE": "Bern"}
    assert "no npm or pypi package" in str(refused({"name": "a/b", "packages": []}))
    assert "is not one" in str(refused({"packages": [{"identifier": 1}]}))
