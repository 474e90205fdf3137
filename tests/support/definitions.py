"""Definitions that tests make up: a forge that each operator has at another address, connected to by OAuth alone."""

from typing import Final

from control_plane.definitions.catalog import CATALOG
from control_plane.definitions.contract import (
    AuthorizationRequest,
    Compiled,
    ConnectionMethod,
    FormContext,
    FormField,
    IntegrationDefinition,
    Issue,
    Kind,
    MethodKind,
    Nothing,
    OAuth2AuthorizationCode,
    Target,
    TokenCall,
    WebhookSource,
)
from control_plane.definitions.fields import SecretText
from control_plane.definitions.registry import Registry
from sallyport.plan.fields import HttpUrl, Model, Text


class ForgeConfig(Model):
    """Where the forge is."""

    base_url: HttpUrl
    realm: Text | None = None


class ForgeSecrets(Model):
    """The operator's application at the forge."""

    client_id: SecretText | None = None
    client_secret: SecretText | None = None
    webhook_secret: SecretText | None = None


class ForgeBinding(Model):
    """What a sandbox may do there."""

    read_only: bool = False


def _validate(target: Target[ForgeConfig]) -> list[Issue]:
    if target.config.base_url.startswith("https:"):
        return []
    return [Issue("forge.cleartext", "/baseUrl", "https is expected")]


def _form(context: FormContext[ForgeConfig, Nothing]) -> list[FormField]:
    at = "" if context.target is None else context.target.config.base_url
    return [FormField(name="baseUrl", label="Address", help=at, choices=["a"]), FormField(name="realm", label="Realm")]


def _binding_form(context: FormContext[ForgeConfig, Nothing]) -> list[FormField]:
    return [FormField(name="readOnly", label="Read only", widget="checkbox", hidden=context.connection is not None)]


FORGE: Final = IntegrationDefinition(
    family_id="forge",
    variant_id="forge-server",
    kind=Kind.GIT,
    display_name="Forge",
    description="Repositories of a forge.",
    logo_key="forge",
    target_config=ForgeConfig,
    target_secrets=ForgeSecrets,
    connection_config=Nothing,
    binding_config=ForgeBinding,
    binding_form=_binding_form,
    connection_methods=[
        ConnectionMethod(
            kind=MethodKind.OAUTH2_AUTHORIZATION_CODE,
            label="Authorise",
            secret_type="oauth",
            requires=("client_id", "client_secret"),
        )
    ],
    oauth2_authorization_code=OAuth2AuthorizationCode(
        start_authorization=lambda context: AuthorizationRequest(url=f"{context.target.config.base_url}/authorize"),
        complete_authorization_code_grant=lambda context: TokenCall(url=f"{context.target.config.base_url}/token"),
        refresh_access_token=lambda context: TokenCall(url=f"{context.target.config.base_url}/token"),
    ),
    webhook_source=WebhookSource(
        ownership="target", routing="path", registration="implicit", event_types=("push",), describe="Enter this URL."
    ),
    target_form=_form,
    validate_target=_validate,
    compile_binding=lambda context: Compiled(),
)


def registry() -> Registry:
    """Return those of the catalog and the forge."""
    return Registry([*CATALOG, FORGE])
