"""The key by which a client reads its feed, and speaks to the servers in it. One key is of one tier, for good."""

from typing import Final
from urllib.parse import urlsplit

from control_client.feed_state import Tier
from sallyport.host import is_loopback
from sallyport.secret import Secret


class FeedKey:
    """Show the key of a tier; there is nothing to fall back to."""

    ends_at: Final = None

    def __init__(self, tier: Tier, key: Secret, feed_url: str) -> None:
        self.tier = tier
        self.advice = f"the {tier} key is not accepted; make a new one and give it to this client"
        self._key = key
        feed = urlsplit(feed_url)
        self._cleartext_host = feed.hostname if feed.scheme == "http" else None

    async def current(self, *, again: bool = False) -> str:
        """Return the key. It was given once, so `again` finds no other."""
        return self._key.reveal().decode("ascii")

    async def fields_for(self, url: str) -> dict[str, str]:
        """Return the header fields of requests to a server of the feed; none where the key would be overheard.

        In cleartext it goes to this machine, and to the host to which the operator sends it in cleartext already.
        """
        parts = urlsplit(url)
        host = parts.hostname or ""
        if parts.scheme != "https" and not is_loopback(host) and host != self._cleartext_host:
            return {}
        return {"Authorization": f"Bearer {await self.current()}"}

    def __repr__(self) -> str:
        return f"<FeedKey {self.tier}>"
