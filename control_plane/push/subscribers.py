"""Who hears of changes: those that an organization has made by the API, and those that the configuration names."""

from collections.abc import Sequence
from typing import Final

import orjson

from control_plane.feed import instances
from control_plane.feed.tiers import TIERS, Tier
from control_plane.ids import new_id
from control_plane.outbound.url import url_fault
from control_plane.push.configured import ConfiguredSubscriber
from control_plane.refusals import ControlCode, FieldIssue, Refused
from control_plane.store import push as rows
from control_plane.store.database import Database, Transaction
from control_plane.store.models import PushSubscriber
from control_plane.vault.envelope import OWN, Place, Vault, VaultError
from control_plane.webhooks.signing import new_secret, shown_once
from sallyport.secret import Secret

# Of one instance: a client of each kind, and some to spare.
MOST_OF_INSTANCE: Final = 20


class PushSubscribers:
    """Makes and changes subscribers of instances; what they are told with is shown once."""

    def __init__(self, database: Database, vault: Vault) -> None:
        self._database = database
        self._vault = vault

    async def create(
        self, instance_id: str, url: str, tier: Tier, events: Sequence[str], now: float
    ) -> dict[str, object]:
        """Make a subscriber, which hears of what comes, and show its secret. Raises Refused."""
        _refuse_url(url)
        secret = new_secret()
        async with self._database.write() as tx:
            instance = await instances.found(tx, instance_id, lock=True)
            if await rows.count_subscribers(tx, instance_id) >= MOST_OF_INSTANCE:
                raise Refused(ControlCode.LIMIT_REACHED, f"delete one of its {MOST_OF_INSTANCE} subscribers first")
            row = PushSubscriber(
                id=new_id("psb", now),
                organization_id=instance.organization_id,
                instance_id=instance_id,
                is_configured=False,
                url=url,
                tier=tier,
                events=_written(events),
                **_at_first(now),
            )
            row.secret = await self._vault.seal(tx, secret_place(row), secret)
            await tx.add(row)
            await rows.begin_at_present(tx, row.id, instance_id)
            return _document(row) | {"secret": shown_once(secret)}

    async def get(self, subscriber_id: str, tiers: Sequence[Tier] = TIERS) -> dict[str, object]:
        """Return one subscriber, of one of these tiers. Raises Refused."""
        async with self._database.read() as tx:
            return _document(await _found(tx, subscriber_id, tiers))

    async def page(
        self, organization_id: str | None, instance_id: str | None, tiers: Sequence[Tier], after: str, limit: int
    ) -> list[dict[str, object]]:
        """Return subscribers of these tiers by id, after one."""
        async with self._database.read() as tx:
            found = await rows.list_subscribers(tx, organization_id, instance_id, tiers, after, limit)
            return [_document(each) for each in found]

    async def change(
        self,
        subscriber_id: str,
        tiers: Sequence[Tier] = TIERS,
        *,
        url: str | None,
        events: Sequence[str] | None,
        enabled: bool | None,
        rotate_secret: bool,
        now: float,
    ) -> dict[str, object]:
        """Change what is given; it is tried again at once, and a new secret is shown. Raises Refused."""
        if url is not None:
            _refuse_url(url)
        async with self._database.write() as tx:
            row = await _own(tx, subscriber_id, tiers)
            row.url = row.url if url is None else url
            row.events = row.events if events is None else _written(events)
            row.enabled = row.enabled if enabled is None else enabled
            row.attempts, row.not_before, row.updated_at = 0, 0, int(now)
            if not rotate_secret:
                return _document(row)
            secret = new_secret()
            row.secret = await self._vault.seal(tx, secret_place(row), secret)
            return _document(row) | {"secret": shown_once(secret)}

    async def remove(self, subscriber_id: str, tiers: Sequence[Tier] = TIERS) -> None:
        """Delete a subscriber. Raises Refused."""
        async with self._database.write() as tx:
            await tx.delete(await _own(tx, subscriber_id, tiers))


