"""The MCP pass: where a server's URL leads, what it is called, and what the agents' files say."""

import tomllib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from control_plane.compiler.mcp import McpPass, run_mcp_pass
from control_plane.compiler.parts import parts_of
from control_plane.compiler.validate import validate
from control_plane.definitions.contract import (
    AnyDefinition,
    Compiled,
    EgressUrl,
    HttpMcp,
    Issue,
    Kind,
    McpConfig,
    McpServer,
    Route,
    StdioMcp,
)
from control_plane.definitions.registry import Registry
from tests.support.made_integrations import bound, inputs_of, made_definition

CODEX = McpConfig(client_id="codex", file_id="config", format="toml", path=["mcp_servers"], headers_name="http_headers")
CLAUDE = McpConfig(
    client_id="claude",
    file_id="settings",
    format="json",
    path=["mcpServers"],
    headers_name="headers",
    http_type="http",
)


def run(definitions: Sequence[AnyDefinition], *variants: str) -> tuple[McpPass, list[Issue]]:
    names = variants or tuple(each.variant_id for each in definitions)
    given = [bound(f"bnd_{number}", variant) for number, variant in enumerate(names, 1)]
    validated = validate(inputs_of(definitions, *given), Registry(definitions))
    assert validated.issues == ()
    return run_mcp_pass([parts_of(binding) for binding in validated.bindings])


def offers(variant: str, *servers: McpServer, routes: Sequence[Route] = ()) -> AnyDefinition:
    return made_definition(variant, compile_binding=lambda _: Compiled(routes=routes), mcp=lambda _: servers)


def http(url: str | EgressUrl, server_id: str = "s", name: str = "s", **headers: str) -> McpServer:
    return McpServer(server_id=server_id, name=name, transport=HttpMcp(url=url, headers=headers))


def agent(config: McpConfig, content: str | None = "", file_id: str | None = None) -> AnyDefinition:
    file = {
        "fileId": file_id or config.file_id,
        "path": "/f",
        "mode": 420,
        "content": content,
        "writeMode": "overwrite",
    }
    client = {"clientId": config.client_id, "setup": {"env": {}, "files": [file]}, "processes": [], "endpoints": []}
    clients = [] if content is None else [client]
    return made_definition(config.client_id, Kind.AGENT, lambda _: Compiled(runtime_clients=clients), mcp_config=config)


def route(**fields: Any) -> Route:  # noqa: ANN401  whatever a route has
    return Route(**({"key": "mcp", "hosts": ["mcp.example.com"], "auth_injection": {"type": "bearer"}} | fields))


@pytest.mark.parametrize(
    ("fields", "path", "url"),
    [
        ({}, "", "https://mcp.example.com"),
        ({}, "/mcp", "https://mcp.example.com/mcp"),
        ({"path_prefixes": ["/v1", "/mcp"]}, "/mcp/x", "https://mcp.example.com/mcp/x"),
        ({"hosts": ["*.example.com", "b.example.com", "a.example.com"]}, "", "https://b.example.com"),
        ({"ports": [8443, 9443]}, "", "https://mcp.example.com:8443"),
        ({"ports": [8443, 443]}, "", "https://mcp.example.com"),
        # The request has to be claimed by the route: that it goes on to another upstream is the gateway's business.
        ({"base_url": "https://elsewhere.example"}, "/mcp", "https://mcp.example.com/mcp"),
    ],
)
def test_a_reference_becomes_a_url_that_its_route_claims(fields: dict[str, object], path: str, url: str) -> None:
    passed, issues = run([offers("one", http(EgressUrl("mcp", path)), routes=[route(**fields)])])
    assert issues == []
    assert passed.servers == [
        {"serverId": "s", "bindingId": "bnd_1", "name": "s", "transport": {"type": "streamable-http", "url": url}}
    ]


@pytest.mark.parametrize(
    ("fields", "reference", "message"),
    [
        ({}, EgressUrl("api"), "MCP server s: the binding has no route api"),
        ({"hosts": ["*.example.com"]}, EgressUrl("mcp"), "MCP server s: route mcp claims no host by its own name"),
        (
            {"path_prefixes": ["/mcp"]},
            EgressUrl("mcp", "/mcpx"),
            "MCP server s: route mcp does not claim the path /mcpx",
        ),
        ({}, EgressUrl("mcp", "/a/../b"), "MCP server s: route mcp does not claim the path /a/../b"),
        ({}, EgressUrl("mcp", "/%61"), "MCP server s: route mcp does not claim the path /%61"),
    ],
)
def test_a_reference_that_leads_nowhere(fields: dict[str, object], reference: EgressUrl, message: str) -> None:
    _, issues = run([offers("one", http(reference), routes=[route(**fields)])])
    assert issues == [Issue("compile.mcp_invalid_ref", "/bindings/0", message)]


