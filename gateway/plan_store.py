"""The last good plans, keys and revocations on disk, so that a restart without a control plane serves on.

Each file is whole or not there: written beside and renamed, and its first line is the checksum of the rest. A file
that is not as it was written is passed over and said so. Credentials never come here. The directory is the gateway's
alone: who can write there decides where credentials are sent.
"""

import asyncio
import hashlib
import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

import structlog

from gateway.revocations import Revocation
from sallyport.net.tasks import TaskSet
from sallyport.net.whole_file import replace_file

# The format of the files: another first line is another version's.
_MAGIC: Final = b"sallyport-state-1 "
_PRIVATE: Final = 0o600
_KEYS: Final = "keys"
_CONTACT: Final = "contact"
_PLAN_SUFFIX: Final = ".plan"
# A plan is at most 2 MiB, a hundred thousand revocations ten.
MAX_FILE_BYTES: Final = 32 * 1024 * 1024

_log = structlog.get_logger(__name__)


class StateError(Exception):
    """The state directory cannot be used; str() says why and what to do."""


class Contact(NamedTuple):
    """When the control plane was last heard, in unix seconds, and what was out of service then."""

    heard_at: int
    revocations: tuple[Revocation, ...]


class Restored(NamedTuple):
    """What was found on disk; contact is None where nobody knows how old it is."""

    contact: Contact | None
    jwks: bytes | None
    plans: tuple[bytes, ...]


class PlanStore:
    """Files of one directory. Reading blocks, at start; writing happens on a thread, and the last of a name wins."""

    def __init__(self, state_dir: Path, tasks: TaskSet) -> None:
        self._state_dir = state_dir
        self._tasks = tasks
        self._pending: dict[str, bytes | None] = {}
        self._writer: asyncio.Task[None] | None = None
        self.failures = 0
        self._is_failing = False

    def open(self) -> Restored:
        """Make the directory where it is missing, and read what is there; raises StateError. Blocks."""
        try:
            self._state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            mode = stat.S_IMODE(self._state_dir.stat().st_mode)
            names = sorted(os.listdir(self._state_dir))
        except OSError as error:
            raise StateError(
                f"control.state_dir: {self._state_dir}: {error.strerror}; this process must be able to write there"
            ) from None
        if mode & 0o077:
            raise StateError(f"control.state_dir: {self._state_dir}: others may use it; chmod 700 it")
        contact = self._read(_CONTACT) if _CONTACT in names else None
        return Restored(
            None if contact is None else _read_contact(contact),
            self._read(_KEYS) if _KEYS in names else None,
            tuple(body for name in names if name.endswith(_PLAN_SUFFIX) and (body := self._read(name)) is not None),
        )

    def save_plan(self, sandbox_id: str, document: bytes) -> None:
        """Keep a plan, in place of the sandbox's last."""
        self._put(_plan_name(sandbox_id), document)

    def drop_plan(self, sandbox_id: str) -> None:
        """Keep a sandbox's plan no longer."""
        self._put(_plan_name(sandbox_id), None)

    def save_keys(self, jwks: bytes) -> None:
        """Keep the key set."""
        self._put(_KEYS, jwks)

    def save_contact(self, contact: Contact) -> None:
        """Keep when the control plane was heard, and what is revoked."""
        self._put(_CONTACT, _contact_document(contact))

    async def flush(self) -> None:
        """Wait until what was given is written."""
        while self._writer is not None:
            await asyncio.shield(self._writer)

    def _put(self, name: str, content: bytes | None) -> None:
        self._pending.pop(name, None)  # so that the order is that of the last words
        self._pending[name] = content
        if self._writer is None:
            self._writer = self._tasks.spawn(self._write_pending(), name="plan store")

    async def _write_pending(self) -> None:
        try:
            while self._pending:
                pending, self._pending = self._pending, {}
                await asyncio.to_thread(self._write_all, pending)
        finally:
            self._writer = None

    def _write_all(self, files: Mapping[str, bytes | None]) -> None:
        for name, content in files.items():
            try:
                if content is None:
                    (self._state_dir / name).unlink(missing_ok=True)
                else:
                    replace_file(self._state_dir / name, _MAGIC + _checksum(content) + b"\n" + content, mode=_PRIVATE)
            except OSError as error:
                # A full disk costs the next restart its memory, not this process its service.
                self.failures += 1
                self._report(error.strerror, name)
            else:
                self._report(None, name)

    def _report(self, failure: str | None, name: str) -> None:
        # One line per change of state, as for audit: what is heard is written every few seconds.
        if failure is not None and not self._is_failing:
            _log.error("state_not_saved", file=name, detail=failure)
        elif failure is None and self._is_failing:
            _log.warning("state_saved_again", file=name)
        self._is_failing = failure is not None

    def _read(self, name: str) -> bytes | None:
        try:
            with (self._state_dir / name).open("rb") as file:
                content = file.read(MAX_FILE_BYTES + 1)
        except OSError as error:
            _log.error("state_not_read", file=name, detail=error.strerror)
            return None
        first, _, body = content.partition(b"\n")
        if len(content) > MAX_FILE_BYTES or first != _MAGIC + _checksum(body):
            _log.error("state_not_read", file=name, detail="it is not as it was written")
            return None
        return body

    def __repr__(self) -> str:
        return f"<PlanStore {self._state_dir}, {len(self._pending)} to write>"


def _checksum(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode("ascii")


def _plan_name(sandbox_id: str) -> str:
    # An id may hold any visible character; its digest is a file name everywhere.
    return hashlib.sha256(sandbox_id.encode("utf-8")).hexdigest() + _PLAN_SUFFIX


def _contact_document(contact: Contact) -> bytes:
    return json.dumps({"heardAt": contact.heard_at, "revocations": contact.revocations}).encode("utf-8")


def _read_contact(content: bytes) -> Contact | None:
    """Read what was written here; the checksum was right, so only another version of us can have got it wrong."""
    try:
        document = json.loads(content)
        revocations = tuple(_read_revocation(*members) for members in document["revocations"])
        return Contact(int(document["heardAt"]), revocations)
    except (ValueError, KeyError, TypeError):
        _log.error("state_not_read", file=_CONTACT, detail="it was written by another version")
        return None


def _read_revocation(kind: object, name: object, until: float, organization_id: object = None) -> Revocation:
    """Read one; a version before this one wrote down no organization, and meant all of them."""
    whose = None if organization_id is None else str(organization_id)
    return Revocation(str(kind), str(name), float(until), whose)
