"""An Enterprise Server: the host, and perhaps the port, of the target."""

from typing import Final

from control_plane.definitions.contract import FormContext, FormField, IntegrationDefinition, Kind
from control_plane.definitions.github.app import (
    CONNECTION_METHODS,
    INSTALLATION_SECRET,
    REDIRECT_HANDLER,
    ConnectionConfig,
    TargetSecrets,
    connection_form,
    installation_token,
    target_form,
    target_secret_form,
    validate_target,
)
from control_plane.definitions.github.binding import BindingConfig, binding_form, compile_binding
from control_plane.definitions.github.site import ServerTargetConfig
from control_plane.definitions.github.webhooks import HANDLER, SOURCE


def server_target_form(context: FormContext[ServerTargetConfig, ConnectionConfig]) -> list[FormField]:
    """Where the server is, and its App."""
    where = FormField(name="baseUrl", label="Server", help="https and its host, with a port where it is not 443.")
    return [where, *target_form(context)]


DEFINITION: Final = IntegrationDefinition(
    family_id="github",
    variant_id="github-enterprise-server",
    kind=Kind.GIT,
    display_name="GitHub Enterprise Server",
    description="Repositories at an Enterprise Server: git, the API and their events.",
    logo_key="github",
    target_config=ServerTargetConfig,
    target_secrets=TargetSecrets,
    connection_config=ConnectionConfig,
    binding_config=BindingConfig,
    target_form=server_target_form,
    target_secret_form=target_secret_form,
    connection_form=connection_form,
    binding_form=binding_form,
    connection_methods=CONNECTION_METHODS,
    validate_target=validate_target,
    credential_resolvers={INSTALLATION_SECRET: installation_token},
    redirect_handler=REDIRECT_HANDLER,
    webhook_handler=HANDLER,
    webhook_source=SOURCE,
    compile_binding=compile_binding,
)
