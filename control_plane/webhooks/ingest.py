"""Taking a provider's request in: read by its definition, verified, and written before it is answered.

Nothing that a sender writes gets further than its documented answer; which part of a proof was missing is told to
nobody but the log.
"""

import contextlib
import re
import secrets
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple

import orjson
import structlog

from control_plane.connections import credential_place
from control_plane.definitions.contract import (
    WebhookEvent,
    WebhookHandler,
    WebhookRefused,
    WebhookRequest,
    WebhookResponse,
    WebhookSource,
)
from control_plane.definitions.registry import Registry
from control_plane.ids import new_id
from control_plane.offered import Offer, find_offer, open_target_secret
from control_plane.refusals import ControlCode, Refused
from control_plane.sources import read_connection
from control_plane.store import connections as connection_rows
from control_plane.store import webhooks as rows
from control_plane.store.database import AlreadyExists, Database, Transaction
from control_plane.store.models import Connection, Credential
from control_plane.store.models import WebhookEvent as EventRow
from control_plane.vault.envelope import Vault
from control_plane.webhooks.verification import is_signed
from sallyport.secret import Secret

# Bodies that one replica holds at once; a provider asks again after a 503.
HELD_BYTES: Final = 128 * 1024 * 1024
# Connections of a target that are looked through at a time.
CANDIDATES_A_PAGE: Final = 200
REVOKED: Final = "revoked"

# What is written of a sender's words: no control character, no half of a surrogate pair, and not without end.
_WORD: Final = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]{1,255}")

_log = structlog.get_logger(__name__)


class Opened(NamedTuple):
    """An endpoint that is there: whose it is, and how its requests are read."""

    key: str
    offer: Offer
    handler: WebhookHandler[Any]
    source: WebhookSource
    connection_id: str | None


class Taken(NamedTuple):
    """What became of an event: `accepted`, `duplicate`, or `unrouted`, for which there is no connection."""

    status: str

    @property
    def code(self) -> int:
        """The status of the answer: 200 says that nothing will be lost, 202 that nothing was kept."""
        return 202 if self.status == "unrouted" else 200


