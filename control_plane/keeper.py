"""Keeps made credentials valid: asks their providers ahead of the end, one replica at a time, outside transactions.

Always: while somebody asks for a credential, its lease names him, and nobody else asks before the lease ends; it ends
after the question has, answered or not. What is there stays there until something newer has been stored.
"""

import asyncio
from collections.abc import Callable
from typing import Final, NamedTuple

import structlog

from control_plane import connections, sources
from control_plane.definitions.contract import OAuth2Access
from control_plane.definitions.registry import Registry
from control_plane.ids import new_id
from control_plane.metrics import MADE
from control_plane.oauth.provider_error import Fault, ProviderError, temporary
from control_plane.oauth.provider_session import REQUEST_SECONDS, Made, ProviderSession
from control_plane.offered import Offer, find_offer
from control_plane.sources import Key, Order, Wish
from control_plane.store import connections as rows
from control_plane.store import credential_leases as leases
from control_plane.store.database import Database, DatabaseUnavailable, Transaction
from control_plane.store.models import Connection, Credential
from control_plane.vault.envelope import Vault

# So long before its end a credential is due, or half of its life before it where that is sooner. A gateway begins to
# ask later, so that it always gets a new one.
AHEAD_SECONDS: Final = 300
# How long a question takes at most, and its storing: then the asker is dead.
LEASE_SECONDS: Final = 30
# After a question that failed nobody asks again for so long, or for as long as the provider wants.
PAUSE_SECONDS: Final = 5
# How long to wait for what another one asks for, and how often to look.
WAIT_SECONDS: Final = REQUEST_SECONDS
LOOK_SECONDS: Final = 0.1
# Who holds a lease in a pause.
NOBODY: Final = ""
# An answer of a provider's that cannot be stored is lost, and with it a refresh token may be: so again, after these.
STORE_AGAIN_SECONDS: Final = (0.1, 1.0, 3.0)
# The background's round.
EVERY_SECONDS: Final = 15.0
MAX_AT_ONCE: Final = 8
MAX_A_ROUND: Final = 500

_log = structlog.get_logger(__name__)


class _Begun(NamedTuple):
    """A question of ours, with the version of what is there (None: nothing is) and the connection's revision.

    Where those have changed by the time of the answer, it is about what was before.
    """

    order: Order
    version: str | None
    revision: int


class _Busy(NamedTuple):
    """Another one asks, and there is nothing valid meanwhile."""


