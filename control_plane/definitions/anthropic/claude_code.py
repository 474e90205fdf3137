"""Claude Code as an agent of a sandbox: its program and its two files.

From Anthropic's documentation of Claude Code: settings (settings-reference; `model`, `env`), environment variables
(env-vars; CLAUDE_CONFIG_DIR moves `~/.claude` and `~/.claude.json`, ANTHROPIC_API_KEY has to be approved once where
somebody sits at the terminal), MCP (mcp, "MCP installation scopes": servers of the user stand in `.claude.json` under
`mcpServers`, one over HTTP with `type: "http"` and `headers`).

It runs in a terminal or for one prompt and has no server one could connect to, so there is neither a process nor an
endpoint, and no agent runtime: whoever works in the sandbox starts `claude`. A fixed set of servers by
/etc/claude-code/managed-mcp.json is not used, because it forbids the project's own and asks for root.

`.claude.json` is also where Claude Code keeps what it remembers. A revision that changes the servers replaces it, and
it asks anew whether a directory is trusted; nothing else of weight is lost.
"""

import json
from typing import Annotated, Final, Literal

from pydantic import StringConstraints

from control_plane.definitions.contract import Document, FormField, McpConfig
from control_plane.definitions.fields import Directory
from control_plane.definitions.npm_program import Version, npm_program, program_of_image
from sallyport.plan.fields import Model

CLIENT_ID: Final = "claude-code"
STATE_FILE_ID: Final = "state"
# What Claude Code remembers of a key that was approved: its end.
_REMEMBERED: Final = 20
MODELS: Final = ("opus", "sonnet", "haiku", "fable", "opusplan")

ModelName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}(\[1m\])?$")]

MCP_CONFIG: Final = McpConfig(
    client_id=CLIENT_ID,
    file_id=STATE_FILE_ID,
    format="json",
    path=("mcpServers",),
    headers_name="headers",
    http_type="http",
)


class BindingConfig(Model):
    """Claude Code in the sandbox: from npm at one version, from the image, or none, which leaves the API alone.

    A model is an alias such as `opus`, or a model's full name; without one Claude Code takes its default.
    """

    claude_code: Literal["npm", "image", "none"] = "npm"
    version: Version = "2.1.332"
    model: ModelName | None = None
    directory: Directory = "/var/lib/claude-code"


def artifact(config: BindingConfig) -> Document:
    """The program, and where it finds its files, from every shell."""
    env = {"CLAUDE_CONFIG_DIR": config.directory}
    if config.claude_code == "image":
        return program_of_image(key=CLIENT_ID, name="Claude Code", program="claude", env=env)
    return npm_program(
        key=CLIENT_ID,
        name="Claude Code",
        program="claude",
        package="@anthropic-ai/claude-code",
        version=config.version,
        answer=f"{config.version} (Claude Code)",
        env=env,
    )


def runtime_client(config: BindingConfig, *, key_placeholder: str) -> Document:
    """The settings, and the file that has the MCP servers; no process."""
    settings = {
        **({} if config.model is None else {"model": config.model}),
        # The version is the plan's to choose, and a sandbox asks no host it does not need.
        "env": {"DISABLE_AUTOUPDATER": "1", "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1"},
    }
    state = {
        "hasCompletedOnboarding": True,
        "customApiKeyResponses": {"approved": [key_placeholder[-_REMEMBERED:]], "rejected": []},
        "mcpServers": {},
    }
    files = [
        _file("settings", f"{config.directory}/settings.json", settings),
        _file(STATE_FILE_ID, f"{config.directory}/.claude.json", state),
    ]
    return {"clientId": CLIENT_ID, "setup": {"env": {}, "files": files}, "processes": [], "endpoints": []}


def _file(file_id: str, path: str, content: Document) -> Document:
    text = json.dumps(content, indent=2) + "\n"
    return {"fileId": file_id, "path": path, "mode": 0o600, "content": text, "writeMode": "overwrite"}


def form_fields(value: Document) -> list[FormField]:
    """The members of a binding by what is entered so far."""
    source = value.get("claudeCode", "npm")
    absent = source == "none"
    return [
        FormField(name="claudeCode", label="Claude Code", widget="select", choices=("npm", "image", "none")),
        FormField(name="version", label="Version", hidden=source != "npm"),
        FormField(
            name="model",
            label="Model",
            widget="select",
            choices=MODELS,
            help="Claude Code's own default where none is chosen.",
            hidden=absent,
        ),
        FormField(
            name="directory", label="Directory", help="Holds Claude Code's settings and sessions.", hidden=absent
        ),
    ]
