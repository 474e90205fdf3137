"""One HTTP session to providers: https only, under the address policy, bounded in time and size, no redirects.

Nothing of an answer but its status gets into an error or a log.
"""

import asyncio
import ssl
from collections.abc import Mapping
from typing import Final, NamedTuple

import aiohttp
import structlog
from aiohttp.abc import AbstractResolver, ResolveResult

from control_plane.oauth.provider_error import temporary
from sallyport.json_object import json_object
from sallyport.net.dial import Dialer
from sallyport.net.dial_error import DialError
from sallyport.plan.url import UrlError, split_url
from sallyport.secret import Secret

# A gateway waits 10 s for a resolution; what is left is for the database.
REQUEST_SECONDS: Final = 8.0
CONNECT_SECONDS: Final = 5.0
# The longest answer is a token of some kilobytes, or the list of an installation's repositories.
MAX_ANSWER_BYTES: Final = 256 * 1024
# At most so many questions at once; one provider that hangs must not use up the others' sockets.
MAX_LINKS: Final = 64
MAX_LINKS_PER_HOST: Final = 16
# A provider that wants a longer pause is asked again all the same: a credential is needed.
MAX_RETRY_AFTER: Final = 60

_log = structlog.get_logger(__name__)


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
        self._dialer = dialer
        self._request_seconds = request_seconds
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                resolver=CheckedResolver(dialer),
                use_dns_cache=False,
                ssl=trust,
                limit=MAX_LINKS,
                limit_per_host=MAX_LINKS_PER_HOST,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            headers={"Accept-Encoding": "identity", "User-Agent": "sallyport"},
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
        )

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Ask once; raises ProviderError where there is no answer, a redirect, or a 5xx or 429."""
        return await self._ask("POST", url, body, headers)

    async def get(self, url: str, headers: Mapping[str, str]) -> Answer:
        """Ask once, as post() does."""
        return await self._ask("GET", url, None, headers)

    async def _ask(self, method: str, url: str, body: bytes | None, headers: Mapping[str, str]) -> Answer:
        try:
            async with asyncio.timeout(self._request_seconds):
                await self._check(url)
                async with self._http.request(
                    method, url, data=body, headers=dict(headers), allow_redirects=False
                ) as response:
                    return await _read(response)
        except TimeoutError:
            raise temporary("the provider did not answer in time") from None
        except DialError as error:
            _log.warning("provider_not_dialled", fault=error.kind.value, detail=error.detail)
            raise temporary(f"the provider cannot be reached: {error.kind.value}") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # Their texts may quote what was sent or received; the type alone is told.
            _log.warning("provider_unreachable", error=type(error).__name__)
            raise temporary("the provider cannot be reached") from None

    async def close(self) -> None:
        """Close every link."""
        await self._http.close()

    async def _check(self, url: str) -> None:
        """Refuse what the client library would not ask the resolver about: a literal address."""
        try:
            destination = split_url(url).destination
        except UrlError as error:
            raise temporary(f"the target's URL cannot be used: {error}") from None
        if destination.scheme != "https":
            raise temporary("the target's URL cannot be used: https is expected")
        if _is_literal(destination.host):
            await self._dialer.addresses(destination.host, destination.port)

    def __repr__(self) -> str:
        return "<ProviderSession>"


class CheckedResolver(AbstractResolver):
    """Gives the client library addresses that were checked, and none if one of a name's is refused."""

    def __init__(self, dialer: Dialer) -> None:
        self._dialer = dialer

    async def resolve(self, host: str, port: int = 0, family: int = 0) -> list[ResolveResult]:
        """Return numeric addresses, which the library connects to as they are; raises DialError."""
        # It reads the family off the address, and none of the rest.
        return [
            ResolveResult(hostname=host, host=address, port=port, family=0, proto=0, flags=0)
            for address in await self._dialer.addresses(host, port)
        ]

    async def close(self) -> None:
        """Nothing is held."""


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
        raise temporary(f"the provider answered {status}", retry_after=_retry_after(headers))
    if 300 <= status < 400:
        raise temporary(f"the provider answered {status}, and redirects are not followed")
    if headers.get("content-encoding", "identity") != "identity":
        raise temporary("the provider's answer is coded, which was not asked for")
    return Answer(status, headers, bytes(body))


def _retry_after(headers: Mapping[str, str]) -> int:
    text = headers.get("retry-after", "")
    return min(int(text), MAX_RETRY_AFTER) if text.isascii() and text.isdecimal() and len(text) < 10 else 0


def _is_literal(host: str) -> bool:
    return ":" in host or host.rpartition(".")[2].isdigit()
