"""The definitions this environment knows: those of the catalog, of installed packages, and of manifest files."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from control_plane.definitions.contract import AnyDefinition

# The entry point group in which an installed package names its definitions (`name = "module:DEFINITION"`).
ENTRY_POINT_GROUP: Final = "sallyport.integrations"


class RegistryError(Exception):
    """Definitions that cannot stand beside one another; the text names them."""


class Registry:
    """Definitions by family and variant. Frozen once made."""

    def __init__(self, definitions: Sequence[AnyDefinition]) -> None:
        """Raises RegistryError."""
        by_variant: dict[tuple[str, str], AnyDefinition] = {}
        keys: set[str] = set()
        for definition in sorted(definitions, key=lambda each: (each.family_id, each.variant_id)):
            if definition.target_key in keys:
                raise RegistryError(f"two definitions have the variant {definition.variant_id}; remove one of them")
            keys.add(definition.target_key)
            by_variant[definition.family_id, definition.variant_id] = definition
        self._by_variant: Mapping[tuple[str, str], AnyDefinition] = by_variant

    def __iter__(self) -> Iterator[AnyDefinition]:
        """In the order of family and variant."""
        return iter(self._by_variant.values())

    def find(self, family_id: str, variant_id: str) -> AnyDefinition | None:
        """Return the definition of a variant."""
        return self._by_variant.get((family_id, variant_id))
