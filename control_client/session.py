"""One HTTP session to the control plane: bounded in time and size, without redirects, proxies, cookies or coding.

Every call ends in an Answer of status 2xx, or in a ControlError. What the control plane answers with is not believed
before somebody has read it strictly (members.py).
"""

import asyncio
import contextlib
import json
import re
import ssl
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Final, NamedTuple, Protocol

import aiohttp

from control_client.errors import ANSWER_TOO_LARGE, TIMEOUT, UNAUTHORIZED, UNREACHABLE, ControlError, unexpected

# One OAuth refresh behind a resolution; everything else answers in milliseconds.
REQUEST_SECONDS: Final = 10.0
CONNECT_SECONDS: Final = 5.0
# At most so many requests at once: a gateway that comes back with 10,000 sandboxes must not open as many sockets.
MAX_LINKS: Final = 32
# Problem documents are a few hundred bytes; with every issue of a plan a little more.
MAX_PROBLEM_BYTES: Final = 64 * 1024
# Longer pauses than this are the operator's decision, not a header's.
MAX_RETRY_AFTER_SECONDS: Final = 3600
# What the metric calls each kind of request.
OPERATIONS: Final = ("watch", "plan", "credential", "keys", "lease", "tokens", "authority")

_WORD: Final = re.compile(r"[a-z][a-z0-9_.]{0,63}")


class Answer(NamedTuple):
    """A good answer, whole. With status 304 the body that the ETag names is good still, and is not sent again."""

    status: int
    body: bytes
    etag: str | None
    headers: Mapping[str, str] = {}


class Problem(NamedTuple):
    """What a part says is wrong: its code, and its words where they may be shown."""

    code: str
    words: str = ""


