"""The tools of the built-in server: one row each, an operation of the API and how it is told to an agent. Pure."""

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import Final, NamedTuple

from control_plane.callers import Role


class Effect(Enum):
    """What calling a tool does, as its annotations say it."""

    READS = "reads"
    STARTS = "starts"
    ENDS = "ends"


class Operation(NamedTuple):
    """A tool. The variable parts of `path` are named as its arguments are, which need not be how the router does.

    `renamed` has members of the body that go by another name, because the path has an argument of theirs.
    """

    name: str
    title: str
    description: str
    method: str
    path: str
    effect: Effect = Effect.READS
    renamed: Mapping[str, str] = MappingProxyType({})
    # Whom the API takes the caller for, within the key's organization and instance.
    role: Role = Role.MEMBER


_VERSION: Final = "/v1/sandbox/profiles/{sandboxProfileId}/versions/{version}"
_SHARED_TOOL: Final = "/api/shared-tools/{sharedToolId}"

OPERATIONS: Final = (
    Operation(
        "list_sandboxes",
        "List sandboxes",
        "The sandboxes of this organization by id, each with its plan in force, or why it has none.",
        *("GET", "/v1/sandboxes"),
    ),
    Operation(
        "show_sandbox",
        "Show a sandbox",
        "One sandbox: its profile and version, its plan in force, or the issues that kept one from being made.",
        *("GET", "/v1/sandboxes/{sandboxId}"),
    ),
    Operation(
        "list_plans",
        "List the plans of a sandbox",
        "The revisions of a sandbox's plan, the newest first. show_plan has one of them whole.",
        *("GET", "/v1/sandboxes/{sandboxId}/plans"),
    ),
    Operation(
        "show_plan",
        "Show a plan",
        "One revision of a sandbox's compiled plan: its egress rules and routes, set-up and MCP servers. No secrets.",
        *("GET", "/v1/sandboxes/{sandboxId}/plans/{revision}"),
    ),
    Operation(
        "list_denials",
        "List denials",
        "What gateways denied a sandbox lately, the oldest first, each with its code and the route or rule. "
        "There is always a nextCursor: more may come.",
        *("GET", "/v1/sandboxes/{sandboxId}/denials"),
    ),
    Operation(
        "list_profiles",
        "List sandbox profiles",
        "The sandbox profiles of this organization by id, each with its latest version.",
        *("GET", "/v1/sandbox/profiles"),
    ),
    Operation(
        "show_profile_version",
        "Show a version of a profile",
        "The image and the egress rules of one version of a sandbox profile. list_bindings has its connections.",
        *("GET", _VERSION),
    ),
    Operation(
        "list_bindings",
        "List the bindings of a version",
        "Which connections the sandboxes of a profile's version use, and how.",
        *("GET", f"{_VERSION}/integration-bindings"),
    ),
    Operation(
        "explain_request",
        "Explain a request",
        "What a gateway would do with a request of a sandbox of this version, and why: the route or rule that answers "
        "it, and the nearest ones that do not. Ask this when a sandbox is refused something.",
        *("GET", f"{_VERSION}/explain"),
    ),
    Operation(
        "diff_plans",
        "Compare plans",
        "Which requests would be answered differently by another version of the profile, or with other bindings. "
        "Nothing is changed.",
        *("POST", f"{_VERSION}/diff"),
        renamed=MappingProxyType({"version": "otherVersion"}),
    ),
    Operation(
        "simulate_requests",
        "Simulate requests",
        "What would become of requests that were made before, those that change first. Nothing is sent or changed.",
        *("POST", f"{_VERSION}/simulate"),
    ),
    Operation(
        "list_connections",
        "List connections",
        "The accounts that this organization has connected, each with its health: active, in error and why, or "
        "revoked. Secrets are never shown.",
        *("GET", "/v1/integration/connections"),
    ),
    Operation(
        "show_connection",
        "Show a connection",
        "One connection and its health. Secrets are never shown.",
        *("GET", "/v1/integration/connections/{connectionId}"),
    ),
    Operation(
        "list_resolutions",
        "List who used a connection",
        "Who asked for a connection's credentials and what came of it, the newest first.",
        *("GET", "/v1/integration/connections/{connectionId}/resolutions"),
    ),
    Operation(
        "list_targets",
        "List targets",
        "The integrations that connections can be made to, with their health and how they are connected.",
        *("GET", "/v1/integration/targets"),
    ),
    Operation(
        "show_target",
        "Show a target",
        "One integration that connections can be made to.",
        *("GET", "/v1/integration/targets/{targetKey}"),
    ),
    Operation(
        "list_shared_tools",
        "List shared tools",
        "The tools that all users of this instance share, with what is wanted of each and how it is.",
        *("GET", "/api/shared-tools"),
        role=Role.OPERATOR,
    ),
    Operation(
        "show_shared_tool",
        "Show a shared tool",
        "One tool that all users of this instance share.",
        *("GET", _SHARED_TOOL),
        role=Role.OPERATOR,
    ),
    Operation(
        "start_shared_tool",
        "Start a shared tool",
        "Have a shared tool run; one that runs is left alone. Clients are served it once its worker says that it runs.",
        *("POST", f"{_SHARED_TOOL}/start"),
        effect=Effect.STARTS,
        role=Role.OPERATOR,
    ),
    Operation(
        "stop_shared_tool",
        "Stop a shared tool",
        "Have a shared tool not run: clients are served it no more. Calls that run on it may go on for a while, unless "
        "it is to stop at once.",
        *("POST", f"{_SHARED_TOOL}/stop"),
        effect=Effect.ENDS,
        role=Role.OPERATOR,
    ),
    Operation(
        "list_installations",
        "List installations",
        "The tools that single users of this instance have installed, of one user where one is named.",
        *("GET", "/api/installations"),
        role=Role.OPERATOR,
    ),
    Operation(
        "show_installation",
        "Show an installation",
        "One tool that a user of this instance has installed.",
        *("GET", "/api/installations/{installationId}"),
        role=Role.OPERATOR,
    ),
)

# What every argument is; a name means the same in every tool.
ARGUMENTS: Final[Mapping[str, str]] = {
    "sandboxId": "The sandbox's id, `sbx_...`.",
    "sandboxProfileId": "The profile's id.",
    "version": "The version's number, from 1.",
    "otherVersion": "The version that this one is compared with, unless bindings are given.",
    "revision": "The revision's number, from 1.",
    "connectionId": "The connection's id, `con_...`.",
    "sharedToolId": "The shared tool's id, `stl_...`.",
    "atOnce": "Whether calls that run on it are cut.",
    "installationId": "The installation's id, `inl_...`.",
    "userId": "A user of this instance, as its application names it.",
    "targetKey": "The target's key.",
    "method": "The request's method, in capitals.",
    "url": "The whole URL that the sandbox asks for.",
    "requests": "The requests, each with its method and URL.",
    "bindings": "Bindings to be taken in the place of the version's own, as list_bindings shows them.",
    "search": "A text that the id, the name or the target of a connection has in it.",
    "cursor": "The nextCursor of the page before; without it the first page.",
    "limit": "How many items a page has at most.",
}
