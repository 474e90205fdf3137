"""Where pushes arrive: a handler for an aiohttp application, and a server of its own (contracts section 7).

It checks who sends, answers, and hands the body on; nothing is read or done before the sender has its answer.
"""

import asyncio
import json
import ssl
from collections.abc import Callable, Mapping
from typing import Final

import structlog
from aiohttp import web

from control_client.feed_state import Tier
from control_client.push_signature import ID, SIGNATURE, TIMESTAMP, is_signed
from sallyport.net.setting_kinds import HostPort
from sallyport.net.transports import bind_tcp
from sallyport.secret import Secret

DEFAULT_PATH: Final = "/mcp/webhook/config-changed"
# A delta of every server a feed may have is half of it.
MAX_BODY_BYTES: Final = 4 * 1024 * 1024
# A push is a few hundred bytes from a machine nearby.
BODY_SECONDS: Final = 10.0
# What is longer is no secret of anybody.
MAX_TOKEN_TEXT: Final = 4_096

_log = structlog.get_logger(__name__)


class PushReceiver:
    """Take pushes for one tier or both, each with a secret of its own, and hand them on by `deliver(tier, body)`."""

    def __init__(
        self, secrets: Mapping[Tier, Secret], deliver: Callable[[Tier, bytes], None], *, wall: Callable[[], float]
    ) -> None:
        """Raise ValueError where two tiers have one secret. wall is unix time."""
        if len(secrets) == 2 and secrets[Tier.STANDARD] == secrets[Tier.ADMIN]:
            raise ValueError("the secrets of two tiers are the same")
        self._secrets = dict(secrets)
        self._deliver = deliver
        self._wall = wall

    def add_to(self, app: web.Application, path: str = DEFAULT_PATH) -> None:
        """Answer a path of an application."""
        app.router.add_post(path, self.handle)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one push."""
        tier = self._sender(request.headers.get("Authorization"))
        if tier is None:
            return _unauthorized()
        body = await _read(request)
        if not self._is_genuine(request, tier, body):
            return _unauthorized()
        response = web.Response(body=json.dumps({"ok": True}).encode(), content_type="application/json")
        try:
            await response.prepare(request)
            await response.write_eof()
        finally:
            self._deliver(tier, body)  # also where the sender did not wait for its answer
        return response

    def _sender(self, authorization: str | None) -> Tier | None:
        """Return whose secret is shown. The scheme has to be there, and every secret is compared in constant time."""
        if authorization is None or len(authorization) > MAX_TOKEN_TEXT:
            return None
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer":
            return None
        shown = Secret(token.encode("utf-8", "surrogateescape"))
        found = None
        for tier, secret in self._secrets.items():
            if shown == secret:
                found = tier
        return found

    def _is_genuine(self, request: web.Request, tier: Tier, body: bytes) -> bool:
        """Whether the signature is right, where there is one; a sender of today may send none."""
        signature = request.headers.get(SIGNATURE)
        if signature is None:
            return True
        message_id, timestamp = request.headers.get(ID), request.headers.get(TIMESTAMP)
        return is_signed(self._secrets[tier], message_id, timestamp, signature, body, now=self._wall())

    def __repr__(self) -> str:
        return f"<PushReceiver {', '.join(sorted(self._secrets))}>"


async def serve_pushes(
    receiver: PushReceiver,
    address: HostPort,
    started: Callable[[str, int], None],
    stop: asyncio.Event,
    *,
    path: str = DEFAULT_PATH,
    context: ssl.SSLContext | None = None,
) -> None:
    """Serve the receiver alone until `stop`; started(host, port) is called once it listens. Raises ListenError."""
    app = web.Application()
    receiver.add_to(app, path)
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)
    await runner.setup()
    try:
        listening = bind_tcp(address.host, address.port)
        await web.SockSite(runner, listening, ssl_context=context).start()
        host, port = listening.getsockname()[:2]
        started(host, port)
        await stop.wait()
    finally:
        await runner.cleanup()


def _unauthorized() -> web.Response:
    return web.json_response({"error": "Unauthorized"}, status=401)


async def _read(request: web.Request) -> bytes:
    """Return the body; raises what answers 413, 408 or 400."""
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.content.iter_any():
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    raise web.HTTPRequestEntityTooLarge(MAX_BODY_BYTES, len(body))
    except TimeoutError:
        raise web.HTTPRequestTimeout from None
    except web.RequestPayloadError:  # coded or framed as nobody can read it
        raise web.HTTPBadRequest from None
    return bytes(body)
