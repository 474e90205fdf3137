"""A control plane dies at every step of a push's way, and another one goes on where it was.

What is written in the feed is what subscribers hear, in order: whoever applies the pushes as they come, as our own
client does, knows what the feed says, and has not to ask it.
"""

import asyncio
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from control_client.feed_documents import read_push
from control_client.feed_state import Known, Owed, take_push
from control_plane.feed.tiers import Tier
from control_plane.foundation import foundation
from tests.support.control_plane import settings
from tests.support.killed_plane import PUSH_STEPS
from tests.support.planes import Planes
from tests.support.postgres import PostgresServer, postgres_server
from tests.support.push_stage import INSTANCE, change, entry, make_instance
from tests.support.subscriber import Subscriber, subscriber_server
from tests.support.until import until
from tests.support.webhook_stage import PUBLIC_URL

SECRET: Final = "secret-of-a-client"
CHANGES: Final = 8
# The step is struck in the middle of what there is to do.
HIT: Final = 3
SECONDS: Final = 60.0


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with postgres_server() as server:
        yield server


@pytest.fixture
def subscriber(tmp_path: Path) -> Iterator[Subscriber]:
    with subscriber_server(tmp_path / "subscriber") as server:
        yield server


def known_by(subscriber: Subscriber) -> Known:
    """Return what a client knows that has heard everything that was sent, as it came.

    It asks the feed once: for the built-in server, whose coming is told without a delta.
    """
    known = Known(at=0)
    asked = 0
    for told in subscriber.told:
        outcome = take_push(known, read_push(told.body), instance_id=INSTANCE, user_id=None)
        if isinstance(outcome, Owed):
            known, asked = known._replace(at=told.document["seq"]), asked + 1
        elif isinstance(outcome, Known):
            known = outcome
    assert asked == 1
    return known


def heard(subscriber: Subscriber) -> int:
    """Return the newest change that was told."""
    return max((told.document["seq"] for told in subscriber.told), default=0)


async def killed_at(step: str, url: str | None, folder: Path, subscriber: Subscriber) -> None:
    variables = {
        "SALLYPORT_DATA_DIR": str(folder / "data"),
        "SALLYPORT_API_LISTEN": "127.0.0.1:0",
        "SALLYPORT_API_PUBLIC_URL": PUBLIC_URL,
        "SALLYPORT_OUTBOUND_ALLOW": "127.0.0.0/8",
        "SALLYPORT_OUTBOUND_CA_FILE": str(subscriber.ca_file),
        "SALLYPORT_PUSHES_TIMEOUT": "1s",
        "WEBHOOK_CLIENT_URL": subscriber.url("/mcp/webhook/config-changed"),
        "WEBHOOK_CLIENT_SECRET": SECRET,
        "WEBHOOK_CLIENT_TIER": "admin",
    } | ({} if url is None else {"SALLYPORT_DATABASE_URL": url})
    planes = Planes(variables, HIT)
    now = time.time()  # noqa: TID251  the processes have the real clock
    async with foundation(settings(folder / "data", url), now=now) as base:
        await make_instance(base)
        await planes.start(step)
        try:
            async with asyncio.timeout(SECONDS), asyncio.TaskGroup() as group:
                died = group.create_task(planes.wait())
                for number in range(CHANGES):
                    gone = [entry(f"tool-{number - 2}")] if number >= 2 else []
                    tier = Tier.ADMIN if number % 3 == 2 else Tier.STANDARD
                    added = [entry(f"tool-{number}", tier)]
                    newest = await change(base, "shared_tool_started", added=added, removed=gone)
                    # One after the other until it dies, so that each step comes often enough.
                    await until(lambda newest=newest: died.done() or heard(subscriber) >= newest)  # type: ignore[misc]  # a default
                assert await died == -signal.SIGKILL
                await planes.start("none")
            await until(lambda: heard(subscriber) >= newest)
        finally:
            status = await planes.stop()
    assert status == 0
    assert set(known_by(subscriber).servers) == {f"tool-{CHANGES - 2}", f"tool-{CHANGES - 1}"}
    assert {told.authorization for told in subscriber.told} == {f"Bearer {SECRET}"}
    seqs = [told.document["seq"] for told in subscriber.told]
    assert seqs == sorted(seqs)
    assert set(seqs) == set(range(1, newest + 1))
    # Only what was under way when it died is heard again.
    assert len(seqs) - len(set(seqs)) <= 1


@pytest.mark.full
@pytest.mark.timeout(180)
@pytest.mark.counted("kills of a control plane with pushes", "changes lost")
@pytest.mark.parametrize("step", PUSH_STEPS)
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_every_step(
    kind: str, step: str, tmp_path: Path, subscriber: Subscriber, request: pytest.FixtureRequest
) -> None:
    url = None
    if kind == "postgresql":
        server = request.getfixturevalue("postgres")
        assert isinstance(server, PostgresServer)
        url = server.url(server.create())
    await killed_at(step, url, tmp_path, subscriber)
