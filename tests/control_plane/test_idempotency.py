import asyncio
import hashlib

import pytest
from sqlalchemy import select

from control_plane.callers import Caller, Role
from control_plane.foundation import Foundation
from control_plane.idempotency import ABANDONED_SECONDS, KEPT_SECONDS, Answer, Answers, Claim, is_kept
from control_plane.refusals import Refused
from control_plane.store.models import IdempotentAnswer
from tests.support.control_plane import NOW, SECRET

CALLER = Caller(id="key_1", roles=frozenset({Role.OPERATOR}))
OTHER = Caller(id="key_2", roles=frozenset({Role.OPERATOR}))
ANSWER = Answer(201, [("content-type", "application/json")], SECRET.encode())


@pytest.fixture
def answers(base: Foundation) -> Answers:
    return Answers(base.database, base.vault)


async def begun(
    answers: Answers, request: bytes = b"one", *, caller: Caller = CALLER, now: float = NOW
) -> Claim | Answer | str:
    try:
        return await answers.begin(caller, "k", request, now)
    except Refused as refused:
        return refused.code.wire


async def test_the_same_request_gets_the_same_answer(answers: Answers) -> None:
    claim = await begun(answers)
    assert isinstance(claim, Claim)
    assert SECRET not in repr(claim)
    assert await begun(answers) == "request_in_progress"
    assert await begun(answers, b"two") == "idempotency_conflict"
    await answers.keep(claim, ANSWER, NOW)
    assert await begun(answers) == ANSWER
    assert await begun(answers, b"two") == "idempotency_conflict"
    assert isinstance(await begun(answers, b"two", caller=OTHER), Claim)


async def test_of_many_at_once_one_is_served(answers: Answers) -> None:
    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(begun(answers)) for _ in range(8)]
    found = [each.result() for each in asked]
    assert sum(isinstance(each, Claim) for each in found) == 1
    assert found.count("request_in_progress") == 7


async def test_what_is_kept_cannot_be_read_from_the_database(base: Foundation, answers: Answers) -> None:
    claim = await answers.begin(CALLER, "k", SECRET.encode(), NOW)
    assert isinstance(claim, Claim)
    await answers.keep(claim, ANSWER, NOW)
    async with base.database.read() as tx:
        [row] = await tx.all(select(IdempotentAnswer))
    assert SECRET.encode() not in (row.answer or b"")
    # The digest needs the master key: a copy of the database cannot be used to try what the request held.
    await answers.begin(CALLER, "other", SECRET.encode(), NOW)
    async with base.database.read() as tx:
        digests = await tx.all(select(IdempotentAnswer.digest))
    assert len({*digests, hashlib.sha256(SECRET.encode()).hexdigest()}) == 3


async def test_what_was_given_back_is_served_again(answers: Answers) -> None:
    claim = await begun(answers)
    assert isinstance(claim, Claim)
    await answers.give_back(claim)
    assert isinstance(await begun(answers, b"two"), Claim)
    await answers.give_back(claim)  # no longer its own
    assert await begun(answers, b"two") == "request_in_progress"


async def test_who_died_in_between_holds_a_key_for_a_minute(answers: Answers) -> None:
    dead = await begun(answers)
    assert await begun(answers, now=NOW + ABANDONED_SECONDS - 1) == "request_in_progress"
    claim = await begun(answers, now=NOW + ABANDONED_SECONDS)
    assert isinstance(claim, Claim)
    assert isinstance(dead, Claim)
    await answers.keep(dead, ANSWER, NOW)  # it lived after all: too late
    assert await begun(answers, now=NOW + ABANDONED_SECONDS) == "request_in_progress"


async def test_an_answer_is_kept_for_a_day(answers: Answers) -> None:
    claim = await begun(answers)
    assert isinstance(claim, Claim)
    await answers.keep(claim, ANSWER, NOW)
    assert await begun(answers, now=NOW + KEPT_SECONDS - 1) == ANSWER
    assert isinstance(await begun(answers, now=NOW + KEPT_SECONDS), Claim)


@pytest.mark.parametrize(
    ("status", "kept"),
    [
        *((200, True), (201, True), (204, True), (400, True), (404, True), (409, True)),
        *((401, False), (403, False), (408, False), (429, False), (500, False), (503, False)),
    ],
)
def test_which_answers_are_kept(status: int, kept: bool) -> None:
    assert is_kept(status) is kept