async def sync_configured(
    database: Database, vault: Vault, configured: Sequence[ConfiguredSubscriber], now: float
) -> None:
    """Let the rows of configured subscribers be those of this configuration. Raises DatabaseUnavailable."""
    async with database.write() as tx:
        await tx.exclusive_start()
        there = {row.id: row for row in await rows.configured(tx)}
        for each in configured:
            row = there.pop(f"psb_{each.name}", None)
            # What there was before, it reads in the feed; one that is known already goes on where it was.
            is_new = row is None or row.instance_id != each.instance_id
            if row is None:
                row = PushSubscriber(id=f"psb_{each.name}", organization_id=OWN, is_configured=True, **_at_first(now))
                row.secret = await vault.seal(tx, secret_place(row), each.secret)
            elif not await _is_sealed(vault, tx, row, each.secret):
                row.secret = await vault.seal(tx, secret_place(row), each.secret)
            row.url, row.tier, row.instance_id = each.url, each.tier, each.instance_id
            row.events, row.enabled, row.attempts, row.not_before = _written(each.events), True, 0, 0
            await tx.add(row)
            if is_new:
                await rows.begin_at_present(tx, row.id, each.instance_id)
        for row in there.values():
            await tx.delete(row)


def secret_place(row: PushSubscriber) -> Place:
    """Return what the ciphertext of a subscriber's secret is bound to."""
    return Place(row.organization_id, "push_subscribers", (row.id,), "secret")


async def _is_sealed(vault: Vault, tx: Transaction, row: PushSubscriber, secret: Secret) -> bool:
    try:
        return await vault.open(tx, secret_place(row), row.secret) == secret
    except VaultError:
        return False  # under a key that is gone: the configuration has the secret still


async def _found(tx: Transaction, subscriber_id: str, tiers: Sequence[Tier], *, lock: bool = False) -> PushSubscriber:
    row = await rows.subscriber(tx, subscriber_id, lock=lock)
    if row is None or row.tier not in tiers:
        raise not_found()
    return row


async def _own(tx: Transaction, subscriber_id: str, tiers: Sequence[Tier]) -> PushSubscriber:
    row = await _found(tx, subscriber_id, tiers, lock=True)
    if row.is_configured:
        raise Refused(ControlCode.PUSH_SUBSCRIBER_CONFIGURED, "change it there, and start the control plane again")
    return row


def not_found() -> Refused:
    """Return the refusal of a subscriber that is not there."""
    return Refused(ControlCode.PUSH_SUBSCRIBER_NOT_FOUND, "it was never made, or was deleted")


def _at_first(now: float) -> dict[str, object]:
    none: dict[str, object] = {"enabled": True, "attempts": 0, "not_before": 0, "owner": "", "lease_until": 0}
    return none | {"last_status": None, "last_error": None, "created_at": int(now), "updated_at": int(now)}


def _document(row: PushSubscriber) -> dict[str, object]:
    shown: dict[str, object] = {
        "pushSubscriberId": row.id,
        "source": "configuration" if row.is_configured else "api",
        "url": row.url,
        "tier": row.tier,
        "events": orjson.loads(row.events),
        "enabled": row.enabled,
        "failedAttempts": row.attempts,
    }
    optional = {
        "organizationId": None if row.is_configured else row.organization_id,
        "instanceId": row.instance_id,
        "lastStatus": row.last_status,
        "lastError": row.last_error,
    }
    shown |= {name: value for name, value in optional.items() if value is not None}
    return shown | {"createdAt": row.created_at, "updatedAt": row.updated_at}


def _written(events: Sequence[str]) -> str:
    return orjson.dumps(sorted(set(events))).decode()


def _refuse_url(url: str) -> None:
    """Refuse what could never be told; which addresses it leads to is looked at for each push."""
    problem = url_fault(url, is_plain_on_loopback=True)
    if problem is not None:
        issue = FieldIssue("invalid_url", "/url", problem)
        raise Refused(ControlCode.INVALID_REQUEST, "the subscriber cannot be told there", issues=[issue])