class CredentialKeeper:
    """Asks for credentials. `owner` is another word in each process."""

    def __init__(
        self,
        database: Database,
        vault: Vault,
        registry: Registry,
        session: ProviderSession,
        now: Callable[[], float],
        owner: str,
        count: Callable[[str], None] = lambda result: None,
    ) -> None:
        """count hears of each question that ended: `made`, `temporary` or `permanent`."""
        self.now = now
        self._count = count
        self._database = database
        self._vault = vault
        self._registry = registry
        self._session = session
        self._owner = owner

    async def ensure(self, wish: Wish) -> ProviderError | None:
        """Have a wished credential made where it is due, or wait for another who does; return why it was not."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + WAIT_SECONDS
        while True:
            begun = await self._begin(wish)
            if isinstance(begun, _Begun):
                return await self._ask(wish, begun)
            if not isinstance(begun, _Busy):
                return begun
            if loop.time() >= deadline:
                return temporary("another replica is asking the provider, and has no answer yet")
            await asyncio.sleep(LOOK_SECONDS)

    async def keep_fresh(self) -> None:
        """Ask ahead for what current plans use, for ever."""
        while True:
            await asyncio.sleep(EVERY_SECONDS)
            try:
                await self.refresh_due()
            except DatabaseUnavailable:
                _log.warning("refreshing_database_unavailable")

    async def refresh_due(self) -> None:
        """Ask once for every OAuth token in use that is due. Raises DatabaseUnavailable."""
        wishes = await self._due()
        turns = asyncio.Semaphore(MAX_AT_ONCE)

        async def refresh(wish: Wish) -> None:
            async with turns:
                try:
                    await self.ensure(wish)
                except DatabaseUnavailable:
                    pass  # the next round comes soon
                except Exception as error:
                    # One connection's defect, or one definition's, costs no other its token.
                    _log.error("refresh_failed", connection_id=wish.key[0], exc_info=error)

        async with asyncio.TaskGroup() as group:
            for wish in wishes:
                group.create_task(refresh(wish), name="refresh ahead")

    async def _due(self) -> list[Wish]:
        now = self.now()
        found: list[Wish] = []
        async with self._database.read() as tx:
            for credential in await rows.ending(tx, now + AHEAD_SECONDS, sources.OAUTH_SLOT, MAX_A_ROUND):
                connection = await rows.connection(tx, credential.connection_id)
                if connection is None or not is_due(credential, now):
                    continue
                offer = await find_offer(tx, self._registry, connection.target_key)
                if offer is None or not offer.is_enabled:
                    continue
                wish = await _oauth_wish(tx, offer, connection, credential)
                if wish is not None:
                    found.append(wish)
        return found

    async def _begin(self, wish: Wish) -> ProviderError | _Begun | _Busy | None:
        """Decide what is to be done about a wish; None is nothing."""
        now = self.now()
        async with self._database.write() as tx:
            connection = await rows.connection(tx, wish.key[0], lock=True)
            if connection is None or connection.status != connections.ACTIVE:
                return None
            credential = await tx.get(Credential, wish.key, lock=True)
            if credential is not None and not is_due(credential, now):
                return None
            holder = await leases.hold(tx, wish.key, self._owner, now, int(now) + LEASE_SECONDS)
            if holder is None:
                return await self._prepare(tx, wish, connection, credential)
            if credential is not None and is_valid(credential, now):
                return None
            return _Busy() if holder != NOBODY else temporary("the provider was asked a moment ago and gave nothing")

    async def _prepare(
        self, tx: Transaction, wish: Wish, connection: Connection, credential: Credential | None
    ) -> ProviderError | _Begun:
        try:
            order = await sources.order(tx, self._vault, connection, wish)
        except ProviderError as error:
            await self._note_failure(tx, wish, connection, error)
            return error
        return _Begun(order, _version(credential), connection.revision)

    async def _ask(self, wish: Wish, begun: _Begun) -> ProviderError | None:
        try:
            made = await begun.order(self._session, self.now())
        except ProviderError as error:
            self._count(error.fault.value)
            async with self._database.write() as tx:
                connection = await rows.connection(tx, wish.key[0], lock=True)
                if connection is not None and connection.revision == begun.revision:
                    await self._note_failure(tx, wish, connection, error)
                else:
                    # Authorised again meanwhile, say: the refusal is of what was before.
                    await leases.release(tx, wish.key, self._owner)
                    error = temporary("the connection was changed while its provider was asked")
            return error
        self._count(MADE)
        for pause in STORE_AGAIN_SECONDS:
            try:
                await self._store(wish, begun, made)
                return None
            except DatabaseUnavailable:
                _log.warning("made_credential_not_stored", connection_id=wish.key[0])
                await asyncio.sleep(pause)
        await self._store(wish, begun, made)
        return None

    async def _store(self, wish: Wish, begun: _Begun, made: Made) -> None:
        now = self.now()
        async with self._database.write() as tx:
            connection = await rows.connection(tx, wish.key[0], lock=True)
            if connection is None or connection.status == connections.REVOKED:
                return
            credential = await tx.get(Credential, wish.key, lock=True)
            # A refreshed token is kept whatever else changed, for its predecessor may have ended; what can be made
            # again is not, where the secret or the configuration that it was made from has changed.
            is_ours = _version(credential) == begun.version
            if is_ours and (wish.key[2] == "" or connection.revision == begun.revision):
                await put_made(tx, self._vault, connection, wish.key, made, now)
            await leases.release(tx, wish.key, self._owner)

    async def _note_failure(self, tx: Transaction, wish: Wish, connection: Connection, error: ProviderError) -> None:
        now = self.now()
        pause = max(PAUSE_SECONDS, error.retry_after)
        await leases.pause(tx, wish.key, self._owner, NOBODY, int(now) + pause)
        _log.warning(
            "credential_not_made",
            connection_id=connection.id,
            secret_type=wish.key[1],
            fault=error.fault.value,
            reason=error.reason,
        )
        if error.fault is Fault.PERMANENT and connection.status == connections.ACTIVE:
            connection.status = connections.ERROR
            connection.error = error.reason
            connection.revision += 1
            connection.updated_at = int(now)
            await connections.redefined(tx, connection, now)


async def put_made(
    tx: Transaction, vault: Vault, connection: Connection, key: Key, made: Made, now: float
) -> Credential:
    """Store what a provider gave, and what it is refreshed by where that is new."""
    if made.refresh is not None:
        refresh_key = (connection.id, connections.REFRESH_TOKEN, "")
        await put_made(tx, vault, connection, refresh_key, Made(made.refresh, None), now)
    _, secret_type, slot_key = key
    row = await tx.get(Credential, key, lock=True)
    value = await vault.seal(tx, connections.credential_place(connection, secret_type, slot_key), made.value)
    is_new = row is None
    if row is None:
        row = Credential(connection_id=connection.id, secret_type=secret_type, slot_key=slot_key)
    row.value, row.version, row.expires_at, row.updated_at = value, new_id("ver", now), made.expires_at, int(now)
    if is_new:
        await tx.add(row)
    return row


def _version(credential: Credential | None) -> str | None:
    return None if credential is None else credential.version


def is_valid(credential: Credential, now: float) -> bool:
    """Say whether a credential has not ended."""
    return credential.expires_at is None or credential.expires_at > now


def is_due(credential: Credential, now: float) -> bool:
    """Say whether another credential is to be asked for."""
    if credential.expires_at is None:
        return False
    life = credential.expires_at - credential.updated_at
    return now >= credential.expires_at - min(AHEAD_SECONDS, life // 2)


async def _oauth_wish(tx: Transaction, offer: Offer, connection: Connection, credential: Credential) -> Wish | None:
    """Return what an OAuth token is asked for again by."""
    key = (credential.connection_id, credential.secret_type, credential.slot_key)
    for name in offer.definition.credential_resolvers:
        try:
            wish = await sources.wished(tx, offer, connection, name, None)
        except Exception as error:
            # As above; a resolution tells whoever asks.
            _log.warning("resolver_failed", connection_id=connection.id, resolver=name, error=type(error).__name__)
            continue
        if wish is not None and isinstance(wish.source, OAuth2Access) and wish.key == key:
            return wish
    return None
