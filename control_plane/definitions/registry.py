"""The definitions this environment knows: those of the catalog, of installed packages, and of manifest files."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from control_plane.definitions.contract import AnyDefinition, MethodKind

# The entry point group in which an installed package names its definitions (`name = "module:DEFINITION"`).
ENTRY_POINT_GROUP: Final = "sallyport.integrations"


class RegistryError(Exception):
    """Definitions that cannot stand beside one another; the text names them."""


class Registry:
    """Definitions by family and variant. Frozen once made.

    `left_out` names the entry points of installed packages whose definitions are not used (control_plane.integrations).
    """

    def __init__(self, definitions: Sequence[AnyDefinition], left_out: Sequence[str] = ()) -> None:
        """Raises RegistryError."""
        self.left_out: Final = tuple(left_out)
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


def definition_faults(definition: AnyDefinition) -> list[str]:
    """Return where the parts of a definition do not fit together: each would be met much later, by a member."""
    kinds = [method.kind for method in definition.connection_methods]
    faults = [] if kinds else ["it has no connection method"]
    if len(set(kinds)) != len(kinds):
        faults.append("two of its connection methods are of one kind")
    for method in definition.connection_methods:
        typed = {secret.secret_type for secret in method.secrets}
        if method.secret_type not in typed | set(definition.credential_resolvers):
            faults.append(f"nothing gives the secret {method.secret_type} of connections by {method.kind.value}")
        unknown = sorted(set(method.requires) - set(definition.target_secrets.model_fields))
        if unknown:
            faults.append(f"connections by {method.kind.value} require unknown target secrets: {', '.join(unknown)}")
    pairs = (
        (definition.oauth2_authorization_code, {MethodKind.OAUTH2_AUTHORIZATION_CODE}),
        (definition.oauth2_client_credentials, {MethodKind.OAUTH2_CLIENT_CREDENTIALS}),
        (definition.redirect_handler, {MethodKind.REDIRECT, MethodKind.GITHUB_APP_INSTALLATION}),
    )
    for handler, its_kinds in pairs:
        if (handler is None) != its_kinds.isdisjoint(kinds):
            named = " or ".join(sorted(kind.value for kind in its_kinds))
            faults.append(f"a connection method {named} and what carries it out come together")
    if (definition.webhook_handler is None) != (definition.webhook_source is None):
        faults.append("a webhook handler and its source come together")
    if any(field.is_required() for field in definition.target_secrets.model_fields.values()):
        faults.append("a target secret is required, but each may be absent")
    return faults