def read_problem(content: bytes) -> Problem | None:
    """Read the code of a problem document (RFC 9457); its words stay unread."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return None
    code = document.get("code") if isinstance(document, dict) else None
    return Problem(code) if isinstance(code, str) and _WORD.fullmatch(code) else None


class Bearer(Protocol):
    """What a session shows: a service token, or the key of a tier."""

    @property
    def ends_at(self) -> float | None:
        """When it ends, in unix seconds, where it says so."""

    @property
    def advice(self) -> str:
        """What the operator does where it is not accepted."""

    async def current(self, *, again: bool = False) -> str:
        """Return it, read anew where `again` is said; raises ControlError."""


class ControlSession:
    """Speak to one control plane. Made on a running loop; closed by close()."""

    def __init__(
        self,
        url: str,
        token: Bearer,
        *,
        trust: ssl.SSLContext | None = None,
        count: Callable[[str, str], None] = lambda operation, result: None,
        request_seconds: float = REQUEST_SECONDS,
        problem: Callable[[bytes], Problem | None] = read_problem,
    ) -> None:
        """count(operation, result) hears of each request that ended: `ok`, `temporary` or `permanent`.

        problem reads the body of a refusal; None: it is not of the part that was asked.
        """
        self._url = url.rstrip("/")
        self._token = token
        self._count = count
        self._request_seconds = request_seconds
        self._problem = problem
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=True if trust is None else trust, limit=MAX_LINKS),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,  # and none is asked for: a small answer stays a small answer
            headers={"Accept-Encoding": "identity"},
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
        )

    async def ask(
        self,
        operation: str,
        method: str,
        path: str,
        *,
        most_bytes: int,
        document: Mapping[str, object] | None = None,
        is_public: bool = False,
        etag: str | None = None,
    ) -> Answer:
        """Send one request and return its 2xx answer; raises ControlError. After a 401 the token is read anew, once.

        With an etag the answer may be a 304 instead.
        """
        body = None if document is None else json.dumps(document).encode("utf-8")
        headers = {} if etag is None else {"If-None-Match": etag}
        with self._counted(operation):
            try:
                async with asyncio.timeout(self._request_seconds):
                    async with self._open(method, path, headers=headers, body=body, is_public=is_public) as response:
                        content = await _read(response, most_bytes)
                        return Answer(response.status, content, response.headers.get("ETag"), response.headers)
            except TimeoutError:
                detail = f"{method} {path}: no answer within {self._request_seconds:g} s"
                raise ControlError(TIMEOUT, temporary=True, detail=detail, retry_after_seconds=1) from None

    @contextlib.asynccontextmanager
    async def stream(
        self, operation: str, path: str, headers: Mapping[str, str], *, open_seconds: float
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Open an answer without an end; raises ControlError, also for what goes wrong while it is read."""
        with self._counted(operation):
            async with contextlib.AsyncExitStack() as opened:
                try:
                    async with asyncio.timeout(open_seconds):
                        response = await opened.enter_async_context(self._open("GET", path, headers=headers))
                except TimeoutError:
                    raise ControlError(TIMEOUT, temporary=True, detail=f"GET {path}: no answer") from None
                yield response

    @property
    def token_ends_at(self) -> float | None:
        """When the service token in use ends, in unix seconds; None while none was read, and where it does not say."""
        return self._token.ends_at

    async def close(self) -> None:
        """Close every link."""
        await self._http.close()

    @contextlib.asynccontextmanager
    async def _open(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        is_public: bool = False,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        fields = dict(headers or {})
        if body is not None:
            fields["Content-Type"] = "application/json"
        refused: str | None = None
        while True:
            token = "" if is_public else await self._token.current(again=refused is not None)
            if token == refused:
                advice = self._token.advice
                raise ControlError(UNAUTHORIZED, temporary=True, status=401, detail=advice, retry_after_seconds=5)
            if token:
                fields["Authorization"] = f"Bearer {token}"
            with _mapped(method, path):
                async with self._http.request(
                    method, self._url + path, data=body, headers=fields, allow_redirects=False
                ) as response:
                    if response.status == 401 and not is_public and refused is None:
                        refused = token  # the file may hold another by now
                        continue
                    if response.status != 304 or "If-None-Match" not in fields:
                        await _check(response, method, path, self._problem)
                    yield response
                    return

    @contextlib.contextmanager
    def _counted(self, operation: str) -> Iterator[None]:
        try:
            yield
        except ControlError as error:
            self._count(operation, "temporary" if error.temporary else "permanent")
            raise
        self._count(operation, "ok")

    def __repr__(self) -> str:
        return f"<ControlSession {self._url}>"


@contextlib.contextmanager
def _mapped(method: str, path: str) -> Iterator[None]:
    """Turn what the client library raises into a ControlError; its texts may quote the answer, and are not repeated."""
    try:
        yield
    except (aiohttp.ClientError, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
        detail = f"{method} {path}: {reason}"
        raise ControlError(UNREACHABLE, temporary=True, detail=detail, retry_after_seconds=1) from None


async def _check(
    response: aiohttp.ClientResponse, method: str, path: str, read: Callable[[bytes], Problem | None]
) -> None:
    """Raise ControlError for anything but a 2xx in its plain form."""
    status = response.status
    if "Content-Encoding" in response.headers:
        raise unexpected(f"{method} {path}: a coded answer, which was not asked for", status=status)
    if 200 <= status < 300:
        return
    if status < 400:
        raise unexpected(f"{method} {path}: {status}, and redirects are not followed", status=status)
    problem = read(await _read(response, MAX_PROBLEM_BYTES))
    retry_after = _retry_after(response.headers.get("Retry-After"))
    detail = f"{method} {path}: {status}"
    if problem is None:
        # Not our control plane's words: a load balancer's, say. It says nothing of what was asked.
        raise ControlError(
            unexpected("").code, temporary=True, detail=detail, retry_after_seconds=retry_after or 1, status=status
        )
    temporary = status >= 500 or status in (401, 408, 425, 429)
    raise ControlError(
        problem.code,
        temporary=temporary,
        detail=detail,
        retry_after_seconds=retry_after,
        status=status,
        words=problem.words,
    )


async def _read(response: aiohttp.ClientResponse, most_bytes: int) -> bytes:
    content = bytearray()
    async for chunk in response.content.iter_any():
        content += chunk
        if len(content) > most_bytes:
            raise ControlError(ANSWER_TOO_LARGE, temporary=True, detail=f"more than {most_bytes} bytes")
    return bytes(content)


def _retry_after(value: str | None) -> int:
    """Read the delay of a Retry-After; its other form, a date, is for caches."""
    if value is None or re.fullmatch("[0-9]{1,9}", value) is None:
        return 0
    return min(int(value), MAX_RETRY_AFTER_SECONDS)
