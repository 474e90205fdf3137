"""What a plan is compiled from, as plain values: two equal ones compile to the same bytes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# A JSON object as it was stored.
type Stored = Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredBinding:
    """A binding as a member wrote it. Its place among the others is its place in the document of bindings."""

    id: str
    connection_id: str
    kind: str
    config: Stored


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredConnection:
    """A connection; `secret_types` names the credentials it has."""

    id: str
    organization_id: str
    target_key: str
    status: str
    method: str
    config: Stored
    secret_types: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTarget:
    """A target; `secrets` names those that are set."""

    key: str
    family_id: str
    variant_id: str
    enabled: bool
    config: Stored
    secrets: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """One version of a profile with everything its bindings lead to, by id and key; what is not there is missing."""

    organization_id: str
    profile_id: str
    version: int
    image: Stored | None
    egress: Stored | None
    bindings: Sequence[StoredBinding]
    connections: Mapping[str, StoredConnection]
    targets: Mapping[str, StoredTarget]
