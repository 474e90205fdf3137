"""What the origins received, and whether the exact credential was on it; never the credential itself."""

import hmac
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum

from aiohttp import web

# Every header in which some API takes a credential; a second one on a request rode along from the client.
CREDENTIAL_HEADERS = ("Authorization", "X-Api-Key", "Api-Key", "Private-Token", "Cookie", "Proxy-Authorization")


class Presence(Enum):
    """How the expected credential of a host arrived."""

    EXACT = "exact"
    WRONG = "wrong"
    ABSENT = "absent"
    NOT_EXPECTED = "not expected"


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """The one header value an API accepts. Its repr names the header only."""

    header: str
    value: str

    def __repr__(self) -> str:
        return f"<Expected {self.header}>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """One request as an origin saw it: enough to prove the injection, nothing that could leak it."""

    host: str
    method: str
    path: str  # without the query, which may carry a credential
    header: str | None  # the name of the header that was to carry the credential
    presence: Presence
    foreign_headers: tuple[str, ...]  # other credential headers on the same request
    body_bytes_announced: int | None

    def __str__(self) -> str:
        return f"{self.method} {self.host}{self.path}"


type Refusal = Callable[[web.Request, Presence], web.Response]
type Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Ledger:
    """The record all origins of one run share, in order of arrival."""

    def __init__(self) -> None:
        self.received: list[Received] = []

    def since(self, mark: int) -> list[Received]:
        """Return what arrived after `len(ledger.received)` was `mark`."""
        return self.received[mark:]

    def note(self, request: web.Request, expected: Expected | None) -> Presence:
        """Record one request and say how its credential arrived."""
        presence = Presence.NOT_EXPECTED if expected is None else _presence(request, expected)
        header = expected.header if expected is not None else None
        foreign = tuple(
            name for name in CREDENTIAL_HEADERS if name in request.headers and name.lower() != (header or "").lower()
        )
        self.received.append(
            Received(
                host=request.host,
                method=request.method,
                path=request.path,
                header=header,
                presence=presence,
                foreign_headers=foreign,
                body_bytes_announced=request.content_length,
            )
        )
        return presence


def guarded_application(ledger: Ledger, expected: Expected | None, refuse: Refusal) -> web.Application:
    """Return an application that records every request and answers 401 by `refuse` without the exact credential."""

    @web.middleware
    async def guard(request: web.Request, handler: Answer) -> web.StreamResponse:
        presence = ledger.note(request, expected)
        if presence in (Presence.WRONG, Presence.ABSENT):
            return refuse(request, presence)
        return await handler(request)

    return web.Application(middlewares=[guard])


def _presence(request: web.Request, expected: Expected) -> Presence:
    values = request.headers.getall(expected.header, [])
    if not values:
        return Presence.ABSENT
    exact = len(values) == 1 and hmac.compare_digest(values[0].encode(), expected.value.encode())
    return Presence.EXACT if exact else Presence.WRONG
