"""Definitions are found by family and variant, and no two have the same."""

import dataclasses

import pytest

from control_plane.definitions.aws import default as aws
from control_plane.definitions.catalog import CATALOG
from control_plane.definitions.contract import ConnectionMethod, MethodKind, Nothing, SecretField
from control_plane.definitions.fields import SecretText
from control_plane.definitions.linear import default as linear
from control_plane.definitions.registry import Registry, RegistryError, definition_faults
from sallyport.plan.fields import Model


def test_a_definition_is_found_by_family_and_variant() -> None:
    registry = Registry(CATALOG)
    for definition in CATALOG:
        assert registry.find(definition.family_id, definition.variant_id) is definition
    assert registry.find("other", CATALOG[0].variant_id) is None
    assert list(registry) == list(Registry(CATALOG[::-1])), "the order of registration does not matter"


def test_two_of_one_variant_are_refused() -> None:
    other = dataclasses.replace(CATALOG[0], family_id="other")
    with pytest.raises(RegistryError, match=CATALOG[0].variant_id):
        Registry([*CATALOG, other])


def key_method(**fields: object) -> ConnectionMethod:
    method = ConnectionMethod(
        kind=MethodKind.API_KEY,
        label="Key",
        secret_type="api_key",
        secrets=[SecretField(secret_type="api_key", label="Key")],
    )
    return dataclasses.replace(method, **fields)  # type: ignore[arg-type]  # any field


class WithoutDefault(Model):
    """Target secrets, one of which nobody may leave out."""

    client_id: SecretText


SOUND = dataclasses.replace(
    aws.DEFINITION, connection_methods=[key_method()], credential_resolvers={}, target_secrets=Nothing
)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({}, []),
        ({"connection_methods": []}, ["no connection method"]),
        ({"connection_methods": [key_method(), key_method()]}, ["of one kind"]),
        ({"connection_methods": [key_method(secret_type="other")]}, ["nothing gives the secret other"]),
        ({"connection_methods": [key_method(requires=("client_id",))]}, ["unknown target secrets: client_id"]),
        ({"connection_methods": [key_method(kind=MethodKind.REDIRECT)]}, ["github-app-installation or redirect"]),
        ({"oauth2_authorization_code": linear.DEFINITION.oauth2_authorization_code}, ["oauth2-authorization-code"]),
        ({"webhook_source": linear.DEFINITION.webhook_source}, ["a webhook handler and its source"]),
        ({"target_secrets": WithoutDefault}, ["a target secret is required"]),
    ],
)
def test_parts_that_do_not_fit_together_are_told(changed: dict[str, object], told: list[str]) -> None:
    found = definition_faults(dataclasses.replace(SOUND, **changed))  # type: ignore[arg-type]  # any field
    assert len(found) == len(told)
    assert all(words in fault for words, fault in zip(told, found, strict=True))
