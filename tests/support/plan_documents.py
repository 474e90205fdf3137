"""Plan documents for tests, small and whole, as parsed JSON before they are sealed."""

from collections.abc import Mapping, Sequence

from sallyport.plan.codec import PlanError, parse_plan, seal
from sallyport.plan.model import CompiledRuntimePlan

type Document = dict[str, object]


def route_document(rule_id: str = "route", **fields: object) -> Document:
    """A route for api.example.com; `fields` replace or add members by their document names."""
    return {
        "egressRuleId": rule_id,
        "bindingId": "bnd_one",
        "familyId": "example",
        "variantId": "example-default",
        "match": {"hosts": ["api.example.com"]},
        "authInjection": {"type": "bearer"},
        "credentialResolver": {
            "kind": "integration_connection",
            "connectionId": "con_one",
            "secretType": "api_key",
        },
        **fields,
    }


def rule_document(rule_id: str, action: str, *hosts: str, **fields: object) -> Document:
    """An egress rule; no hosts means every host."""
    return {"ruleId": rule_id, "action": action, "hosts": list(hosts or ("*",)), **fields}


def plan_document(
    routes: Sequence[object] = (),
    rules: Sequence[object] = (),
    *,
    default: str = "passthrough",
    **fields: object,
) -> Document:
    """A plan without digest; `fields` replace or add members by their document names."""
    return {
        "schemaVersion": 1,
        "sandboxProfileId": "sbp_one",
        "version": 1,
        "organizationId": "org_one",
        "sandboxId": "sbx_one",
        "revision": 1,
        "image": {"source": "base", "imageRef": "sandbox-base:1"},
        "egress": {"default": default, "managedPassthrough": "deny", "rules": list(rules)},
        "egressRoutes": list(routes),
        "artifacts": [],
        "workspaceSources": [],
        "runtimeClients": [],
        "agentRuntimes": [],
        "mcpServers": [],
        **fields,
    }


def plan_of(
    routes: Sequence[object] = (), rules: Sequence[object] = (), *, default: str = "passthrough"
) -> CompiledRuntimePlan:
    """A parsed plan with these routes and rules."""
    return parse_plan(seal(plan_document(routes, rules, default=default)))


def issues_of(document: Mapping[str, object] | bytes) -> list[tuple[str, str]]:
    """The (code, pointer) of every issue of a document, sealed when it is not bytes already; [] when it is good."""
    data = document if isinstance(document, bytes) else seal(document)
    try:
        parse_plan(data)
    except PlanError as error:
        return [(issue.code.value, issue.pointer) for issue in error.issues]
    return []


def mcp_servers() -> list[Document]:
    """MCP servers: files (HTTP) and shell (stdio) in the sandbox, one elsewhere, and an id that is there twice."""

    def server(server_id: str, transport: Document) -> Document:
        return {"serverId": server_id, "bindingId": f"bnd_{server_id}", "name": server_id, "transport": transport}

    return [
        server("files", {"type": "streamable-http", "url": "http://127.0.0.1:4600/mcp"}),
        server("shell", {"type": "stdio", "command": "shell", "args": []}),
        server("twice", {"type": "stdio", "command": "one", "args": []}),
        server("twice", {"type": "stdio", "command": "two", "args": []}),
        server("far", {"type": "streamable-http", "url": "https://mcp.example.com/mcp"}),
    ]