class Ingest:
    """Takes requests in; `written` is called after an event was."""

    def __init__(self, database: Database, vault: Vault, registry: Registry, written: Callable[[], None]) -> None:
        self._database = database
        self._vault = vault
        self._registry = registry
        self._written = written
        self._held = 0

    async def open(self, key: str) -> Opened:
        """Return an endpoint whose target is enabled. Raises Refused."""
        async with self._database.read() as tx:
            endpoint = await rows.endpoint(tx, key)
            offer = None if endpoint is None else await find_offer(tx, self._registry, endpoint.target_key)
            if endpoint is None or offer is None or not offer.is_enabled:
                raise endpoint_not_found()
            if endpoint.connection_id is not None:
                own = await connection_rows.connection(tx, endpoint.connection_id)
                if own is None or own.status == REVOKED:
                    raise endpoint_not_found()
        handler, source = offer.definition.webhook_handler, offer.definition.webhook_source
        if handler is None or source is None:
            raise endpoint_not_found()
        return Opened(key, offer, handler, source, endpoint.connection_id)

    @contextlib.contextmanager
    def room(self) -> Iterator[Callable[[int], None]]:
        """Hold a body within the block: yield what is to be told of each piece that arrived, which raises Refused."""
        held = 0

        def arrived(size: int) -> None:
            nonlocal held
            if self._held + size > HELD_BYTES:
                raise Refused(ControlCode.OVERLOADED, "this replica holds as many webhook bodies as it takes")
            held += size
            self._held += size

        try:
            yield arrived
        finally:
            self._held -= held

    async def take(self, opened: Opened, request: WebhookRequest, now: float) -> WebhookResponse | Taken:
        """Answer a request at once, or write its event down. Raises Refused."""
        try:
            found = opened.handler.resolve_webhook_request(request)
        except WebhookRefused as refused:
            raise Refused(ControlCode.INVALID_REQUEST, str(refused)) from None
        if isinstance(found, WebhookResponse):
            if found.needs_verification and not await self._is_from_provider(opened, request, now):
                raise _refuse(opened, "signature")
            return found
        connection = await self._sender(opened, found, request, now)
        _refuse_old(opened, found, now)
        if connection is None:
            _log.info("webhook_unrouted", endpoint=opened.key, target_key=opened.offer.target.key)
            return Taken("unrouted")
        return await self._write(opened, found, connection, now)

    # --- who sent it --------------------------------------------------------------------------------------------------

    async def _is_from_provider(self, opened: Opened, request: WebhookRequest, now: float) -> bool:
        """Say whether a request that names no account is signed by a secret of this endpoint's."""
        async with self._database.read() as tx:
            if opened.source.ownership == "target":
                return self._is_signed(opened, await self._target_secret(tx, opened), request, now)
            signed = False
            async for page in self._pages(tx, opened):
                for connection in page:
                    secret = await self._connection_secret(tx, opened, connection)
                    signed |= secret is not None and self._is_signed(opened, secret, request, now)
        return signed

    async def _sender(
        self, opened: Opened, event: WebhookEvent, request: WebhookRequest, now: float
    ) -> Connection | None:
        """Return the connection an event is for, if it is signed by whose word counts. Raises Refused."""
        async with self._database.read() as tx:
            if opened.source.ownership == "target":
                # Before any connection is looked at: who cannot sign learns of none.
                if not self._is_signed(opened, await self._target_secret(tx, opened), request, now):
                    raise _refuse(opened, "signature")
                meant = await self._meant(tx, opened, event)
                return meant[0] if meant else None
            # Each connection has a secret of its own. That an account is connected is told to nobody without it, so
            # no match is answered like a wrong signature, and takes an HMAC as well.
            tried = False
            for connection in await self._meant(tx, opened, event):
                secret = await self._connection_secret(tx, opened, connection)
                tried = tried or secret is not None
                if secret is not None and self._is_signed(opened, secret, request, now):
                    return connection
        if not tried and opened.connection_id is not None:
            raise _not_ready()
        if not tried:
            self._is_signed(opened, _nobodys_secret(), request, now)
        raise _refuse(opened, "signature")

    def _is_signed(self, opened: Opened, secret: Secret, request: WebhookRequest, now: float) -> bool:
        return is_signed(opened.handler.verification, secret, request, now)

    async def _meant(self, tx: Transaction, opened: Opened, event: WebhookEvent) -> list[Connection]:
        """Return whom an event may be for: the endpoint's own connection, or those that the definition finds meant."""
        meant: list[Connection] = []
        async for page in self._pages(tx, opened):
            if opened.connection_id is not None:
                meant += page
                continue
            kept = await connection_rows.credentials(tx, [connection.id for connection in page])
            for connection in page:
                own = [each for each in kept if each.connection_id == connection.id]
                try:
                    parsed = read_connection(opened.offer, connection, own)
                except (Refused, ValueError):
                    continue  # of an older definition
                if opened.handler.resolve_connection(event, parsed):
                    meant.append(connection)
        return meant

    async def _pages(self, tx: Transaction, opened: Opened) -> AsyncIterator[Sequence[Connection]]:
        """Yield the endpoint's connection, or all of its target, in the order of their ids; none that was revoked."""
        if opened.connection_id is not None:
            own = await connection_rows.connection(tx, opened.connection_id)
            if own is not None and own.status != REVOKED:
                yield [own]
            return
        after = ""
        while page := await rows.candidates(tx, opened.offer.target.key, after, CANDIDATES_A_PAGE):
            yield page
            after = page[-1].id

    async def _target_secret(self, tx: Transaction, opened: Opened) -> Secret:
        name = opened.handler.secret
        secret = await open_target_secret(tx, self._vault, opened.offer.target.key, name)
        if secret is None:
            raise _not_ready()
        return secret

    async def _connection_secret(self, tx: Transaction, opened: Opened, connection: Connection) -> Secret | None:
        row = await tx.get(Credential, (connection.id, opened.handler.secret, ""))
        if row is None:
            return None
        return await self._vault.open(tx, credential_place(connection, row.secret_type, row.slot_key), row.value)

    # --- writing it down ----------------------------------------------------------------------------------------------

    async def _write(self, opened: Opened, event: WebhookEvent, sender: Connection, now: float) -> Taken:
        if not (_WORD.fullmatch(event.external_id) and _WORD.fullmatch(event.type)):
            raise Refused(ControlCode.INVALID_REQUEST, "its id or its type is empty, too long or not a text")
        row = EventRow(
            id=new_id("evt", now),
            target_key=opened.offer.target.key,
            external_id=stored_id(opened.source, sender.id, event.external_id),
            organization_id=sender.organization_id,
            connection_id=sender.id,
            type=event.type,
            payload=orjson.dumps(event.payload).decode(),
            received_at=int(now),
            state="pending",
        )
        try:
            async with self._database.write() as tx:
                await tx.add(row)
        except AlreadyExists:
            # Written before; if it is not processed yet it will be.
            self._written()
            return Taken("duplicate")
        self._written()
        _log.info("webhook_accepted", event_id=row.id, target_key=row.target_key, connection_id=row.connection_id)
        return Taken("accepted")


def stored_id(source: WebhookSource, connection_id: str, external_id: str) -> str:
    """Return what an event is known again by within its target.

    A provider does not use an id twice. A member who signs for his own connection could use one of another's, whose
    event would then count as a duplicate; so there the connection is part of it.
    """
    return external_id if source.ownership == "target" else f"{connection_id} {external_id}"


def endpoint_not_found() -> Refused:
    """Return the refusal of an endpoint that is not there."""
    return Refused(ControlCode.WEBHOOK_ENDPOINT_NOT_FOUND, "it was never made, was deleted, or its target is disabled")


def _refuse_old(opened: Opened, event: WebhookEvent, now: float) -> None:
    max_age = opened.handler.max_age
    if max_age is None:
        return
    at = opened.handler.occurred_at(event)
    if at is None or abs(now - at) > max_age:
        raise _refuse(opened, "age")


def _refuse(opened: Opened, reason: str) -> Refused:
    _log.warning("webhook_refused", endpoint=opened.key, target_key=opened.offer.target.key, reason=reason)
    detail = "it is not signed with the secret of this endpoint, or too old"
    return Refused(ControlCode.SIGNATURE_REFUSED, detail)


def _not_ready() -> Refused:
    return Refused(ControlCode.WEBHOOK_NOT_READY, "its signing secret is not set here yet")


def _nobodys_secret() -> Secret:
    return Secret(secrets.token_bytes(32))
