"""Definitions are found by family and variant, and no two have the same."""

import dataclasses

import pytest

from control_plane.definitions.catalog import CATALOG
from control_plane.definitions.registry import Registry, RegistryError


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
