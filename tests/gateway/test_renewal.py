"""Renewed tokens as they go to sandboxd, that nothing prints them, and whose turn it is to have some."""

import asyncio
import gc

import pytest

from gateway.renewal import RENEWALS_AT_ONCE, Renewals, RenewedTokens, TokenRenewalError
from sallyport.net.tasks import TaskSet
from tests.support.raw_end import WAIT_SECONDS
from tests.support.token_issuer import Asked, ScriptedIssuer
from tests.support.until import until

pytestmark = pytest.mark.uvloop

type Asking = asyncio.Task[RenewedTokens]

TOKENS = RenewedTokens(token="canary-a", expires_at=10, renewal_token="canary-b", renewal_expires_at=20)


def test_a_response_says_everything_of_contracts_section_3() -> None:
    assert TOKENS.response("req_1") == {
        "type": "token.response",
        "requestId": "req_1",
        "token": "canary-a",
        "expiresAt": 10,
        "renewalToken": "canary-b",
        "renewalExpiresAt": 20,
    }


def test_no_token_is_printed() -> None:
    assert repr(TOKENS) == str(TOKENS) == "<RenewedTokens until 10>"


def test_an_error_says_whether_to_ask_again() -> None:
    error = TokenRenewalError("unavailable", temporary=True)
    assert (str(error), error.code, error.temporary) == ("unavailable", "unavailable", True)


# ---- by turns


class Scene:
    """Renewals of an issuer that a test answers for."""

    def __init__(self, timeout_seconds: float = 10) -> None:
        self.failed: list[BaseException] = []
        self.tasks = TaskSet(lambda _, error: self.failed.append(error))
        self.issuer = ScriptedIssuer()
        self.renewals = Renewals(self.issuer, self.tasks, timeout_seconds=timeout_seconds)

    def ask(
        self, sandbox_id: str = "sbx_one", request_id: str = "req_1", token: str | None = None, lineage: str = "sid_1"
    ) -> Asking:
        return self.tasks.spawn(self.renewals.renew(sandbox_id, request_id, token, lineage), name="asking")

    async def next(self) -> Asked:
        return await self.issuer.asked()

    async def is_idle(self) -> bool:
        """Whether nothing more is asked of the issuer, however long one waits."""
        before = self.issuer.count
        for _ in range(10):
            await asyncio.sleep(0)
        return self.issuer.count == before


async def test_s10_the_same_renewal_is_one_call_and_one_answer_for_all_who_wait() -> None:
    scene = Scene()
    asking = [scene.ask(token="renewal") for _ in range(1000)]
    asked = await scene.next()
    assert (asked.sandbox_id, asked.request_id) == ("sbx_one", "req_1")
    assert (asked.renewal_token, asked.lineage) == ("renewal", "sid_1")
    asking.append(scene.ask(token="renewal"))
    assert await scene.is_idle()
    asked.settle(TOKENS)
    assert {id(await each) for each in asking} == {id(TOKENS)}
    assert scene.issuer.count == 1
    # What is over is asked for again: whether the answer is the same is the issuer's to say.
    again = scene.ask(token="renewal")
    (await scene.next()).settle(TOKENS)
    assert await again == TOKENS
    assert repr(scene.renewals) == "<Renewals: 0 under way, <Gate: <Turns 0 under way, 0 waiting, of 0 owners>>>"


async def test_t1_who_asks_with_anything_else_waits_for_a_call_of_its_own() -> None:
    scene = Scene()
    asking = [
        scene.ask(),
        scene.ask("sbx_two"),
        scene.ask(request_id="req_2"),
        scene.ask(token="renewal"),
        scene.ask(lineage="sid_2"),
    ]
    seen = set()
    for _ in asking:
        asked = await scene.next()
        seen.add((asked.sandbox_id, asked.request_id, asked.renewal_token, asked.lineage))
        asked.settle(TOKENS)
    assert len(seen) == len(asking)
    assert [await each for each in asking] == [TOKENS] * len(asking)


async def test_s10_a_sandbox_has_one_call_at_a_time_and_others_have_theirs() -> None:
    scene = Scene()
    mine = [scene.ask(request_id=f"req_{number}") for number in range(100)]
    first = await scene.next()
    assert await scene.is_idle()
    theirs = [scene.ask(f"sbx_{number}") for number in range(RENEWALS_AT_ONCE + 1)]
    others = [await scene.next() for _ in range(RENEWALS_AT_ONCE - 1)]
    assert await scene.is_idle()
    assert {asked.sandbox_id for asked in others} == {f"sbx_{number}" for number in range(RENEWALS_AT_ONCE - 1)}
    # A turn each: who has waited meanwhile is not behind all that the first one wants.
    for asked in (first, *others):
        asked.settle(TOKENS)
    last = {(await scene.next()).sandbox_id for _ in range(3)}
    assert last == {"sbx_one", *(f"sbx_{number}" for number in range(RENEWALS_AT_ONCE - 1, RENEWALS_AT_ONCE + 1))}
    assert await mine[0] == TOKENS
    await scene.tasks.close()
    assert (scene.failed, [each.cancelled() for each in (mine[-1], theirs[-1])]) == ([], [True, True])


async def test_a_failure_is_told_to_all_and_a_new_exception_to_each() -> None:
    scene = Scene()
    asking = [scene.ask(), scene.ask()]
    (await scene.next()).settle(TokenRenewalError("unavailable", temporary=True))
    errors = []
    for each in asking:
        with pytest.raises(TokenRenewalError) as caught:
            await each
        errors.append(caught.value)
    assert [(error.code, error.temporary) for error in errors] == [("unavailable", True)] * 2
    assert errors[0] is not errors[1]


async def test_s10_a_call_has_its_time() -> None:
    scene = Scene(timeout_seconds=0.05)
    with pytest.raises(TokenRenewalError) as caught:
        async with asyncio.timeout(WAIT_SECONDS):
            await scene.ask()
    assert (caught.value.code, caught.value.temporary) == ("timeout", True)


async def test_s10_who_waits_for_a_turn_that_does_not_come_is_told_in_time() -> None:
    scene = Scene(timeout_seconds=60)
    under_way = scene.ask()
    await scene.next()
    scene.renewals._timeout_seconds = 0.01
    with pytest.raises(TokenRenewalError):
        async with asyncio.timeout(WAIT_SECONDS):
            await scene.ask(request_id="req_2")
    assert (scene.issuer.count, under_way.done()) == (1, False)
    await scene.tasks.close()


async def test_a_caller_that_goes_leaves_the_call_to_the_others_and_the_last_one_ends_it() -> None:
    scene = Scene()
    gone, stays = scene.ask(), scene.ask()
    asked = await scene.next()
    gone.cancel()
    await asyncio.wait([gone])
    assert not asked.answer.cancelled()
    stays.cancel()
    await asyncio.wait([stays])
    # Who comes now is not given what is being cancelled.
    newcomer = scene.ask()
    second = await scene.next()
    assert asked.answer.cancelled()
    second.settle(TOKENS)
    assert await newcomer == TOKENS
    await until(lambda: not len(scene.tasks))
    gc.collect()
    assert scene.failed == []