def test_a_binding_has_a_server_once() -> None:
    url = "https://a.example/mcp"
    _, issues = run([offers("one", http(url), http(url, name="t"))])
    assert issues == [Issue("compile.mcp_conflict", "/bindings/0", "the binding has two MCP servers s")]
    assert run([offers("one", http(url)), offers("two", http(url))])[1] == []


def test_names_are_made_unique_and_who_was_there_first_keeps_its_own() -> None:
    url = "https://a.example/mcp"
    one = offers("one", http(url, "b", "tool"), http(url, "a", "tool"))
    two = offers("two", http(url, "c", "tool-2"), http(url, "d", "tool"))
    passed, _ = run([one, two])
    assert [(each["bindingId"], each["serverId"], each["name"]) for each in passed.servers] == [
        ("bnd_1", "a", "tool"),
        ("bnd_1", "b", "tool-3"),
        ("bnd_2", "c", "tool-2"),
        ("bnd_2", "d", "tool-4"),
    ]


def test_each_agent_s_file_is_written_as_it_spells_servers() -> None:
    stdio = McpServer(server_id="t", name="local", transport=StdioMcp(command="serve", args=["-x"], env={"A": "1"}))
    bare = McpServer(server_id="u", name="bare", transport=StdioMcp(command="serve"))
    tools = offers("tools", http("https://a.example/mcp", **{"X-A": "1"}), stdio, bare)
    passed, issues = run([agent(CODEX, "# mine\n[mcp_servers.own]\ncommand = 'x'\n"), agent(CLAUDE, "{}"), tools])
    assert issues == []
    toml = passed.files["codex", "config"]
    assert toml.startswith("# mine\n")
    assert tomllib.loads(toml)["mcp_servers"] == {
        "own": {"command": "x"},
        "s": {"url": "https://a.example/mcp", "http_headers": {"X-A": "1"}},
        "local": {"command": "serve", "args": ["-x"], "env": {"A": "1"}},
        "bare": {"command": "serve"},
    }
    assert '"type": "http"' in passed.files["claude", "settings"]
    assert '"headers": {\n        "X-A": "1"' in passed.files["claude", "settings"]
    assert [server["transport"] for server in passed.servers][1:] == [
        {"type": "stdio", "command": "serve", "args": ["-x"], "env": {"A": "1"}},
        {"type": "stdio", "command": "serve", "args": []},
    ]


def test_a_foreign_server_keeps_its_name() -> None:
    tools = offers("tools", http("https://a.example/mcp", name="own"))
    passed, _ = run([agent(CODEX, "[mcp_servers.own]\ncommand = 'x'\n"), tools])
    assert [server["name"] for server in passed.servers] == ["own-2"]
    assert sorted(tomllib.loads(passed.files["codex", "config"])["mcp_servers"]) == ["own", "own-2"]


def test_a_file_without_servers_to_write_is_left_alone() -> None:
    assert run([agent(CODEX, "# mine\n")]) == (McpPass(servers=[], files={}), [])


def test_an_agent_that_is_not_installed_gets_no_file() -> None:
    passed, issues = run([agent(CODEX, None), offers("tools", http("https://a.example/mcp"))])
    assert (passed.files, issues) == ({}, [])


@pytest.mark.parametrize(
    ("definition", "message"),
    [
        (agent(CODEX, "a = "), "file config of runtime client codex: it is not TOML"),
        (agent(CODEX, "", "other"), "file config of runtime client codex: the client has no such file"),
        (
            agent(replace(CODEX, path=["a", "b"]), "[a]\nb.c.d = 1\n"),
            "file config of runtime client codex: nothing can be added to [a.b] as it is spelled; write it as tables",
        ),
    ],
)
def test_a_file_that_cannot_hold_servers(definition: AnyDefinition, message: str) -> None:
    _, issues = run([definition, offers("tools", http("https://a.example/mcp"))])
    assert issues == [Issue("compile.mcp_invalid_ref", "/bindings/0", message)]
