"""Asks the admin listeners of gateways, where their leases say they are."""

from collections.abc import Mapping
from typing import Final
from urllib.parse import urlencode

import aiohttp

from control_plane.outbound.checked_session import CheckedSession, Unanswered

# A gateway's denial is some KiB at most; a list of them has a limit.
MAX_ANSWER_BYTES: Final = 2 * 1024 * 1024


class GatewayAdmin:
    """Asks each question once; closed with the session it has."""

    def __init__(self, session: CheckedSession, seconds: float) -> None:
        self._session = session
        self._seconds = seconds

    async def get(self, admin_url: str, path: str, query: Mapping[str, str], token: str) -> bytes:
        """Return the body of a 200; raises Unanswered. The token goes nowhere without TLS: loopback asks for none."""
        headers = {"Authorization": f"Bearer {token}"} if admin_url.startswith("https://") else {}
        url = f"{admin_url.rstrip('/')}{path}?{urlencode(query)}"
        return await self._session.ask("GET", url, None, headers, self._seconds, _whole)

    def __repr__(self) -> str:
        return "<GatewayAdmin>"


async def _whole(response: aiohttp.ClientResponse) -> bytes:
    if response.status != 200:
        raise Unanswered(f"answers {response.status}")
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > MAX_ANSWER_BYTES:
            raise Unanswered(f"answers more than {MAX_ANSWER_BYTES} bytes")
    return bytes(body)
