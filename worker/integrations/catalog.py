"""The integration servers known by name. Each is a manifest; what an operator has to add, the docs say."""

from collections.abc import Mapping
from typing import Final

from worker.integrations.manifest import Manifest, read_manifest

_DOCUMENTS: Final[tuple[Mapping[str, object], ...]] = (
    {
        "id": "postgresql-connector",
        "description": "Query, describe and change a PostgreSQL database",
        "package": {"registry": "own", "name": "postgresql"},
        "transport": {"type": "stdio"},
        "secrets": {"POSTGRESQL_URL": {"env": "POSTGRESQL_URL"}},
    },
    {
        "id": "github-connector",
        "description": "GitHub's own MCP server",
        "transport": {"type": "streamable-http", "url": "https://api.githubcopilot.com/mcp/"},
        "secrets": {"Authorization": {"env": "GITHUB_TOKEN", "prefix": "Bearer "}},
    },
    {
        "id": "salesforce-connector",
        "description": "Salesforce's own MCP server for the DX tools; name an org by its arguments",
        "package": {"registry": "npm", "name": "@salesforce/mcp"},
        "transport": {"type": "stdio", "args": ["--orgs", "DEFAULT_TARGET_ORG", "--toolsets", "orgs,data"]},
    },
    {
        "id": "filesystem",
        "description": "Files below the folders that its arguments name",
        "package": {"registry": "npm", "name": "@modelcontextprotocol/server-filesystem"},
        "transport": {"type": "stdio"},
    },
    {
        "id": "git",
        "description": "Read and change Git repositories",
        "package": {"registry": "pypi", "name": "mcp-server-git"},
        "transport": {"type": "stdio"},
    },
    {
        "id": "time",
        "description": "The time, and conversions between time zones",
        "package": {"registry": "pypi", "name": "mcp-server-time"},
        "transport": {"type": "stdio"},
    },
    {
        "id": "everything",
        "description": "Every feature of MCP, for trying a client",
        "package": {"registry": "npm", "name": "@modelcontextprotocol/server-everything"},
        "transport": {"type": "stdio"},
    },
)

CATALOG: Final[Mapping[str, Manifest]] = {
    manifest.id: manifest for manifest in (read_manifest(document) for document in _DOCUMENTS)
}
