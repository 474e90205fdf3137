"""A subscriber for all tests of a worker, and the stage with a chat that signs like GitHub."""

from collections.abc import AsyncIterator, Iterator

import pytest

from control_plane.app import Foundation
from tests.support.subscriber import Subscriber, subscriber_server
from tests.support.webhook_signatures import HEX
from tests.support.webhook_stage import WebhookStage, chat, webhook_stage


@pytest.fixture(scope="session")
def subscriber_of_all(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subscriber]:
    """One that runs as long as the tests do."""
    with subscriber_server(tmp_path_factory.mktemp("subscriber")) as server:
        yield server


@pytest.fixture
def subscriber(subscriber_of_all: Subscriber) -> Subscriber:
    """The subscriber, who has forgotten everything."""
    subscriber_of_all.told.clear()
    subscriber_of_all.answers.clear()
    subscriber_of_all.always.clear()
    return subscriber_of_all


@pytest.fixture
async def hooks(base: Foundation, subscriber: Subscriber) -> AsyncIterator[WebhookStage]:
    """The chat, its target, nothing else."""
    async with webhook_stage(base, subscriber, chat(HEX)) as stage:
        yield stage
