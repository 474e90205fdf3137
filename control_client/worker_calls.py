"""Ask a worker about its integration servers (contracts section 8). One session for each call: calls are rare."""

import json
import ssl
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote, urlsplit

from control_client.errors import ControlError
from control_client.members import read_object
from control_client.session import Bearer, ControlSession, Problem
from sallyport.host import is_loopback

# A document of a few members; an install request may be as long as a manifest.
MAX_ANSWER_BYTES: Final = 64 * 1024
CLEARTEXT: Final = "worker_cleartext"


class WorkerCalls:
    """One worker, by its API's address and a token it takes. Raises ControlError; `words` are the worker's own."""

    def __init__(self, url: str, token: Bearer, *, trust: ssl.SSLContext | None, seconds: float) -> None:
        parts = urlsplit(url)
        if parts.scheme != "https" and not is_loopback(parts.hostname or ""):
            # A service token would be there for whoever listens in between.
            raise ControlError(
                CLEARTEXT, temporary=False, detail=f"{url} is cleartext off loopback; give the worker tls"
            )
        self._url = url
        self._token = token
        self._trust = trust
        self._seconds = seconds

    async def install(self, order: Mapping[str, object]) -> str:
        """Have a server installed, stopped, and return its id."""
        members = read_object(await self._ask("POST", "/integrations/install", order))
        return members.text("id")

    async def remove(self, server_id: str) -> None:
        """Have it taken away."""
        await self._ask("DELETE", f"/integrations/{quote(server_id, safe='')}")

    async def start(self, server_id: str) -> None:
        """Have it run; returns when it does."""
        await self._ask("POST", f"/integrations/{quote(server_id, safe='')}/start")

    async def stop(self, server_id: str) -> None:
        """Have it not run; returns when it does not."""
        await self._ask("POST", f"/integrations/{quote(server_id, safe='')}/stop")

    async def _ask(self, method: str, path: str, document: Mapping[str, object] | None = None) -> bytes:
        session = ControlSession(
            self._url, self._token, trust=self._trust, request_seconds=self._seconds, problem=read_error
        )
        try:
            answer = await session.ask("worker", method, path, document=document, most_bytes=MAX_ANSWER_BYTES)
        finally:
            await session.close()
        return answer.body

    def __repr__(self) -> str:
        return f"<WorkerCalls {self._url}>"


def read_error(content: bytes) -> Problem | None:
    """Read a worker's `{"error": {category, message}}`; its message holds no secret and may be shown."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return None
    error = document.get("error") if isinstance(document, dict) else None
    if not isinstance(error, dict) or not isinstance(error.get("category"), str):
        return None
    return Problem(error["category"], str(error.get("message", ""))[:1000])
