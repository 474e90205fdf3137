"""github.com."""

from typing import Final

from control_plane.definitions.contract import IntegrationDefinition, Kind
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
from control_plane.definitions.github.site import TargetConfig
from control_plane.definitions.github.webhooks import HANDLER, SOURCE

DEFINITION: Final = IntegrationDefinition(
    family_id="github",
    variant_id="github-cloud",
    kind=Kind.GIT,
    display_name="GitHub",
    description="Repositories at github.com: git, the API and their events.",
    logo_key="github",
    target_config=TargetConfig,
    target_secrets=TargetSecrets,
    connection_config=ConnectionConfig,
    binding_config=BindingConfig,
    target_form=target_form,
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
