"""OpenAI as an agent: its API with an API key, and Codex.

From OpenAI's documentation: API reference, "Authentication" (bearer; OpenAI-Organization and OpenAI-Project choose
where a key of a user with several counts, a project's key needs neither), and "Files" (the one resource whose DELETE
is claimed: an agent clears away what it uploaded; models, assistants and the like stay).

The API is claimed at its own host even where a target has another base URL: what runs in the sandbox speaks to
api.openai.com and never learns where the operator sends it. An administrator's key is refused, since /v1 holds the
administration too.
"""

from typing import Annotated, Final

from pydantic import StringConstraints

from control_plane.definitions.contract import (
    BindingContext,
    Compiled,
    ConnectionMethod,
    Document,
    FormContext,
    FormField,
    IntegrationDefinition,
    Issue,
    Kind,
    MethodKind,
    Nothing,
    Route,
    SecretField,
    Target,
)
from control_plane.definitions.openai.codex import (
    AGENT_RUNTIME,
    MCP_CONFIG,
    BindingConfig,
    artifact,
    effort_issues,
    form_fields,
    runtime_client,
)
from sallyport.plan.fields import BaseUrl, Model, read_base_url

HOST: Final = "api.openai.com"
BASE_URL: Final = f"https://{HOST}/v1"
API_KEY_SECRET: Final = "api_key"
KEY_VARIABLE: Final = "OPENAI_API_KEY"
# As long as a key of a user and of its characters, because tools look at both.
KEY_PLACEHOLDER: Final = f"sk-{'SallyportPlaceholder':0<48}"


class TargetConfig(Model):
    """Where the operator sends the API's requests; http only where it is asked for by name."""

    base_url: BaseUrl | None = None
    allow_cleartext: bool = False


AccountId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,128}$")]


class ConnectionConfig(Model):
    """The organization and project that a user's key is to count for."""

    organization: AccountId | None = None
    project: AccountId | None = None


def _is_cleartext(target: TargetConfig) -> bool:
    return target.base_url is not None and read_base_url(target.base_url).scheme == "http"


def validate_target(target: Target[TargetConfig]) -> list[Issue]:
    """A base URL that would send the key in the clear has to be wanted."""
    if not _is_cleartext(target.config) or target.config.allow_cleartext:
        return []
    message = "an http base URL sends the key in the clear: use https, or set allowCleartext"
    return [Issue("openai.cleartext_base_url", "/config/baseUrl", message)]


def _routes(context: BindingContext[TargetConfig, ConnectionConfig, BindingConfig]) -> list[Route]:
    target, connection = context.target.config, context.connection.config
    chosen = {"OpenAI-Organization": connection.organization, "OpenAI-Project": connection.project}
    headers = {name: value for name, value in chosen.items() if value is not None}

    def route(key: str, methods: list[str], prefix: str) -> Route:
        return Route(
            key=key,
            hosts=[HOST],
            methods=methods,
            path_prefixes=[prefix],
            base_url=target.base_url,
            auth_injection={"type": "bearer"},
            placeholders=[{"value": KEY_PLACEHOLDER, "in": ["header"]}],
            additional_headers=headers or None,
            # It opens http:// on the sandbox's side too, so only where the operator's own side is that.
            allow_cleartext=target.allow_cleartext and _is_cleartext(target),
        )

    return [route("api", ["GET", "POST"], "/v1"), route("files", ["DELETE"], "/v1/files")]


def compile_binding(context: BindingContext[TargetConfig, ConnectionConfig, BindingConfig]) -> Compiled:
    """The API with its placeholder for every program, and Codex where it is wanted."""
    config = context.config
    key: Document = {
        "artifactKey": "openai",
        "name": "OpenAI API",
        "after": [],
        "env": {KEY_VARIABLE: KEY_PLACEHOLDER},
        "lifecycle": {"install": []},
    }
    if config.codex == "none":
        return Compiled(routes=_routes(context), artifacts=[key])
    return Compiled(
        routes=_routes(context),
        artifacts=[key, artifact(config)],
        runtime_clients=[runtime_client(config, base_url=BASE_URL, key_variable=KEY_VARIABLE)],
        agent_runtimes=[AGENT_RUNTIME],
    )


def validate_binding(context: BindingContext[TargetConfig, ConnectionConfig, BindingConfig]) -> list[Issue]:
    """The effort has to be one the model knows."""
    return effort_issues(context.config)


def target_form(context: FormContext[TargetConfig, ConnectionConfig]) -> list[FormField]:
    """Cleartext is offered where the base URL that is entered needs it."""
    is_http = str(context.value.get("baseUrl", "")).lower().startswith("http://")
    return [
        FormField(name="baseUrl", label="Base URL", help="Where requests go instead: scheme and host, without a path."),
        FormField(name="allowCleartext", label="Send the key in the clear", widget="checkbox", hidden=not is_http),
    ]


def connection_form(context: FormContext[TargetConfig, ConnectionConfig]) -> list[FormField]:
    """A key of a project needs neither."""
    return [
        FormField(name="organization", label="Organization", help="Only for a key of a user in several."),
        FormField(name="project", label="Project", help="Only for a key of a user."),
    ]


def binding_form(context: FormContext[TargetConfig, ConnectionConfig]) -> list[FormField]:
    """Models are listed unless the target's base URL may lead to another provider's."""
    elsewhere = context.target is not None and context.target.config.base_url is not None
    return form_fields(context.value, any_model=elsewhere)


DEFINITION: Final = IntegrationDefinition(
    family_id="openai",
    variant_id="openai-default",
    kind=Kind.AGENT,
    display_name="OpenAI",
    description="OpenAI's API, and Codex as the sandbox's agent.",
    logo_key="openai",
    target_config=TargetConfig,
    target_secrets=Nothing,
    connection_config=ConnectionConfig,
    binding_config=BindingConfig,
    target_form=target_form,
    connection_form=connection_form,
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
                    help="A key of a project is the narrowest. An administrator's key is refused.",
                    pattern=r"sk-(?!admin-)[A-Za-z0-9_-]{8,}",
                )
            ],
        )
    ],
    validate_target=validate_target,
    validate_binding_write_context=validate_binding,
    compile_binding=compile_binding,
    mcp_config=MCP_CONFIG,
)
