"""A feed of servers for tests, over real HTTP, with its pushes, as contracts sections 6 and 7 have both.

What a test sets is what is served. Every byte that a key or a subscriber was sent is kept. Pushes can be lost.
"""

import contextlib
import hashlib
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
from aiohttp import web

from control_client.feed_state import Tier
from control_client.push_signature import ID, SIGNATURE, TIMESTAMP, sign
from sallyport.net.clock import read_wall
from sallyport.secret import Secret

INSTANCE = "inst_1"
STANDARD_KEY = "sp_sk_" + "1" * 64
ADMIN_KEY = "sp_sk_" + "a" * 64
STANDARD_SECRET = "push-secret-of-standard"
ADMIN_SECRET = "push-secret-of-admin"
PATH = "/api/integrations/client"

type Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class ClientFeed:
    """One feed on loopback, of one instance."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        """Speak TLS where a context is given."""
        self.port = 0
        self._context = context
        self.keys = {STANDARD_KEY: Tier.STANDARD, ADMIN_KEY: Tier.ADMIN}
        self.secrets = {Tier.STANDARD: STANDARD_SECRET, Tier.ADMIN: ADMIN_SECRET}
        self.subscribers: dict[Tier, str] = {}  # where each tier's pushes go
        self.servers: dict[str, tuple[Tier, str]] = {}  # name: from which tier on it is seen, and its url
        self.users: dict[str, str] = {}  # name: whose installation it is
        self.revision = 0
        self.is_stale = False
        self.tells_revision = True
        self.loses_pushes = False
        self.asked: list[tuple[Tier | None, dict[str, str], str | None]] = []  # tier, query, If-None-Match
        self.sent: dict[Tier, list[bytes]] = {tier: [] for tier in Tier}
        self.statuses: list[int] = []
        self._latest: dict[Tier, int] = {tier: 0 for tier in Tier}  # the last push of each subscription
        self._wrong: list[Answer] = []
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"{'http' if self._context is None else 'https'}://127.0.0.1:{self.port}"

    # What it does -----------------------------------------------------------------------------------

    def seen(self, tier: Tier, user_id: str | None = None) -> dict[str, str]:
        """Return what a key of a tier sees."""
        return {
            name: url
            for name, (lowest, url) in self.servers.items()
            if (lowest is Tier.STANDARD or tier is Tier.ADMIN) and self.users.get(name, user_id) == user_id
        }

    async def change(
        self,
        event: str,
        *,
        added: dict[str, tuple[Tier, str]] | None = None,
        removed: tuple[str, ...] = (),
        user_id: str | None = None,
    ) -> None:
        """Change what is served, and push it."""
        added = added or {}
        unseen = {name for name in removed if self.servers[name][0] is Tier.ADMIN}
        for name in removed:
            del self.servers[name]
        self.servers |= added
        if user_id is not None:
            self.users |= dict.fromkeys(added, user_id)
        self.revision += 1
        for tier in self.subscribers:
            is_admin = tier is Tier.ADMIN
            seen = {name: url for name, (lowest, url) in added.items() if lowest is Tier.STANDARD or is_admin}
            gone = [name for name in removed if name not in unseen or is_admin]
            if seen or gone:
                delta = {"added": {name: entry(url) for name, url in seen.items()}, "removed": gone}
                await self.push(tier, event, delta, meta={} if user_id is None else {"userId": user_id})

    async def push(
        self, tier: Tier, event: str, delta: dict[str, Any] | None, meta: dict[str, Any] | None = None
    ) -> None:
        """Send one push, as the latest revision's."""
        document: dict[str, Any] = {"event": event, "instanceId": INSTANCE, "meta": meta or {}}
        document |= {"seq": self.revision, "prevSeq": self._latest[tier]} | ({} if delta is None else {"delta": delta})
        self._latest[tier] = self.revision
        if not self.loses_pushes:
            await self.send(tier, json.dumps(document).encode())

    async def send(self, tier: Tier, body: bytes, **fields: str) -> None:
        """Post a body as a push, signed; fields replace the header's."""
        secret = self.secrets[tier]
        now = int(read_wall())
        message_id = f"msg_{len(self.statuses)}"
        signed = {
            "Authorization": f"Bearer {secret}",
            ID: message_id,
            TIMESTAMP: str(now),
            SIGNATURE: sign(Secret(secret.encode()), message_id, now, body),
        }
        self.sent[tier].append(body)
        async with (
            aiohttp.ClientSession() as http,
            http.post(self.subscribers[tier], data=body, headers=signed | fields) as response,
        ):
            self.statuses.append(response.status)

    def misbehave(self, *answers: Answer) -> None:
        """Answer the next questions, one each, in another way."""
        self._wrong += answers

    # Its life ---------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Listen, at the port it had before if there was one."""
        app = web.Application()
        app.router.add_get(PATH, self._feed)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=self._context)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Go away."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    # Answers ----------------------------------------------------------------------------------------

    async def _feed(self, request: web.Request) -> web.StreamResponse:
        key = request.headers.get("Authorization", "").removeprefix("Bearer ") or request.headers.get("X-API-Key", "")
        tier = self.keys.get(key)
        self.asked.append((tier, dict(request.query), request.headers.get("If-None-Match")))
        if self._wrong:
            return await self._wrong.pop(0)(request)
        if tier is None:
            return _problem(401, "unauthorized")
        if "instanceId" not in request.query:
            return _problem(400, "invalid_request")
        if request.query["instanceId"] != INSTANCE:
            return _problem(403, "forbidden")
        seen = self.seen(tier, request.query.get("userId"))
        body = json.dumps({"mcpServers": {name: entry(url) for name, url in seen.items()}}).encode()
        etag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
        headers = {"ETag": etag, "Vary": "Authorization, X-API-Key", "Cache-Control": "private"}
        headers |= {"X-Sallyport-Revision": str(self.revision)} if self.tells_revision else {}
        headers |= {"X-Sallyport-Stale": "true"} if self.is_stale else {}
        if request.headers.get("If-None-Match") == etag:
            return web.Response(status=304, headers=headers)
        self.sent[tier].append(repr(headers).encode() + body)
        return web.Response(body=body, content_type="application/json", headers=headers)


def entry(url: str) -> dict[str, str]:
    """Return how a feed writes a server."""
    return {"type": "streamable", "url": url}


def _problem(status: int, code: str) -> web.Response:
    return web.json_response({"status": status, "code": code}, status=status, content_type="application/problem+json")


@contextlib.asynccontextmanager
async def client_feed(context: ssl.SSLContext | None = None) -> AsyncIterator[ClientFeed]:
    """Run one until the block ends."""
    feed = ClientFeed(context)
    await feed.start()
    try:
        yield feed
    finally:
        await feed.stop()
