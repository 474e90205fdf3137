"""What the operator offers: a target's row, read by the definition it is a target of."""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import orjson
from pydantic import ValidationError

from control_plane.definitions.contract import AnyDefinition, Target
from control_plane.definitions.registry import Registry
from control_plane.refusals import ControlCode, FieldIssue, Refused
from control_plane.store import targets as rows
from control_plane.store.database import Transaction
from control_plane.store.models import TargetSecret
from control_plane.vault.envelope import OWN, Place, Vault
from sallyport.plan.codec import MAX_ISSUES, json_pointer
from sallyport.plan.fields import Model
from sallyport.plan.schema_faults import schema_faults
from sallyport.secret import Secret

CONFIG: Final = "/config"


class Offer(NamedTuple):
    """A target that has a definition."""

    definition: AnyDefinition
    target: Target[Any]
    is_enabled: bool


async def find_offer(tx: Transaction, registry: Registry, target_key: str) -> Offer | None:
    """Return an offer; None where there is no such target, no definition of it, or none that can read its config."""
    row = await rows.target(tx, target_key)
    definition = None if row is None else registry.find(row.family_id, row.variant_id)
    if row is None or definition is None:
        return None
    try:
        config = definition.target_config.model_validate(orjson.loads(row.config))
    except ValidationError:
        return None
    names = frozenset(secret.name for secret in await rows.secrets(tx, target_key))
    return Offer(definition, Target(key=target_key, config=config, secrets=names), row.enabled)


async def enabled_offer(tx: Transaction, registry: Registry, target_key: str) -> Offer:
    """Return what connections may be made to. Raises Refused."""
    offer = await find_offer(tx, registry, target_key)
    if offer is None:
        raise Refused(ControlCode.TARGET_NOT_FOUND, "the operator offers no such integration")
    if not offer.is_enabled:
        raise Refused(ControlCode.TARGET_DISABLED, "the operator does not offer it at the moment")
    return offer


async def open_target_secret(tx: Transaction, vault: Vault, target_key: str, name: str) -> Secret | None:
    """Return a secret of a target."""
    row = await tx.get(TargetSecret, (target_key, name))
    return None if row is None else await vault.open(tx, target_secret_place(target_key, name), row.value)


def target_secret_place(target_key: str, name: str) -> Place:
    """Return what the ciphertext of a target's secret is bound to; it is the operator's, no organization's."""
    return Place(OWN, "target_secrets", (target_key, name), "value")


def read_config[M: Model](model: type[M], document: Mapping[str, object], pointer: str = CONFIG) -> M:
    """Return a configuration; raise Refused with every issue it has, each below `pointer`."""
    try:
        return model.model_validate(dict(document))
    except ValidationError as error:
        faults = schema_faults(error, document, already=set(), most=MAX_ISSUES)
    issues = [FieldIssue(fault.code.value, pointer + json_pointer(fault.path), fault.message) for fault in faults]
    raise Refused(ControlCode.INVALID_REQUEST, f"{len(issues)} issues; nothing changed", issues=issues)
