"""One HTTP session to places that others named: https, under the address policy, in time, no redirects followed."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from typing import Final

import aiohttp
import structlog
from aiohttp import ClientRequest
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.connector import Connection
from aiohttp.tracing import Trace

from control_plane.outbound.url import url_fault
from sallyport.net.dial import Dialer
from sallyport.net.dial_error import DialError
from sallyport.plan.url import split_url

CONNECT_SECONDS: Final = 5.0
# At most so many questions at once; one host that hangs must not use up the others' sockets.
MAX_LINKS: Final = 64
MAX_LINKS_PER_HOST: Final = 16

_log = structlog.get_logger(__name__)


class Unanswered(Exception):
    """There was no answer. `reason` is in our words, a clause without a subject: safe to show and to keep."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class CheckedSession:
    """Asks. Made on a running loop; closed by close()."""

    def __init__(self, dialer: Dialer, trust: ssl.SSLContext, *, is_plain_on_loopback: bool = False) -> None:
        """With is_plain_on_loopback this machine may be asked by http too, where the policy lets it be asked at all."""
        self._dialer = dialer
        self._is_plain_on_loopback = is_plain_on_loopback
        self._http = aiohttp.ClientSession(
            connector=_Connector(
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

    async def ask[T](
        self,
        method: str,
        url: str,
        body: bytes | None,
        headers: Mapping[str, str],
        seconds: float,
        read: Callable[[aiohttp.ClientResponse], Awaitable[T]],
    ) -> T:
        """Ask once and return what `read` makes of the answer, redirects included; raises Unanswered, and as read."""
        links: list[asyncio.Transport] = []
        _taken.set(links)
        try:
            async with asyncio.timeout(seconds):
                await self._check(url)
                async with self._http.request(
                    method, url, data=body, headers=dict(headers), allow_redirects=False
                ) as response:
                    try:
                        return await read(response)
                    finally:
                        if response.connection is None:
                            links.clear()  # read to its end; the link may be another's already
        except TimeoutError:
            raise Unanswered("did not answer in time") from None
        except DialError as error:
            _log.warning("outbound_not_dialled", fault=error.kind.value, detail=error.detail)
            raise Unanswered(f"cannot be reached: {error.kind.value}") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # Their texts may quote what was sent or received; the type alone is told.
            _log.warning("outbound_unreachable", error=type(error).__name__)
            raise Unanswered("cannot be reached") from None
        finally:
            # A link whose answer was not read to its end. Closed politely, by TLS, it would wait for the far side.
            for link in links:
                link.abort()

    async def close(self) -> None:
        """Close every link."""
        await self._http.close()

    async def _check(self, url: str) -> None:
        """Refuse what the client library would not ask the resolver about: a literal address."""
        fault = url_fault(url, is_plain_on_loopback=self._is_plain_on_loopback)
        if fault is not None:
            raise Unanswered(f"has a URL that cannot be used: {fault}")
        destination = split_url(url).destination
        if _is_literal(destination.host):
            await self._dialer.addresses(destination.host, destination.port)

    def __repr__(self) -> str:
        return "<CheckedSession>"


# The links that the question of this task has taken.
_taken: Final[ContextVar[list[asyncio.Transport]]] = ContextVar("links taken")


class _Connector(aiohttp.TCPConnector):
    """Tells which link a question takes: the library gives none up at once, however late an answer is."""

    async def connect(
        self,
        req: ClientRequest,
        traces: list[Trace],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109  the library's own signature
    ) -> Connection:
        """Take a link."""
        connection = await super().connect(req, traces, timeout)
        if connection.transport is not None:
            _taken.get().append(connection.transport)
        return connection


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


def retry_after_seconds(text: str, most: int) -> int:
    """Return what a Retry-After in seconds asks for, up to `most`; 0 where it asks for nothing, or by a date."""
    return min(int(text), most) if text.isascii() and text.isdecimal() and len(text) < 10 else 0


def _is_literal(host: str) -> bool:
    return ":" in host or host.rpartition(".")[2].isdigit()
