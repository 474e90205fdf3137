"""Logins to the operator page, by an API key. A session is that key's: it ends with it, and may what it may.

The cookie's value is 256 random bits and kept as a hash, as keys are: a copy of the database opens no session.
"""

import hashlib
import secrets
from typing import Final, NamedTuple

from control_plane import api_keys
from control_plane.callers import Caller
from control_plane.refusals import ControlCode, Refused
from control_plane.store import api_keys as key_rows
from control_plane.store import page_sessions as rows
from control_plane.store.database import Database
from control_plane.store.models import PageSession

# A working day.
SESSION_SECONDS: Final = 12 * 3_600
# One person with a few browsers; whoever logs in more often ends the oldest of his own.
MAX_SESSIONS: Final = 20


class Session(NamedTuple):
    """Who is logged in, and what his forms have to carry."""

    caller: Caller
    csrf_token: str

    def __repr__(self) -> str:
        return f"<Session of {self.caller.id}>"


async def begin(database: Database, key: str, now: float) -> str:
    """Begin a session and return the cookie's value. Raises Refused."""
    caller = await api_keys.find_caller(database, key, now)
    if caller is None:
        raise Refused(ControlCode.UNAUTHORIZED, "this API key is not accepted; ask an operator for another")
    if caller.is_service:
        raise Refused(ControlCode.UNAUTHORIZED, "this key is a service's; people log in as operator or member")
    cookie = secrets.token_urlsafe(32)
    session = PageSession(
        session_hash=_hash(cookie),
        api_key_id=caller.id,
        csrf_token=secrets.token_urlsafe(32),
        created_at=int(now),
        expires_at=int(now) + SESSION_SECONDS,
    )
    async with database.write() as tx:
        await tx.add(session)
        await rows.keep_newest(tx, caller.id, MAX_SESSIONS)
    return cookie


async def find(database: Database, cookie: str, now: float) -> Session | None:
    """Return the session of a cookie; None where it is over, or its key is."""
    async with database.read() as tx:
        found = await rows.session(tx, _hash(cookie))
        if found is None or found.expires_at <= now:
            return None
        key = await key_rows.key(tx, found.api_key_id)
    caller = None if key is None else api_keys.caller_of(key, now)
    return None if caller is None else Session(caller, found.csrf_token)


async def end(database: Database, cookie: str) -> None:
    """End a session; again for one that has ended."""
    async with database.write() as tx:
        await rows.remove(tx, _hash(cookie))


def _hash(cookie: str) -> str:
    return hashlib.sha256(cookie.encode("utf-8", "replace")).hexdigest()
