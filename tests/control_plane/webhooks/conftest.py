"""The stage with a chat that signs like GitHub."""

from collections.abc import AsyncIterator

import pytest

from control_plane.foundation import Foundation
from tests.support.subscriber import Subscriber
from tests.support.webhook_signatures import HEX
from tests.support.webhook_stage import WebhookStage, chat, webhook_stage


@pytest.fixture
async def hooks(base: Foundation, subscriber: Subscriber) -> AsyncIterator[WebhookStage]:
    """The chat, its target, nothing else."""
    async with webhook_stage(base, subscriber, chat(HEX)) as stage:
        yield stage
