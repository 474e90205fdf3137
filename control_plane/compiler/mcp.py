"""The MCP pass: collect the servers of all bindings, name them, and write them into the files of the agents.

The rules are in docs/compiling.md. A server's URL is one that its route claims, because only such a request gets the
credential; where the route names no other upstream, it is the upstream's own.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import assert_never

from control_plane.compiler.agent_files import AgentFileError, merge_servers, names_in
from control_plane.compiler.emit import Part
from control_plane.compiler.issues import CompileCode, issue
from control_plane.compiler.parts import BindingParts, objects
from control_plane.definitions.contract import EgressUrl, HttpMcp, Issue, McpConfig, McpServer, Route, StdioMcp
from sallyport.destination import DEFAULT_PORTS, Destination
from sallyport.request_path import PathError, canonical_path


@dataclass(frozen=True, slots=True, kw_only=True)
class McpPass:
    """The servers in the words of the plan, and the agents' files by (client, file) with the servers in them."""

    servers: Sequence[Part]
    files: Mapping[tuple[str, str], str]


def run_mcp_pass(bindings: Sequence[BindingParts]) -> tuple[McpPass, list[Issue]]:
    """Do all of it for bindings in the order of their ids; where there are issues the result is not to be used."""
    issues: list[Issue] = []
    servers: list[Part] = []
    for parts in bindings:
        found, wrong = _servers(parts)
        servers += found
        issues += wrong
    agents = [(parts, parts.binding.definition.mcp_config) for parts in bindings]
    configs = [(parts, config) for parts, config in agents if config is not None]
    contents, wrong = _contents(configs)
    issues += wrong
    foreign, wrong = _foreign_names(configs, contents)
    issues += wrong
    named = _named(servers, foreign)
    files: dict[tuple[str, str], str] = {}
    for parts, config in configs:
        key = (config.client_id, config.file_id)
        if named and key in contents and not issues:
            try:
                files[key] = merge_servers(contents[key], config.format, config.path, _entries(named, config))
            except AgentFileError as error:
                issues.append(issue(CompileCode.MCP_INVALID_REF, parts.pointer, _file_message(config, str(error))))
    return McpPass(servers=named, files=files), issues


# --- the servers ------------------------------------------------------------------------------------------------------


def _servers(parts: BindingParts) -> tuple[list[Part], list[Issue]]:
    found: dict[str, Part] = {}
    issues: list[Issue] = []
    for server in parts.mcp_servers:
        if server.server_id in found:
            message = f"the binding has two MCP servers {server.server_id}"
            issues.append(issue(CompileCode.MCP_CONFLICT, parts.pointer, message))
            continue
        try:
            transport = _transport(server, {route.key: route for route in parts.compiled.routes})
        except _InvalidReference as error:
            message = f"MCP server {server.server_id}: {error}"
            issues.append(issue(CompileCode.MCP_INVALID_REF, parts.pointer, message))
            transport = {}
        found[server.server_id] = {
            "serverId": server.server_id,
            "bindingId": parts.id,
            "name": server.name,
            "transport": transport,
        }
    return [found[server_id] for server_id in sorted(found)], issues


class _InvalidReference(Exception):
    """A URL that leads to no route of the binding."""


def _transport(server: McpServer, routes: Mapping[str, Route]) -> Part:
    match server.transport:
        case HttpMcp(url=url, headers=headers):
            written = url if isinstance(url, str) else _claimed_url(url, routes)
            return {"type": "streamable-http", "url": written} | ({"headers": dict(headers)} if headers else {})
        case StdioMcp(command=command, args=args, env=env):
            return {"type": "stdio", "command": command, "args": list(args)} | ({"env": dict(env)} if env else {})
        case _:
            assert_never(server.transport)


def _claimed_url(url: EgressUrl, routes: Mapping[str, Route]) -> str:
    """Return a URL that the route claims; raise _InvalidReference where there is none."""
    route = routes.get(url.route_key)
    if route is None:
        raise _InvalidReference(f"the binding has no route {url.route_key}")
    host = next((host for host in route.hosts if "*" not in host), None)
    if host is None:
        raise _InvalidReference(f"route {route.key} claims no host by its own name")
    ports = route.ports or (DEFAULT_PORTS["https"],)
    port = DEFAULT_PORTS["https"] if DEFAULT_PORTS["https"] in ports else ports[0]
    path = url.path or "/"
    try:
        is_claimed = canonical_path(path.encode("utf-8", "surrogatepass")) == path and any(
            prefix == "/" or path == prefix or path.startswith(f"{prefix}/") for prefix in route.path_prefixes or ("/",)
        )
    except PathError:
        is_claimed = False
    if not is_claimed:
        raise _InvalidReference(f"route {route.key} does not claim the path {path}")
    return f"{Destination('https', host, port).origin}{url.path}"


def _named(servers: Sequence[Part], foreign: Collection[str]) -> list[Part]:
    """Give each server a name of its own: who comes first keeps it, a later one gets -2, -3 and so on."""
    wanted = {str(server["name"]) for server in servers}
    taken = set(foreign)
    named = []
    for server in servers:
        name, number = str(server["name"]), 1
        while name in taken or (number > 1 and name in wanted):
            number += 1
            name = f"{server['name']}-{number}"
        taken.add(name)
        named.append({**server, "name": name})
    return named


# --- the agents' files ------------------------------------------------------------------------------------------------


type _Configs = Sequence[tuple[BindingParts, McpConfig]]


def _contents(configs: _Configs) -> tuple[dict[tuple[str, str], str], list[Issue]]:
    """Return the content of each file that servers are to be written into."""
    contents: dict[tuple[str, str], str] = {}
    issues: list[Issue] = []
    for parts, config in configs:
        clients = [each for each in parts.emitted.runtime_clients if each.get("clientId") == config.client_id]
        files = [file for client in clients for file in objects(client, "setup", "files")]
        content = next((file.get("content") for file in files if file.get("fileId") == config.file_id), None)
        if isinstance(content, str):
            contents[config.client_id, config.file_id] = content
        elif clients:
            message = _file_message(config, "the client has no such file")
            issues.append(issue(CompileCode.MCP_INVALID_REF, parts.pointer, message))
        # A binding that brings no such client wants no agent in the sandbox, and its servers go to the others.
    return contents, issues


def _foreign_names(configs: _Configs, contents: Mapping[tuple[str, str], str]) -> tuple[set[str], list[Issue]]:
    names: set[str] = set()
    issues: list[Issue] = []
    for parts, config in configs:
        content = contents.get((config.client_id, config.file_id))
        if content is None:
            continue
        try:
            names.update(names_in(content, config.format, config.path))
        except AgentFileError as error:
            issues.append(issue(CompileCode.MCP_INVALID_REF, parts.pointer, _file_message(config, str(error))))
    return names, issues


def _entries(servers: Sequence[Part], config: McpConfig) -> Iterator[tuple[str, Part]]:
    """Yield (name, entry) of each server as the agent's file spells it."""
    for server in servers:
        [transport] = objects(server, "transport")
        entry: Part = {name: value for name, value in transport.items() if name not in ("type", "headers") and value}
        if transport["type"] == "streamable-http":
            entry |= {"type": config.http_type} if config.http_type is not None else {}
            entry |= {config.headers_name: transport["headers"]} if "headers" in transport else {}
        yield str(server["name"]), dict(sorted(entry.items()))


def _file_message(config: McpConfig, what: str) -> str:
    return f"file {config.file_id} of runtime client {config.client_id}: {what}"
