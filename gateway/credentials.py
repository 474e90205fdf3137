"""Credentials for the data path: from the cache without waiting, or by one resolution for all who wait.

Fails closed: whoever asks gets a value that has not expired, or a CredentialError. The rules of time are in
gateway/core/credential_cache.py; here are the tasks, the timeout, and the source of standalone mode.
"""

import asyncio
import errno
import os
import secrets
import stat
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final, Protocol

import structlog

from gateway.core.aws_keys import AwsKeys, KeysUnusable, read_keys
from gateway.core.credential_cache import (
    Credential,
    CredentialCache,
    CredentialKey,
    Entry,
    Invalidated,
    Refusal,
    ResolveRequest,
)
from gateway.setting_kinds import CredentialPlace, EnvironmentPlace, FilePlace
from sallyport.net.tasks import TaskSet
from sallyport.net.turns import Gate
from sallyport.secret import Secret, why_unusable

# Three tries within the `credential` timeout: a control plane that restarts is back for the second or third.
ATTEMPTS: Final = 3
RETRY_BASE_SECONDS: Final = 0.1
# A source that asks for a longer pause is obeyed by the refusal instead of a waiting exchange.
LONGEST_RETRY_PAUSE_SECONDS: Final = 1
# A value that was invalidated while it was being fetched is fetched again, but not for ever.
ROUNDS: Final = 3
# A credential is at most a few kilobytes; RFC 9110 recommends no size, servers stop at 8 to 64 KiB of head.
MAX_FILE_BYTES: Final = 64 * 1024
# What says nothing of a file, only of the moment: no descriptor, no memory, a disk or a mount that is not well.
PASSING_ERRORS: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO, errno.ESTALE, errno.ETIMEDOUT})

_log = structlog.get_logger(__name__)


class CredentialError(Exception):
    """There is no credential. The exchange becomes 503 when temporary, else 502; nothing is sent upstream.

    code is a word of contracts section 4, or one of ours: resolution_timeout, resolution_failed,
    credential_unusable, credential_expired, invalidated. detail is for the operator's log; neither holds a secret.
    """

    def __init__(self, code: str, *, temporary: bool, retry_after_seconds: int = 0, detail: str = "") -> None:
        super().__init__(f"{code}: {detail}" if detail else code)
        self.code = code
        self.temporary = temporary
        self.retry_after_seconds = retry_after_seconds
        self.detail = detail


class CredentialSource(Protocol):
    """Where credentials come from: files and environment (standalone), or a control plane."""

    async def resolve(self, request: ResolveRequest) -> Credential:
        """Return the credential; raise CredentialError."""


