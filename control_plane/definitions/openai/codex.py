"""Codex as an agent of a sandbox: its program, its configuration file, and its app server.

From OpenAI's documentation: configuration (codex/config-reference; a project's file may not set a provider, and a
provider of ours must not be called like a built-in one), MCP servers (codex/mcp, "Streamable HTTP servers": headers
are `http_headers`), app server (codex/app-server, "Protocol": one JSON-RPC message per text frame, `GET /readyz`
beside it, loopback without authentication, WebSocket still experimental). The models and their efforts are what
`model/list` of Codex 0.171.0 answers.

Codex reads its file anew for each thread, so a changed model or MCP server needs no restart of the app server. Its
directory is not in HOME, which a plan cannot name; it has to be one that sandboxd may write.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Final, Literal, get_args

import tomlkit
from pydantic import StringConstraints

from control_plane.definitions.contract import Document, FormField, Issue, McpConfig
from control_plane.definitions.fields import Directory
from control_plane.definitions.npm_program import Version, npm_program, program_of_image
from sallyport.plan.fields import Model

CLIENT_ID: Final = "codex"
CONFIG_FILE_ID: Final = "config"
PROCESS_KEY: Final = "app-server"
ENDPOINT_KEY: Final = "app-server"
PORT: Final = 4500
READY_MS: Final = 30_000
STOP_MS: Final = 5_000

Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max", "ultra"]
ModelName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}$")]

_TO_XHIGH: Final = ("low", "medium", "high", "xhigh")
_TO_MAX: Final = (*_TO_XHIGH, "max")
_TO_ULTRA: Final = (*_TO_MAX, "ultra")
EFFORTS: Final[Mapping[str, Sequence[str]]] = {
    **dict.fromkeys(("gpt-6.2-sol", "gpt-6.2-astra", "gpt-6.1-sol", "gpt-6.1-terra"), _TO_ULTRA),
    **dict.fromkeys(("gpt-6-astra", "gpt-6-sol", "gpt-5.6-sol", "gpt-5.6-terra"), _TO_ULTRA),
    **dict.fromkeys(("gpt-6-luna", "gpt-5.6-luna"), _TO_MAX),
    "gpt-5.5": _TO_XHIGH,
}

MCP_CONFIG: Final = McpConfig(
    client_id=CLIENT_ID,
    file_id=CONFIG_FILE_ID,
    format="toml",
    path=("mcp_servers",),
    headers_name="http_headers",
)


class BindingConfig(Model):
    """Codex in the sandbox: from npm at one version, from the image, or none, which leaves the API alone.

    Without a model Codex takes its own default. One that is not known here may be newer, or another provider's behind
    the target's base URL.
    """

    codex: Literal["npm", "image", "none"] = "npm"
    version: Version = "0.171.0"
    model: ModelName | None = None
    reasoning_effort: Effort | None = None
    directory: Directory = "/var/lib/codex"


def artifact(config: BindingConfig) -> Document:
    """The program, and where it finds its configuration, from every shell too."""
    env = {"CODEX_HOME": config.directory}
    if config.codex == "image":
        return program_of_image(key="codex", name="Codex", program="codex", env=env)
    return npm_program(
        key="codex",
        name="Codex",
        program="codex",
        package="@openai/codex",
        version=config.version,
        answer=f"codex-cli {config.version}",
        env=env,
    )


def runtime_client(config: BindingConfig, *, base_url: str, key_variable: str) -> Document:
    """The app server with its configuration."""
    file = {
        "fileId": CONFIG_FILE_ID,
        "path": f"{config.directory}/config.toml",
        "mode": 0o600,
        "content": config_toml(config, base_url=base_url, key_variable=key_variable),
        "writeMode": "overwrite",
    }
    process = {
        "processKey": PROCESS_KEY,
        "command": {"args": ["codex", "app-server", "--listen", f"ws://127.0.0.1:{PORT}"]},
        "readiness": {
            "kind": "http",
            "url": f"http://127.0.0.1:{PORT}/readyz",
            "expectedStatus": 200,
            "timeoutMs": READY_MS,
        },
        "stop": {"signal": "SIGTERM", "timeoutMs": STOP_MS},
        "restart": "on-failure",
    }
    endpoint = {
        "endpointKey": ENDPOINT_KEY,
        "processKey": PROCESS_KEY,
        "transport": {"type": "ws", "url": f"ws://127.0.0.1:{PORT}"},
        "connectionMode": "dedicated",
    }
    return {
        "clientId": CLIENT_ID,
        "setup": {"env": {}, "files": [file]},
        "processes": [process],
        "endpoints": [endpoint],
    }


AGENT_RUNTIME: Final[Document] = {
    "runtimeKey": "codex",
    "clientId": CLIENT_ID,
    "endpointKey": ENDPOINT_KEY,
    "adapterKey": "codex-app-server",
}


def config_toml(config: BindingConfig, *, base_url: str, key_variable: str) -> str:
    """Write Codex's configuration. A provider of our own takes its key from the environment and asks for no login."""
    document = tomlkit.document()
    document.add(tomlkit.comment("Written anew with every revision of the sandbox's plan."))
    if config.model is not None:
        document["model"] = config.model
    if config.reasoning_effort is not None:
        document["model_reasoning_effort"] = config.reasoning_effort
    document["model_provider"] = "sallyport"
    document["check_for_update_on_startup"] = False
    document["analytics"] = {"enabled": False}
    document["model_providers"] = {
        "sallyport": {"name": "OpenAI", "base_url": base_url, "env_key": key_variable, "wire_api": "responses"}
    }
    return tomlkit.dumps(document)


def effort_issues(config: BindingConfig) -> list[Issue]:
    """Say whether a known model lacks the effort asked for."""
    effort, known = config.reasoning_effort, EFFORTS.get(config.model or "")
    if effort is None or known is None or effort in known:
        return []
    message = f"{config.model} reasons at {', '.join(known)}"
    return [Issue("openai.reasoning_effort_unsupported", "/reasoningEffort", message)]


def form_fields(value: Document, *, any_model: bool) -> list[FormField]:
    """The members of a binding by what is entered so far; `any_model` where another provider's are possible."""
    source = value.get("codex", "npm")
    absent = source == "none"
    model = FormField(name="model", label="Model", help="Codex's own default where none is named.", hidden=absent)
    return [
        FormField(name="codex", label="Codex", widget="select", choices=("npm", "image", "none")),
        FormField(name="version", label="Version", hidden=source != "npm"),
        model if any_model else replace(model, widget="select", choices=tuple(EFFORTS)),
        FormField(
            name="reasoningEffort",
            label="Reasoning effort",
            widget="select",
            choices=EFFORTS.get(str(value.get("model")), get_args(Effort)),
            hidden=absent,
        ),
        FormField(name="directory", label="Directory", help="Holds Codex's configuration and sessions.", hidden=absent),
    ]
