"""The ways from the front to MCP servers inside sandboxes: by the admin listener of the gateway that has the tunnel.

The front has checked who calls; the gateway is shown the worker's own service token, and never a client's key.
"""

import ssl
from collections import OrderedDict
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import quote, urlsplit

import structlog

from control_client.admissions import SandboxPlace
from sallyport.host import is_loopback
from sallyport.net.tasks import TaskSet
from worker.integrations.errors import provider_error
from worker.integrations.launch import Call
from worker.integrations.passage import Passage

# Each holds some sockets while it is used; an idle one beyond these is closed.
MAX_WAYS: Final = 256

_log = structlog.get_logger(__name__)


class PassageLimits(NamedTuple):
    """What one way may cost."""

    connect_seconds: float
    answer_seconds: float
    body_bytes: int
    sessions: int
    calls: int


class SandboxPassages:
    """One passage for each server of a sandbox at a gateway."""

    def __init__(self, token_file: Path | None, trust: ssl.SSLContext, limits: PassageLimits, tasks: TaskSet) -> None:
        """The token is read anew at each use, so that a rotated one counts without a restart."""
        self._token_file = token_file
        self._trust = trust
        self._limits = limits
        self._tasks = tasks
        self._passages: OrderedDict[str, Passage] = OrderedDict()

    def to(self, place: SandboxPlace, server_id: str) -> Passage:
        """Return the way to a server; raises IntegrationError."""
        sandbox, server = quote(place.sandbox_id, safe=""), quote(server_id, safe="")
        url = f"{place.admin_url.rstrip('/')}/v1/sandboxes/{sandbox}/mcp/{server}"
        call = Call(url=url, headers=self._authorization(url), proxy_url=None, hidden=())
        passage = self._passages.get(url)
        if passage is None:
            passage = self._passages[url] = self._made(call)
            self._close_idle()
        self._passages.move_to_end(url)
        passage.call = call
        return passage

    async def close(self) -> None:
        """End what is open."""
        passages, self._passages = self._passages, OrderedDict()
        for passage in passages.values():
            await passage.close()

    def _made(self, call: Call) -> Passage:
        limits = self._limits
        return Passage(
            call,
            self._trust,
            connect_seconds=limits.connect_seconds,
            answer_seconds=limits.answer_seconds,
            most_body_bytes=limits.body_bytes,
            most_sessions=limits.sessions,
            most_calls=limits.calls,
        )

    def _authorization(self, url: str) -> dict[str, str]:
        if self._token_file is None:
            return {}
        parts = urlsplit(url)
        if parts.scheme != "https" and not is_loopback(parts.hostname or ""):
            raise provider_error("the gateway's admin listener is cleartext off loopback")
        try:
            token = self._token_file.read_text(encoding="ascii").strip()
        except (OSError, ValueError) as error:
            _log.error("gateway_token_unreadable", path=str(self._token_file), reason=type(error).__name__)
            raise provider_error("the worker has no token for the gateway") from None
        return {"authorization": f"Bearer {token}"}

    def _close_idle(self) -> None:
        idle = [url for url, passage in self._passages.items() if passage.is_idle]
        for url in idle[: max(0, len(self._passages) - MAX_WAYS)]:
            self._tasks.spawn(self._passages.pop(url).close(), name="close the way to a sandbox")

    def __repr__(self) -> str:
        return f"<SandboxPassages: {len(self._passages)}>"
