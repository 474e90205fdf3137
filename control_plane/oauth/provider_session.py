"""How providers are asked: by a checked session, each answer bounded in size and read at once.

Nothing of an answer but its status gets into an error or a log.
"""

import ssl
from collections.abc import Mapping
from typing import Final, NamedTuple

import aiohttp

from control_plane.oauth.provider_error import temporary
from control_plane.outbound.checked_session import CheckedSession, Unanswered, retry_after_seconds
from sallyport.json_object import json_object
from sallyport.net.dial import Dialer
from sallyport.secret import Secret

# A gateway waits 10 s for a resolution; what is left is for the database.
REQUEST_SECONDS: Final = 8.0
# The longest answer is a token of some kilobytes, or the list of an installation's repositories.
MAX_ANSWER_BYTES: Final = 256 * 1024
# A provider that wants a longer pause is asked again all the same: a credential is needed.
MAX_RETRY_AFTER: Final = 60


class Answer(NamedTuple):
    """An answer, whole. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def document(self) -> dict[str, object]:
        """Return the JSON object it is; raise ProviderError."""
        try:
            return json_object(self.body)
        except ValueError:
            raise temporary("the provider's answer cannot be read") from None


class Made(NamedTuple):
    """A credential that came of an answer; `refresh` is what the next one is asked with, where that is new."""

    value: Secret
    expires_at: int | None
    refresh: Secret | None = None


class ProviderSession:
    """Asks providers. Made on a running loop; closed by close()."""

    def __init__(self, dialer: Dialer, trust: ssl.SSLContext, *, request_seconds: float = REQUEST_SECONDS) -> None:
        self._request_seconds = request_seconds
        self._session = CheckedSession(dialer, trust)

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Ask once; raises ProviderError where there is no answer, a redirect, or a 5xx or 429."""
        return await self._ask("POST", url, body, headers)

    async def get(self, url: str, headers: Mapping[str, str]) -> Answer:
        """Ask once, as post() does."""
        return await self._ask("GET", url, None, headers)

    async def _ask(self, method: str, url: str, body: bytes | None, headers: Mapping[str, str]) -> Answer:
        try:
            return await self._session.ask(method, url, body, headers, self._request_seconds, _read)
        except Unanswered as error:
            raise temporary(f"the provider {error.reason}") from None

    async def close(self) -> None:
        """Close every link."""
        await self._session.close()

    def __repr__(self) -> str:
        return "<ProviderSession>"


async def _read(response: aiohttp.ClientResponse) -> Answer:
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > MAX_ANSWER_BYTES:
            response.close()
            raise temporary("the provider's answer is too long")
    status = response.status
    headers = {name.lower(): value for name, value in response.headers.items()}
    if status >= 500 or status in (408, 425, 429):
        raise temporary(
            f"the provider answered {status}",
            retry_after=retry_after_seconds(headers.get("retry-after", ""), MAX_RETRY_AFTER),
        )
    if 300 <= status < 400:
        raise temporary(f"the provider answered {status}, and redirects are not followed")
    if headers.get("content-encoding", "identity") != "identity":
        raise temporary("the provider's answer is coded, which was not asked for")
    return Answer(status, headers, bytes(body))
