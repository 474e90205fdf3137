"""A subscriber of webhooks, over real TLS on a thread of its own.

It checks signatures from its own reading of the specification, and can be told to be slow, wrong or gone.
"""

import asyncio
import base64
import binascii
import contextlib
import hashlib
import hmac
import json
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from aiohttp import web

from demo.certificates import OriginFiles, write_origin_files
from tests.support.background import in_background

HELD_SECONDS = 20.0


class Told(NamedTuple):
    """One request, as it came."""

    path: str
    id: str
    timestamp: str
    signature: str
    body: bytes
    authorization: str = ""

    @property
    def document(self) -> Any:  # noqa: ANN401  JSON
        """What it says."""
        return json.loads(self.body)

    def is_signed_with(self, secret: str) -> bool:
        """Verify as Standard Webhooks 1.0 says."""
        key = base64.b64decode(secret.removeprefix("whsec_"))
        signed = hmac.new(key, f"{self.id}.{self.timestamp}.".encode() + self.body, hashlib.sha256).digest()
        return f"v1,{binascii.b2a_base64(signed, newline=False).decode()}" in self.signature.split(" ")


class Subscriber:
    """What it was told, and what it answers next: 204 unless something else is next."""

    def __init__(self, files: OriginFiles) -> None:
        self.port = 0
        self.ca_file = files.ca_file
        self.told: list[Told] = []
        self.answers: list[tuple[int, dict[str, str]]] = []
        self.always: dict[str, int] = {}  # by path
        self._tls = files.server_context()
        self._gate = threading.Event()
        self._gate.set()

    def url(self, path: str = "/hook") -> str:
        """Where it is told."""
        return f"https://127.0.0.1:{self.port}{path}"

    @property
    def ids(self) -> list[str]:
        """The ids of what it was told, in order."""
        return [each.id for each in self.told]

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Answer nothing within the block."""
        self._gate.clear()
        try:
            yield
        finally:
            self._gate.set()

    async def _take(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        message_id, timestamp, signature = (
            request.headers[f"webhook-{name}"] for name in ("id", "timestamp", "signature")
        )
        self.told.append(
            Told(request.path, message_id, timestamp, signature, body, request.headers.get("Authorization", ""))
        )
        # Polled, because a thread that waits would not be cancelled with the server.
        for _ in range(int(HELD_SECONDS / 0.005)):
            if self._gate.is_set():
                break
            await asyncio.sleep(0.005)
        status, headers = self.answers.pop(0) if self.answers else (self.always.get(request.path, 204), {})
        return web.Response(status=status, headers=headers)

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator["Subscriber"]:
        """Listen within the block."""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._take)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=self._tls)
            await site.start()
            self.port = runner.addresses[0][1]
            yield self
        finally:
            self._gate.set()
            await runner.cleanup()


@contextlib.contextmanager
def subscriber_server(folder: Path) -> Iterator[Subscriber]:
    """Run one, with certificates in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with in_background(Subscriber(write_origin_files(folder, ["127.0.0.1"])).serving()) as server:
        yield server
