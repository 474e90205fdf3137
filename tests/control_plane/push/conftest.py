"""An instance, and an emitter that tells of it."""

from collections.abc import AsyncIterator

import pytest

from control_plane.foundation import Foundation
from tests.support.push_stage import PushStage, make_instance, push_stage
from tests.support.subscriber import Subscriber


@pytest.fixture
async def pushes(base: Foundation, subscriber: Subscriber) -> AsyncIterator[PushStage]:
    """One instance, no subscriber yet."""
    await make_instance(base)
    async with push_stage(base, subscriber) as stage:
        yield stage
