"""Slack as a connector: a bot's token, the Web API, files.

From Slack's documentation (docs.slack.dev): "Tokens" (xoxb- is a bot's), "Using the Slack Web API" (GET and POST under
/api, the token as bearer), "Working with files" (url_private lies on files.slack.com and wants the token; an upload
goes to the URL that files.getUploadURLExternal gave, there too).
"""

from collections.abc import Sequence
from typing import Annotated, Final

from pydantic import Field, StringConstraints

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
    OAuth2Access,
    Route,
    SecretField,
)
from control_plane.definitions.slack.oauth import HOST, OAUTH, ConnectionConfig, TargetSecrets, connection_form
from control_plane.definitions.slack.webhooks import WEBHOOK_HANDLER, WEBHOOK_SOURCE
from sallyport.plan.fields import Model

FILES_HOST: Final = "files.slack.com"
OAUTH_SECRET: Final = "oauth2_access_token"
BOT_TOKEN_SECRET: Final = "bot_token"
TOKEN_VARIABLE: Final = "SLACK_BOT_TOKEN"
# In the form of a bot's token, because Slack's own clients look at it.
TOKEN_PLACEHOLDER: Final = "xoxb-000000000000-000000000000-SallyportPlaceholder0000"
MAX_API_METHODS: Final = 100

# A method of the Web API, such as chat.postMessage: one segment of a path.
ApiMethod = Annotated[str, StringConstraints(pattern=r"^[a-z][A-Za-z0-9]{0,63}(?:\.[A-Za-z0-9]{1,64}){1,4}$")]


class BindingConfig(Model):
    """The methods of the Web API the sandbox may call, all of them where none is named, and its files."""

    api_methods: Annotated[tuple[ApiMethod, ...], Field(strict=False, max_length=MAX_API_METHODS)] = ()
    files: bool = True


type Context = BindingContext[Nothing, ConnectionConfig, BindingConfig]


def compile_binding(context: Context) -> Compiled:
    """The Web API, the files where they are wanted, and a token that starts Slack's clients."""
    config = context.config
    routes = [_route("api", HOST, ["GET", "POST"], [f"/api/{name}" for name in config.api_methods] or ["/api"])]
    if config.files:
        routes += [
            _route("files", FILES_HOST, ["GET"], ["/files-pri", "/files-tmb"]),
            _route("uploads", FILES_HOST, ["POST"], ["/upload"]),
        ]
    token: Document = {
        "artifactKey": "slack",
        "name": "Slack",
        "after": [],
        "env": {TOKEN_VARIABLE: TOKEN_PLACEHOLDER},
        "lifecycle": {"install": []},
    }
    return Compiled(routes=routes, artifacts=[token])


def _route(key: str, host: str, methods: Sequence[str], prefixes: Sequence[str]) -> Route:
    return Route(
        key=key,
        hosts=[host],
        methods=methods,
        path_prefixes=prefixes,
        auth_injection={"type": "bearer"},
        placeholders=[{"value": TOKEN_PLACEHOLDER, "in": ["header"]}],
        # Slack takes a token there too, and it would win.
        strip_query=["token"],
    )


def binding_form(context: FormContext[Nothing, ConnectionConfig]) -> list[FormField]:
    """Both narrow what the token may."""
    return [
        FormField(
            name="apiMethods",
            label="Methods",
            widget="list",
            help="Of the Web API, such as chat.postMessage; all of them where none is named.",
        ),
        FormField(name="files", label="Files", widget="checkbox", help="Reading files, and uploading them."),
    ]


DEFINITION: Final = IntegrationDefinition(
    family_id="slack",
    variant_id="slack-default",
    kind=Kind.CONNECTOR,
    display_name="Slack",
    description="A workspace's channels, messages and files, as a bot.",
    logo_key="slack",
    target_config=Nothing,
    target_secrets=TargetSecrets,
    connection_config=ConnectionConfig,
    binding_config=BindingConfig,
    connection_form=connection_form,
    binding_form=binding_form,
    connection_methods=[
        ConnectionMethod(
            kind=MethodKind.OAUTH2_AUTHORIZATION_CODE,
            label="Add to Slack",
            secret_type=OAUTH_SECRET,
            requires=("client_id", "client_secret"),
        ),
        ConnectionMethod(
            kind=MethodKind.API_KEY,
            label="Bot token",
            secret_type=BOT_TOKEN_SECRET,
            secrets=[
                SecretField(
                    secret_type=BOT_TOKEN_SECRET,
                    label="Bot token",
                    help="The app's page at Slack shows it under OAuth & Permissions. A user's token is refused.",
                    pattern=r"xoxb-[A-Za-z0-9-]{20,250}",
                )
            ],
        ),
    ],
    credential_resolvers={OAUTH_SECRET: lambda context: OAuth2Access()},
    oauth2_authorization_code=OAUTH,
    webhook_handler=WEBHOOK_HANDLER,
    webhook_source=WEBHOOK_SOURCE,
    compile_binding=compile_binding,
)
