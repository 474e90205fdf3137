from control_plane.foundation import Foundation
from control_plane.store import idempotent_answers as rows
from control_plane.store.models import IdempotentAnswer
from tests.support.control_plane import NOW


def row(owner: bytes, at: float = NOW) -> IdempotentAnswer:
    return IdempotentAnswer(caller="c", key="k", digest="d", status=0, answer=owner, at=int(at))


async def test_a_key_is_taken_once_and_forgotten_in_time(base: Foundation) -> None:
    for owner in (b"one", b"two"):
        async with base.database.write() as tx:
            assert (await rows.take(tx, row(owner))).answer == b"one"
    async with base.database.write() as tx:
        assert await rows.answer(tx, "c", "other") is None
        assert await rows.forget(tx, NOW) == 0
        assert await rows.forget(tx, NOW + 1) == 1
        assert await rows.answer(tx, "c", "k") is None
