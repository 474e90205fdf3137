"""A session to a fake control plane."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from control_client.service_token import ServiceToken
from control_client.session import ControlSession
from tests.support.fake_control import FakeControl, fake_control


class Counts(list[tuple[str, str]]):
    """What a session counted, in order."""

    def add(self, operation: str, result: str) -> None:
        """Take one count."""
        self.append((operation, result))


@contextlib.asynccontextmanager
async def control_session(
    folder: Path, *, request_seconds: float = 5.0
) -> AsyncIterator[tuple[FakeControl, ControlSession, Counts]]:
    """Run a fake control plane with a session to it."""
    counts = Counts()
    async with fake_control() as fake:
        token = ServiceToken(fake.token_file(folder))
        session = ControlSession(fake.url, token, count=counts.add, request_seconds=request_seconds)
        try:
            yield fake, session, counts
        finally:
            await session.close()