class Credentials:
    """The cache with the tasks that fill it. One per process; used from its event loop only."""

    def __init__(
        self,
        source: CredentialSource,
        tasks: TaskSet,
        *,
        max_entries: int,
        max_concurrent: int,
        max_each: int,
        timeout_seconds: float,
        now: Callable[[], float],
        random: Callable[[], float],
        count: Callable[[str], None],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """max_concurrent is how often the source is asked at once, max_each of these for one sandbox."""
        self._source = source
        self._tasks = tasks
        self._gate: Gate[str] = Gate(at_once=max_concurrent, each=max_each)
        self._cache = CredentialCache(max_entries)
        # Read by whoever cannot afford to ask fresh(): an entry is good until its refresh_at.
        self.entries: dict[CredentialKey, Entry] = self._cache.entries
        self._timeout_seconds = timeout_seconds
        self._now = now
        self._random = random
        self._count = count
        self._sleep = sleep
        # At most one task per key: the single flight.
        self._fetches: dict[CredentialKey, asyncio.Task[Credential | CredentialError]] = {}

    def fresh(self, key: CredentialKey, now: float) -> Credential | None:
        """Return the value in hand, or None: then await fetch. Hot path: one dict get and one compare.

        A value that nears its end is returned all the same, and asked for again in the background.
        """
        entry = self.entries.get(key)
        if entry is None:
            return None
        if now < entry.refresh_at:
            return entry.credential
        return self._ageing(entry, key, now)

    async def fetch(self, key: CredentialKey, request: ResolveRequest) -> Credential:
        """Return a credential that has not expired, resolving it at most once for all who wait.

        Raises CredentialError. A cancelled caller leaves the resolution to the others.
        """
        now = self._now()
        credential = self._cache.usable(key, now)
        if credential is not None:
            return credential
        refusal = self._cache.refusal(key, now)
        if refusal is not None:
            raise _refused(refusal, now)
        task = self._fetches.get(key) or self._start(key, request)
        outcome = await asyncio.shield(task)
        if isinstance(outcome, CredentialError):
            # A new one for each caller: one exception raised in many tasks would collect all their tracebacks.
            raise CredentialError(
                outcome.code,
                temporary=outcome.temporary,
                retry_after_seconds=outcome.retry_after_seconds,
                detail=outcome.detail,
            )
        return outcome

    def invalidate(self, kind: str, identifier: str | None, organization_id: str | None = None) -> int:
        """Forget what was resolved for a connection, binding, organization or all; return how many values.

        With an organization its own alone. Raises ValueError for another kind. A resolution under way is done again
        before anyone gets its value.
        """
        return self._cache.invalidate(Invalidated(kind), identifier, organization_id)

    def revoke(self, kind: str, identifier: str, until: float, organization_id: str | None = None) -> int:
        """Forget a `connection` or `binding` and refuse it credentials until then (unix seconds).

        With an organization its own alone. Returns how many values went; raises ValueError for another kind,
        RevocationsFull.
        """
        return self._cache.revoke(Invalidated(kind), identifier, until, self._now(), organization_id)

    def rejected(self, key: CredentialKey, version: str, now: float) -> bool:
        """Note an upstream 401 to an injected request; at most once per key in 30 s (C9).

        True: another version may be had by fetch; retry only if its version differs.
        """
        return self._cache.rejected(key, version, now)

    def __len__(self) -> int:
        return len(self.entries)

    def __repr__(self) -> str:
        return f"<Credentials {self._cache!r}>"

    def _ageing(self, entry: Entry, key: CredentialKey, now: float) -> Credential | None:
        if now >= entry.usable_until:
            return None
        if key not in self._fetches:
            self._start(key, entry.request)
        return entry.credential

    def _start(self, key: CredentialKey, request: ResolveRequest) -> asyncio.Task[Credential | CredentialError]:
        task = self._tasks.spawn(self._resolve(key, request), name=f"credential {key.connection_id}")
        self._fetches[key] = task
        # By callback, not in the coroutine: a task cancelled before its first step never runs its finally.
        task.add_done_callback(lambda _: self._fetches.pop(key, None))
        return task

    async def _resolve(self, key: CredentialKey, request: ResolveRequest) -> Credential | CredentialError:
        # Never raises for what the source does: a result nobody waits for any more must not become a warning.
        failure = CredentialError("invalidated", temporary=True, retry_after_seconds=1)
        for _ in range(ROUNDS):
            refusal = self._cache.refusal(key, self._now())
            if refusal is not None:
                failure = _refused(refusal, self._now())
                break
            ticket = self._cache.begin(key)
            try:
                outcome = await self._within_timeout(request)
            except BaseException:
                self._cache.abandon(ticket)
                raise
            if isinstance(outcome, Credential):
                if self._cache.finish(ticket, request, outcome, self._now()):
                    self._count("resolved")
                    return outcome
            else:
                self._cache.fail(
                    ticket,
                    code=outcome.code,
                    temporary=outcome.temporary,
                    retry_after_seconds=outcome.retry_after_seconds,
                    now=self._now(),
                )
                if not ticket.outdated:
                    failure = outcome
                    break
        self._failed(key, request, failure)
        return failure

    async def _within_timeout(self, request: ResolveRequest) -> Credential | CredentialError:
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return await self._attempts(request)
        except TimeoutError:
            detail = f"no answer within {self._timeout_seconds:g} s"
            return CredentialError("resolution_timeout", temporary=True, retry_after_seconds=1, detail=detail)

    async def _attempts(self, request: ResolveRequest) -> Credential | CredentialError:
        outcome = await self._ask(request)
        for attempt in range(1, ATTEMPTS):
            if isinstance(outcome, Credential) or not outcome.temporary:
                return outcome
            if outcome.retry_after_seconds > LONGEST_RETRY_PAUSE_SECONDS:
                return outcome
            # Full jitter: replicas that failed together do not come back together.
            await self._sleep(self._random() * RETRY_BASE_SECONDS * 2**attempt)
            outcome = await self._ask(request)
        return outcome

    async def _ask(self, request: ResolveRequest) -> Credential | CredentialError:
        try:
            async with self._gate.turn(request.key.sandbox_id):
                credential = await self._source.resolve(request)
        except CredentialError as error:
            return error
        except Exception as error:
            # The type alone: the text of a foreign exception may quote what it choked on.
            detail = f"the source failed with {type(error).__name__}"
            return CredentialError("resolution_failed", temporary=True, retry_after_seconds=1, detail=detail)
        if credential.expires_at is not None and credential.expires_at <= self._now():
            return CredentialError("credential_expired", temporary=True, retry_after_seconds=1)
        return credential

    def _failed(self, key: CredentialKey, request: ResolveRequest, error: CredentialError) -> None:
        self._count("temporary" if error.temporary else "permanent")
        _log.warning(
            "credential_not_resolved",
            code=error.code,
            detail=error.detail,
            temporary=error.temporary,
            sandbox_id=key.sandbox_id,
            binding_id=key.binding_id,
            connection_id=key.connection_id,
            secret_type=key.secret_type,
            egress_rule_id=request.egress_rule_id,
        )


class LocalCredentials:
    """The source of standalone mode: `credentials:` of the settings (contracts section 10).

    The most specific place wins: connection/secretType/slotKey, connection/secretType, connection. A resolverKey
    is not looked at: what the operator wrote down for the slot is the credential, however the plan would have
    had it made. Only keys of AWS may have an expiry; see REREAD_SECONDS for how soon a changed value is noticed.
    """

    def __init__(
        self,
        places: Mapping[tuple[str, ...], CredentialPlace],
        environ: Mapping[str, str],
        *,
        new_version: Callable[[], str] = lambda: secrets.token_hex(6),
    ) -> None:
        self._places = places
        self._environ = environ
        self._new_version = new_version
        # The last value of each place and its version: a random word, so that it says nothing of the value.
        self._versions: dict[tuple[str, ...], tuple[Secret | AwsKeys, str]] = {}

    async def resolve(self, request: ResolveRequest) -> Credential:
        """Read the value from its place; raise CredentialError."""
        reference = self._reference(request.key)
        place = self._places[reference]
        # A file may lie on a network mount, so it is not read on the loop.
        text = await asyncio.to_thread(self._read, place)
        return self._versioned(reference, place, text)

    def problems(self) -> list[str]:
        """Try every place now and say what is wrong, for a warning at start; holds no secret."""
        found = []
        for reference, place in self._places.items():
            try:
                _usable(place, self._read(place))
            except CredentialError as error:
                found.append(f"credentials {'/'.join(reference)}: {error.detail}")
        return found

    def _reference(self, key: CredentialKey) -> tuple[str, ...]:
        wanted = (key.connection_id, key.secret_type)
        full = wanted if key.slot_key is None else (*wanted, key.slot_key)
        for length in range(len(full), 0, -1):
            if full[:length] in self._places:
                return full[:length]
        known = any(reference[0] == key.connection_id for reference in self._places)
        code = "credential_not_found" if known else "connection_not_found"
        detail = f"`credentials` has no entry for {'/'.join(full)}; add one, or one for {key.connection_id}"
        raise CredentialError(code, temporary=False, detail=detail)

    def _read(self, place: CredentialPlace) -> str:
        match place:
            case EnvironmentPlace(variable=variable):
                value = self._environ.get(variable)
                if value is None:
                    raise _not_found(f"the environment variable {variable} is not set; set it and restart")
                return value
            case FilePlace(path=path):
                return _read_file(path)

    def _versioned(self, reference: tuple[str, ...], place: CredentialPlace, text: str) -> Credential:
        value, expires_at = _usable(place, text)
        known = self._versions.get(reference)
        if known is not None and known[0] == value:
            # The Secret seen first, so that nobody prepares a header again for an unchanged file.
            return Credential(known[0], expires_at, known[1])
        version = self._new_version()
        self._versions[reference] = (value, version)
        return Credential(value, expires_at, version)


def _read_file(path: Path) -> str:
    try:
        # Not blocking: opening a FIFO would otherwise wait for a writer and hold the thread.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno in PASSING_ERRORS:
            raise _not_read(path, error) from None
        reason = error.strerror if isinstance(error, OSError) else "not a path"
        raise _not_found(f"the file {path} cannot be read ({reason}); create it or correct its owner") from None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise _not_found(f"{path} is not a regular file; write the credential to one")
        with open(descriptor, "rb", closefd=False) as file:
            value = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise _not_read(path, error) from None
    finally:
        os.close(descriptor)
    if len(value) > MAX_FILE_BYTES:
        raise _unusable(f"the file {path} holds more than 64 KiB, which is no credential")
    try:
        return value.decode("utf-8").removesuffix("\n")
    except UnicodeDecodeError:
        raise _unusable(f"the file {path} is not UTF-8 text") from None


def _usable(place: CredentialPlace, text: str) -> tuple[Secret | AwsKeys, int | None]:
    """Return what the text is, and when it ends."""
    try:
        keys = read_keys(text)
    except KeysUnusable as error:
        raise _unusable(f"the keys of {place} are refused: {error}") from None
    if keys is not None:
        return keys
    reason = why_unusable(text)
    if reason is not None:
        raise _unusable(f"the value of {place} is refused: {reason}; write it again without that")
    return Secret(text.encode("latin-1")), None


def _not_read(path: Path, error: OSError) -> CredentialError:
    """The file may be as good as it was: nobody could look."""
    detail = f"the file {path} could not be read ({error.strerror})"
    return CredentialError("resolution_failed", temporary=True, retry_after_seconds=1, detail=detail)


def _not_found(detail: str) -> CredentialError:
    return CredentialError("credential_not_found", temporary=False, detail=detail)


def _unusable(detail: str) -> CredentialError:
    return CredentialError("credential_unusable", temporary=False, detail=detail)


def _refused(refusal: Refusal, now: float) -> CredentialError:
    seconds = max(1, round(refusal.until - now)) if refusal.temporary else 0
    return CredentialError(
        refusal.code, temporary=refusal.temporary, retry_after_seconds=seconds, detail="refused a moment ago"
    )
