"""A client of the feed, whole: for each tier it has a key for, the follower of its feed and its live tools.

This is what an application embeds (docs/client.md). The tiers share nothing: not a session, not a memory, not a link.
"""

import ssl
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final, Self

import structlog

from control_client.config import ClientConfig
from control_client.errors import ControlError
from control_client.feed_key import FeedKey
from control_client.feed_state import Tier
from control_client.feed_store import FeedStore
from control_client.follow import Follower
from control_client.push_receiver import PushReceiver
from control_client.reload import LiveTools
from control_client.session import ControlSession
from control_client.toolset import CallResult, Progress, View
from sallyport.net.clock import read_wall
from sallyport.net.tasks import TaskSet
from sallyport.net.tls import client_context
from sallyport.secret import Secret

NO_KEY: Final = "no_key_of_tier"

_log = structlog.get_logger(__name__)


class ToolClient:
    """Use as `async with ToolClient(config) as client`; every call says by which tier it is made."""

    def __init__(self, config: ClientConfig) -> None:
        self._config = config
        self._sides: dict[Tier, _Side] = {}
        # No secret, no pushes: what is not checked is not taken.
        self.receiver = PushReceiver(_given(config.push_secret.by_tier()), self._deliver, wall=read_wall)

    async def __aenter__(self) -> Self:
        trust = client_context(None if self._config.client.ca_file is None else str(self._config.client.ca_file))
        for tier, key in _given(self._config.api_key.by_tier()).items():
            side = _Side(self._config, FeedKey(tier, key, self._config.client.url), trust)
            self._sides[tier] = side
            side.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for side in self._sides.values():
            await side.close()

    def view(self, tier: Tier) -> View:
        """Return the servers and tools of a tier as they stand now; raises ControlError without its key."""
        return self._side(tier).tools.view

    async def call(
        self,
        tier: Tier,
        server: str,
        tool: str,
        arguments: Mapping[str, Any],
        *,
        progress: Progress | None = None,
    ) -> CallResult:
        """Call a tool by a tier's key, and no other; raises ControlError without that key, ToolCallError."""
        return await self._side(tier).tools.call(server, tool, arguments, progress=progress)

    def is_stale(self, tier: Tier) -> bool:
        """Whether the servers of a tier are from the disk, or the feed itself could not verify them just now."""
        return self._side(tier).follower.known.is_stale

    async def settled(self, tier: Tier) -> View:
        """Wait until the feed has answered once and every server of it is linked; raises ControlError without a key."""
        side = self._side(tier)
        await side.follower.has_asked()
        return await side.tools.settled()

    def _side(self, tier: Tier) -> "_Side":
        side = self._sides.get(tier)
        if side is None:
            raise ControlError(NO_KEY, temporary=False, detail=f"this client has no {tier} key")
        return side

    def _deliver(self, tier: Tier, push: bytes) -> None:
        side = self._sides.get(tier)
        if side is not None:
            side.follower.take(push)

    def __repr__(self) -> str:
        return f"<ToolClient {', '.join(sorted(self._sides))}>"


class _Side:
    """What one key sees."""

    def __init__(self, config: ClientConfig, key: FeedKey, trust: ssl.SSLContext) -> None:
        client = config.client
        self._tasks = TaskSet(_task_failed)
        self._tier = key.tier
        self.tools = LiveTools(
            key.fields_for,
            grace_seconds=client.grace,
            call_seconds=client.call,
            build_seconds=client.build,
            patience_seconds=client.patience,
            trust=trust,
        )
        self._session = ControlSession(client.url, key, trust=trust, request_seconds=client.request)
        store = None
        if client.state_dir is not None:
            store = FeedStore(client.state_dir, key.tier, instance_id=client.instance_id, user_id=client.user_id)
        self.follower = Follower(
            self._session,
            self.tools.apply,
            instance_id=client.instance_id,
            user_id=client.user_id,
            store=store,
            poll_seconds=client.poll,
        )

    def start(self) -> None:
        self._tasks.spawn(self.follower.run(), name=f"feed {self._tier}")

    async def close(self) -> None:
        await self._tasks.close()
        await self.tools.close()
        await self._session.close()


def _given(by_tier: Mapping[Tier, Secret | None]) -> dict[Tier, Secret]:
    return {tier: secret for tier, secret in by_tier.items() if secret is not None}


def _task_failed(name: str, error: BaseException) -> None:
    _log.error("task_failed", task=name, exc_info=error)
