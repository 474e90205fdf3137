"""A follower and a real feed: pushes in order, gaps, answers, a disk, and a feed that is away."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from control_client import follow
from control_client.feed_key import FeedKey
from control_client.feed_state import Servers, Tier
from control_client.feed_store import FeedStore
from control_client.follow import MAX_WAITING_PUSHES, Follower
from control_client.session import ControlSession
from sallyport.secret import Secret
from tests.support.client_feed import INSTANCE, STANDARD_KEY, ClientFeed, client_feed, entry
from tests.support.fake_control import answer, refusal
from tests.support.until import until

ONE = (Tier.STANDARD, "http://h/1")


class Following:
    """A follower of a feed, and every set that it told."""

    def __init__(self, feed: ClientFeed, session: ControlSession, store: FeedStore | None, poll_seconds: float) -> None:
        self.feed = feed
        self.told: list[Servers] = []
        self.follower = Follower(
            session, self.told.append, instance_id=INSTANCE, store=store, poll_seconds=poll_seconds
        )

    def push(self, **members: object) -> None:
        """Hand a push over."""
        document = {"event": "shared_tool_started", "instanceId": INSTANCE} | members
        self.follower.take(json.dumps(document).encode())

    async def asked(self, times: int) -> None:
        """Wait until the feed was asked so often, and its answer taken."""
        await until(
            lambda: len(self.feed.asked) == times and self.follower.known.servers == self.feed.seen(Tier.STANDARD)
        )


@contextlib.asynccontextmanager
async def following(
    folder: Path | None = None, *, poll_seconds: float = 3600, begin: bool = True
) -> AsyncIterator[Following]:
    async with client_feed() as feed:
        feed.servers = {"one": ONE}
        feed.revision = 5
        session = ControlSession(feed.url, FeedKey(Tier.STANDARD, Secret(STANDARD_KEY.encode()), feed.url))
        store = None if folder is None else FeedStore(folder, Tier.STANDARD, instance_id=INSTANCE, user_id=None)
        found = Following(feed, session, store, poll_seconds)
        async with asyncio.TaskGroup() as group:
            running = group.create_task(found.follower.run()) if begin else None
            if running is not None:
                await found.follower.has_asked()
            yield found
            if running is not None:
                running.cancel()
        await session.close()


async def test_a_push_is_applied_without_a_question() -> None:
    async with following() as found:
        found.push(seq=6, prevSeq=5, delta={"added": {"two": entry("http://h/2")}, "removed": ["one"]})
        await until(lambda: found.told[-1] == {"two": "http://h/2"})
        assert repr(found.follower) == f"<Follower of {INSTANCE}: 1 servers, at 6>"
        assert len(found.feed.asked) == 1


async def test_after_a_gap_the_feed_is_asked_and_older_pushes_are_dropped() -> None:
    async with following() as found:
        found.feed.servers["two"] = ONE
        found.feed.revision = 9
        found.push(seq=9, prevSeq=8, delta={"added": {}, "removed": []})
        await found.asked(2)
        found.push(seq=8, prevSeq=7, delta={"added": {}, "removed": ["two"]})
        found.push(seq=10, prevSeq=9, delta={"added": {"three": entry("http://h/3")}, "removed": []})
        await until(lambda: sorted(found.told[-1]) == ["one", "three", "two"])
        assert len(found.feed.asked) == 2


async def test_many_pushes_without_a_delta_are_one_question() -> None:
    async with following() as found:
        for seq in range(6, 26):
            found.push(event="config_changed", seq=seq, prevSeq=seq - 1)
        found.feed.revision = 25
        found.feed.servers["two"] = ONE
        await found.asked(2)


async def test_what_is_pushed_while_the_feed_is_asked_is_not_lost() -> None:
    async with following(begin=False) as found:
        found.push(seq=6, prevSeq=5, delta={"added": {"two": entry("http://h/2")}, "removed": []})
        async with asyncio.TaskGroup() as group:
            running = group.create_task(found.follower.run())
            await until(lambda: found.told[-1:] == [{"one": "http://h/1", "two": "http://h/2"}])
            running.cancel()


async def test_a_push_that_cannot_be_read_is_a_question() -> None:
    async with following() as found:
        found.feed.servers["two"] = ONE
        found.follower.take(b"{")
        await found.asked(2)


async def test_more_pushes_than_are_held_are_a_question() -> None:
    async with following() as found:
        found.feed.servers["two"] = ONE
        for _ in range(MAX_WAITING_PUSHES + 1):
            found.push(instanceId="another")
        await found.asked(2)


async def test_another_instance_s_pushes_are_nothing() -> None:
    async with following() as found:
        found.push(instanceId="another", event="config_changed")
        found.push(seq=6, prevSeq=5, delta={"added": {}, "removed": []})
        await until(lambda: found.follower.known.at == 6)
        assert len(found.feed.asked) == 1


async def test_it_asks_anyway_now_and_then() -> None:
    async with following(poll_seconds=0.01) as found:
        found.feed.servers["two"] = ONE
        await until(lambda: found.told[-1] == {"one": ONE[1], "two": ONE[1]})


async def test_no_old_etag_hides_that_the_feed_went_back() -> None:
    async with following(poll_seconds=0.2) as found:
        # Applied here, and undone there before the next question: the feed's bytes are what they were at first.
        found.push(seq=6, prevSeq=5, delta={"added": {"two": entry("http://h/2")}, "removed": []})
        await until(lambda: "two" in found.told[-1])
        found.feed.revision = 7
        await until(lambda: "two" not in found.told[-1])


async def test_a_feed_that_says_when_is_asked_no_sooner(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "pause_seconds", lambda attempt, random: 0.0)
    async with following(begin=False) as found:
        found.feed.misbehave(refusal(503, "database_unavailable", Retry_After="3600"))
        async with asyncio.TaskGroup() as group:
            running = group.create_task(found.follower.run())
            await until(lambda: len(found.feed.asked) == 1)
            found.push(event="config_changed")
            await until(lambda: not found.follower._waiting)
            assert len(found.feed.asked) == 1
            running.cancel()


async def test_a_feed_that_is_away_is_asked_again_and_its_last_set_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "_pause", lambda failures, failed: 0.0)
    async with following(tmp_path) as found:
        assert found.told == [{"one": "http://h/1"}]
    async with following(tmp_path, begin=False) as found:
        found.feed.misbehave(answer(500), answer(503), answer(200, b"{"))
        del found.feed.servers["one"]
        async with asyncio.TaskGroup() as group:
            running = group.create_task(found.follower.run())
            await found.follower.has_asked()
            assert found.told == [{"one": "http://h/1"}, {}]
            assert len(found.feed.asked) == 4
            running.cancel()
