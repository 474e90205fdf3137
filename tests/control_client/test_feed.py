"""The feed, asked over real HTTP by each key."""

import contextlib
from collections.abc import AsyncIterator

import pytest

from control_client.errors import ControlError
from control_client.feed import fetch_feed
from control_client.feed_key import FeedKey
from control_client.feed_state import FeedAnswer, Known, Tier, take_answer
from control_client.session import ControlSession
from sallyport.secret import Secret
from tests.support.client_feed import ADMIN_KEY, INSTANCE, STANDARD_KEY, ClientFeed, client_feed
from tests.support.fake_control import answer

SERVERS = {"shared": (Tier.STANDARD, "http://h/1"), "secret-admin": (Tier.ADMIN, "http://h/2")}

NOTHING = Known()


@contextlib.asynccontextmanager
async def asking(key: str = STANDARD_KEY) -> AsyncIterator[tuple[ClientFeed, ControlSession]]:
    async with client_feed() as feed:
        feed.servers = dict(SERVERS)
        session = ControlSession(feed.url, FeedKey(Tier.STANDARD, Secret(key.encode()), feed.url))
        try:
            yield feed, session
        finally:
            await session.close()


async def fetch(
    session: ControlSession, known: Known = NOTHING, *, instance: str = INSTANCE, user: str | None = None
) -> FeedAnswer:
    return await fetch_feed(session, known, instance_id=instance, user_id=user)


async def test_each_key_sees_its_tier() -> None:
    async with asking() as (feed, session):
        assert (await fetch(session)).servers == {"shared": "http://h/1"}
        assert b"secret-admin" not in b"".join(feed.sent[Tier.STANDARD])
    async with asking(ADMIN_KEY) as (_, session):
        assert sorted((await fetch(session)).servers) == ["secret-admin", "shared"]


async def test_the_user_is_asked_for() -> None:
    async with asking() as (feed, session):
        feed.servers["mine"] = (Tier.STANDARD, "http://h/3")
        feed.users["mine"] = "4 2&x"
        assert "mine" not in (await fetch(session)).servers
        assert "mine" in (await fetch(session, user="4 2&x")).servers
        assert feed.asked[-1][1] == {"instanceId": INSTANCE, "userId": "4 2&x"}


async def test_what_is_known_is_not_sent_again() -> None:
    async with asking() as (feed, session):
        feed.revision = 5
        known = take_answer(Known(), await fetch(session))
        feed.revision, feed.is_stale = 6, True
        again = await fetch(session, known)
        assert again == FeedAnswer(known.servers, 6, known.etag, True)
        assert [asked[2] for asked in feed.asked] == [None, known.etag]
        assert len(feed.sent[Tier.STANDARD]) == 1
        feed.servers["more"] = (Tier.STANDARD, "http://h/3")
        assert "more" in (await fetch(session, known)).servers


async def test_a_feed_without_revisions_says_none() -> None:
    async with asking() as (feed, session):
        feed.tells_revision = False
        assert (await fetch(session)).revision is None


@pytest.mark.parametrize(("key", "instance", "status"), [("wrong", INSTANCE, 401), (STANDARD_KEY, "other", 403)])
async def test_a_refusal_is_told_and_no_other_key_is_tried(key: str, instance: str, status: int) -> None:
    async with asking(key) as (feed, session):
        with pytest.raises(ControlError) as caught:
            await fetch(session, instance=instance)
        assert caught.value.status == status
        assert key not in str(caught.value)
        assert {asked[0] for asked in feed.asked} <= {None, Tier.STANDARD}


@pytest.mark.parametrize(
    "wrong",
    [
        answer(200, b"{}"),
        answer(200, b'{"mcpServers": {}}', X_Sallyport_Revision="-1"),
        answer(200, b'{"mcpServers": {}}', X_Sallyport_Revision="9" * 17),
        answer(304),  # nothing was known
        answer(302, b"", Location="http://127.0.0.1:1/"),
    ],
)
async def test_another_answer_is_none(wrong: object) -> None:
    async with asking() as (feed, session):
        feed.misbehave(wrong)  # type: ignore[arg-type]  # of the table
        with pytest.raises(ControlError):
            await fetch(session)
