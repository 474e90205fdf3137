"""The closed list of what the compiler itself finds wrong; docs/compiling.md explains each.

Definitions add issues of their own namespaces, and the schema of plans those of `plan`.
"""

from enum import StrEnum

from control_plane.definitions.contract import Issue


class CompileCode(StrEnum):
    """An issue of the namespace `compile`. The first block is about one binding, the second about several."""

    CONNECTION_MISMATCH = "connection_mismatch"
    TARGET_DISABLED = "target_disabled"
    CONNECTION_NOT_ACTIVE = "connection_not_active"
    DEFINITION_NOT_FOUND = "definition_not_found"
    KIND_MISMATCH = "kind_mismatch"
    INVALID_TARGET_CONFIG = "invalid_target_config"
    INVALID_TARGET_SECRETS = "invalid_target_secrets"
    INVALID_BINDING_CONFIG = "invalid_binding_config"
    MCP_INVALID_REF = "mcp_invalid_ref"
    RUNTIME_CLIENT_INVALID_REF = "runtime_client_invalid_ref"
    AGENT_RUNTIME_REQUIRED = "agent_runtime_required"

    ROUTE_CONFLICT = "route_conflict"
    ARTIFACT_CONFLICT = "artifact_conflict"
    MCP_CONFLICT = "mcp_conflict"
    RUNTIME_CLIENT_CONFLICT = "runtime_client_conflict"
    AGENT_RUNTIME_CONFLICT = "agent_runtime_conflict"
    WORKSPACE_CONFLICT = "workspace_conflict"
    SETUP_REFUSED = "setup_refused"


def issue(code: CompileCode, pointer: str, message: str) -> Issue:
    """Make an issue of the compiler's own."""
    return Issue(f"compile.{code.value}", pointer, message)
