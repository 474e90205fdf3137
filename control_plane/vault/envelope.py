"""Seal and open secrets: a data key per organization under a master key, AES-256-GCM for both.

A ciphertext is bound to the table, row and column it stands in and to its organization, so that one that was moved, by
whoever can write to the database, does not open anywhere else. It begins with the format and the data key's version.
"""

import asyncio
import hmac
import secrets
import struct
from collections import OrderedDict
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from control_plane.store import keys
from control_plane.store.database import Database, Transaction
from control_plane.store.models import DataKey
from control_plane.vault.master_keys import KEY_BYTES, KeySource, MasterKeys, read_master_keys
from sallyport.secret import Secret

# Whose data key seals what belongs to the control plane itself. No organization can be called so.
OWN: Final = "_control_plane"
# Organizations whose data key is kept unwrapped; each is a few hundred bytes.
MAX_DATA_KEYS: Final = 4096
# Data keys wrapped anew in one transaction.
REWRAP_BATCH: Final = 100

_FORMAT: Final = 1
_NONCE_BYTES: Final = 12
_HEAD: Final = struct.Struct(">BI")


class VaultError(Exception):
    """A secret cannot be opened: the master key is missing, or what is stored is not what was sealed here."""


class Place(NamedTuple):
    """Where a ciphertext stands. row is the primary key; its parts are kept apart by their lengths."""

    organization_id: str
    table: str
    row: tuple[str, ...]
    column: str

    def associated_data(self) -> bytes:
        """Return the bytes that bind a ciphertext to this place."""
        parts = (self.organization_id, self.table, *self.row, self.column)
        return b"sallyport.vault.1" + b"".join(struct.pack(">I", len(raw)) + raw for raw in map(str.encode, parts))


class Vault:
    """Seals and opens within a transaction of the caller's. Reads the master keys again when it lacks one."""

    def __init__(self, source: KeySource) -> None:
        """Raises MasterKeyError."""
        self._source = source
        self._master = read_master_keys(source)
        self._data_keys: OrderedDict[tuple[str, int], AESGCM] = OrderedDict()

    async def seal(self, tx: Transaction, place: Place, secret: Secret) -> bytes:
        """Return the ciphertext of a secret for one place. `tx` must be one that writes."""
        version, cipher = await self._current(tx, place.organization_id)
        head = _HEAD.pack(_FORMAT, version)
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return head + nonce + cipher.encrypt(nonce, secret.reveal(), head + place.associated_data())

    async def open(self, tx: Transaction, place: Place, sealed: bytes) -> Secret:
        """Return the secret of a ciphertext; raise VaultError."""
        if len(sealed) < _HEAD.size + _NONCE_BYTES:
            raise VaultError("a stored secret is cut short")
        kind, version = _HEAD.unpack_from(sealed)
        if kind != _FORMAT:
            raise VaultError(f"a stored secret has the unknown format {kind}")
        cipher = await self._data_key(tx, place.organization_id, version)
        head, rest = sealed[: _HEAD.size], sealed[_HEAD.size :]
        try:
            opened = cipher.decrypt(rest[:_NONCE_BYTES], rest[_NONCE_BYTES:], head + place.associated_data())
        except InvalidTag:
            raise VaultError(f"a stored secret in {place.table}.{place.column} is not what was sealed there") from None
        return Secret(opened)

    async def fingerprint(self, tx: Transaction, place: Place, content: bytes) -> str:
        """Return what tells a content from any other, and cannot be guessed back without the master key."""
        row = await keys.data_key(tx, place.organization_id) or await self._make(tx, place.organization_id)
        key = hmac.digest(await self._unwrap(row), b"sallyport.vault.fingerprint.1", "sha256")
        return hmac.digest(key, place.associated_data() + content, "sha256").hex()

    async def rewrap(self, database: Database) -> int:
        """Wrap every data key by the newest master key; return how many were not. Safe to run again, or twice."""
        await self._reload()
        count = 0
        while True:
            async with database.write() as tx:
                stale = await keys.data_keys_not_under(tx, self._master.newest, REWRAP_BATCH)
                for row in stale:
                    raw = await self._unwrap(row)
                    wrapped = _wrap(self._master, row.organization_id, row.version, raw)
                    await keys.rewrap(tx, row, self._master.newest, wrapped)
            count += len(stale)
            if len(stale) < REWRAP_BATCH:
                return count

    async def _current(self, tx: Transaction, organization_id: str) -> tuple[int, AESGCM]:
        # Never from memory: a key that was made in a transaction that failed would be remembered for one in use.
        row = await keys.data_key(tx, organization_id) or await self._make(tx, organization_id)
        return row.version, AESGCM(await self._unwrap(row))

    async def _make(self, tx: Transaction, organization_id: str) -> DataKey:
        raw = AESGCM.generate_key(KEY_BYTES * 8)
        wrapped = _wrap(self._master, organization_id, 1, raw)
        new = {"version": 1, "master_version": self._master.newest, "wrapped": wrapped}
        await tx.add_unless_there(DataKey, organization_id=organization_id, **new)
        row = await keys.data_key(tx, organization_id)  # ours, or that of another replica which was sooner
        assert row is not None, "it was there or has been made"
        return row

    async def _data_key(self, tx: Transaction, organization_id: str, version: int) -> AESGCM:
        known = self._data_keys.get((organization_id, version))
        if known is not None:
            self._data_keys.move_to_end((organization_id, version))
            return known
        row = await keys.data_key(tx, organization_id, version)
        if row is None:
            raise VaultError("a stored secret names a data key that is not there")
        cipher = AESGCM(await self._unwrap(row))
        self._remember(organization_id, version, cipher)
        return cipher

    def _remember(self, organization_id: str, version: int, cipher: AESGCM) -> None:
        self._data_keys[organization_id, version] = cipher
        while len(self._data_keys) > MAX_DATA_KEYS:
            self._data_keys.popitem(last=False)

    async def _unwrap(self, row: DataKey) -> bytes:
        master = self._master.find(row.master_version)
        if master is None:
            await self._reload()
            master = self._master.find(row.master_version)
        if master is None:
            raise VaultError(f"{self._source} lacks master key {row.master_version}, which wraps a data key in use")
        nonce, wrapped = row.wrapped[:_NONCE_BYTES], row.wrapped[_NONCE_BYTES:]
        try:
            return master.decrypt(nonce, wrapped, _data_key_place(row.organization_id, row.version))
        except InvalidTag:
            raise VaultError(f"master key {row.master_version} of {self._source} is not the one in use here") from None

    async def _reload(self) -> None:
        self._master = await asyncio.to_thread(read_master_keys, self._source)

    def __repr__(self) -> str:
        return f"<Vault {self._master!r}, {len(self._data_keys)} data keys in memory>"


def _wrap(master: MasterKeys, organization_id: str, version: int, raw: bytes) -> bytes:
    cipher = master.find(master.newest)
    assert cipher is not None, "the newest master key is one of them"
    nonce = secrets.token_bytes(_NONCE_BYTES)
    return nonce + cipher.encrypt(nonce, raw, _data_key_place(organization_id, version))


def _data_key_place(organization_id: str, version: int) -> bytes:
    return Place(organization_id, "data_keys", (organization_id, str(version)), "wrapped").associated_data()
