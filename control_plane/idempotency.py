"""Requests that are asked again by the same key get the answer of the first, which is kept encrypted for a day.

The key is taken in a transaction of its own before the request is served, and its answer is written after that; so two
that come together never both begin. Whoever dies in between leaves it taken for ABANDONED_SECONDS.
"""

import secrets
from typing import Final, NamedTuple

import orjson

from control_plane.callers import Caller
from control_plane.refusals import ControlCode, Refused
from control_plane.store import idempotent_answers as rows
from control_plane.store.database import Database, Transaction
from control_plane.store.models import IdempotentAnswer
from control_plane.vault.disclosure import repeated_answer
from control_plane.vault.envelope import OWN, Place, Vault
from sallyport.secret import Secret

KEPT_SECONDS: Final = 24 * 3_600
# Longer than any request is served: a body has 10 s, a statement has 10.
ABANDONED_SECONDS: Final = 60
# What says nothing of the request itself, or may be another when it is asked again.
NOT_KEPT: Final = frozenset({401, 403, 408, 429})
# Of a request whose answer is not there yet.
_UNANSWERED: Final = 0


class Answer(NamedTuple):
    """An answer as it was sent."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


class Claim(NamedTuple):
    """A key that is taken for one request. `owner` tells this taking from any other."""

    caller_id: str
    key: str
    owner: bytes

    def __repr__(self) -> str:
        return f"<Claim of {self.caller_id}>"


def is_kept(status: int) -> bool:
    """Say whether an answer of a status is the answer to a request once and for all."""
    return 200 <= status < 500 and status not in NOT_KEPT


class Answers:
    """Takes keys and keeps answers."""

    def __init__(self, database: Database, vault: Vault) -> None:
        self._database = database
        self._vault = vault

    async def begin(self, caller: Caller, key: str, request: bytes, now: float) -> Claim | Answer:
        """Take a key for a request, or return the answer that is kept under it. Raises Refused."""
        claim = Claim(caller.id, key, secrets.token_bytes(16))
        async with self._database.write() as tx:
            digest = await self._vault.fingerprint(tx, _place(caller.id, key, "digest"), request)
            fresh = IdempotentAnswer(
                caller=caller.id, key=key, digest=digest, status=_UNANSWERED, answer=claim.owner, at=int(now)
            )
            kept = await rows.take(tx, fresh)
            if kept.answer == claim.owner:
                return claim
            if kept.at <= now - (ABANDONED_SECONDS if kept.status == _UNANSWERED else KEPT_SECONDS):
                kept.digest, kept.status, kept.answer, kept.at = digest, _UNANSWERED, claim.owner, int(now)
                return claim
            if kept.digest != digest:
                raise Refused(ControlCode.IDEMPOTENCY_CONFLICT, "take another key for another request")
            if kept.status == _UNANSWERED:
                detail = "ask again in a moment for its answer"
                raise Refused(ControlCode.REQUEST_IN_PROGRESS, detail, retry_after_seconds=1)
            return await self._open(tx, kept)

    async def keep(self, claim: Claim, answer: Answer, now: float) -> None:
        """Keep the answer of the request that took a key."""
        content = orjson.dumps({"headers": answer.headers, "body": answer.body.decode("utf-8")})
        async with self._database.write() as tx:
            row = await self._own(tx, claim)
            if row is not None:
                place = _place(claim.caller_id, claim.key, "answer")
                row.answer = await self._vault.seal(tx, place, Secret(content))
                row.status, row.at = answer.status, int(now)

    async def give_back(self, claim: Claim) -> None:
        """Let the same key be used again: the request has no answer that would be kept."""
        async with self._database.write() as tx:
            row = await self._own(tx, claim)
            if row is not None:
                await tx.delete(row)

    async def _own(self, tx: Transaction, claim: Claim) -> IdempotentAnswer | None:
        row = await rows.answer(tx, claim.caller_id, claim.key)
        return row if row is not None and row.status == _UNANSWERED and row.answer == claim.owner else None

    async def _open(self, tx: Transaction, kept: IdempotentAnswer) -> Answer:
        assert kept.answer is not None, "what was answered has an answer"
        opened = await self._vault.open(tx, _place(kept.caller, kept.key, "answer"), kept.answer)
        content = orjson.loads(repeated_answer(opened))
        headers = [(str(name), str(value)) for name, value in content["headers"]]
        return Answer(kept.status, headers, content["body"].encode("utf-8"))


def _place(caller_id: str, key: str, column: str) -> Place:
    return Place(OWN, "idempotent_answers", (caller_id, key), column)
