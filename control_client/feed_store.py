"""The last good set of servers of each tier, on disk: what a client begins with while its feed is away."""

import asyncio
import hashlib
import json
from pathlib import Path
from typing import Final

import structlog

from control_client.errors import ControlError
from control_client.feed_documents import MAX_FEED_BYTES, feed_document, read_feed
from control_client.feed_state import Servers, Tier
from sallyport.net.whole_file import replace_file

_MODE: Final = 0o600

_log = structlog.get_logger(__name__)


class FeedStore:
    """One file for each tier, instance and user: what one is served, no other begins with."""

    def __init__(self, state_dir: Path, tier: Tier, *, instance_id: str, user_id: str | None) -> None:
        owner = json.dumps([tier, instance_id, user_id]).encode("utf-8")
        self._path = state_dir / f"feed-{tier}-{hashlib.sha256(owner).hexdigest()[:32]}.json"

    async def load(self) -> Servers | None:
        """Return the last good set; None where there is none that can be used."""
        return await asyncio.to_thread(self._load)

    async def save(self, servers: Servers) -> None:
        """Keep a good set. That it cannot be kept is logged: it is good all the same."""
        content = json.dumps(feed_document(servers)).encode("utf-8")
        try:
            await asyncio.to_thread(self._replace, content)
        except OSError as error:
            _log.warning("feed_not_kept", path=str(self._path), detail=error.strerror)

    def _replace(self, content: bytes) -> None:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace_file(self._path, content, mode=_MODE)

    def _load(self) -> Servers | None:
        try:
            with self._path.open("rb") as file:
                content = file.read(MAX_FEED_BYTES + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            _log.warning("feed_not_loaded", path=str(self._path), detail=error.strerror)
            return None
        try:
            return read_feed(content)
        except ControlError as error:
            _log.warning("feed_not_loaded", path=str(self._path), detail=error.detail)
            return None

    def __repr__(self) -> str:
        return f"<FeedStore {self._path.name}>"
