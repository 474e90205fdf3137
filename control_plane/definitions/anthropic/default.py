"""Anthropic as an agent: its API with an API key, and Claude Code.

From Anthropic's documentation: API overview, "Authentication" (the key in x-api-key) and "Versions"
(anthropic-version, which a client chooses and which is left alone).

The files endpoint takes any valid key: with an attacker's own, a sandbox could carry files out to the attacker's
workspace through a host that is allowed. It is held to the bound key by the route: x-api-key is written by the gateway
whatever the client sent, Authorization (by which the API takes OAuth tokens) is removed, and neither can be kept. So
every file lands in the workspace of the connection. An administrator's key is refused, since /v1 holds the
administration too, and DELETE is not claimed.
"""

from typing import Final

from control_plane.definitions.anthropic.claude_code import (
    MCP_CONFIG,
    BindingConfig,
    artifact,
    form_fields,
    runtime_client,
)
from control_plane.definitions.contract import (
    BindingContext,
    Compiled,
    ConnectionMethod,
    Document,
    FormContext,
    FormField,
    IntegrationDefinition,
    Kind,
    MethodKind,
    Nothing,
    Route,
    SecretField,
)

HOST: Final = "api.anthropic.com"
API_KEY_SECRET: Final = "api_key"
KEY_VARIABLE: Final = "ANTHROPIC_API_KEY"
# As long as a key and of its characters, because tools look at both.
KEY_PLACEHOLDER: Final = f"sk-ant-api03-{'SallyportPlaceholder':0<86}-000000AA"


def compile_binding(context: BindingContext[Nothing, Nothing, BindingConfig]) -> Compiled:
    """The API with its placeholder for every program, and Claude Code where it is wanted."""
    config = context.config
    api = Route(
        key="api",
        hosts=[HOST],
        methods=["GET", "POST"],
        path_prefixes=["/v1"],
        auth_injection={"type": "header", "header": "x-api-key"},
        placeholders=[{"value": KEY_PLACEHOLDER, "in": ["header"]}],
    )
    key: Document = {
        "artifactKey": "anthropic",
        "name": "Anthropic API",
        "after": [],
        "env": {KEY_VARIABLE: KEY_PLACEHOLDER},
        "lifecycle": {"install": []},
    }
    if config.claude_code == "none":
        return Compiled(routes=[api], artifacts=[key])
    return Compiled(
        routes=[api],
        artifacts=[key, artifact(config)],
        runtime_clients=[runtime_client(config, key_placeholder=KEY_PLACEHOLDER)],
    )


def binding_form(context: FormContext[Nothing, Nothing]) -> list[FormField]:
    """What Claude Code needs is shown where it is wanted."""
    return form_fields(context.value)


DEFINITION: Final = IntegrationDefinition(
    family_id="anthropic",
    variant_id="anthropic-default",
    kind=Kind.AGENT,
    display_name="Anthropic",
    description="Anthropic's API, and Claude Code as the sandbox's agent.",
    logo_key="anthropic",
    target_config=Nothing,
    target_secrets=Nothing,
    connection_config=Nothing,
    binding_config=BindingConfig,
    binding_form=binding_form,
    connection_methods=[
        ConnectionMethod(
            kind=MethodKind.API_KEY,
            label="API key",
            secret_type=API_KEY_SECRET,
            secrets=[
                SecretField(
                    secret_type=API_KEY_SECRET,
                    label="API key",
                    help="A key of a workspace. An administrator's key is refused.",
                    pattern=r"sk-ant-api[0-9]{2}-[A-Za-z0-9_-]{20,}",
                )
            ],
        )
    ],
    compile_binding=compile_binding,
    mcp_config=MCP_CONFIG,
)
