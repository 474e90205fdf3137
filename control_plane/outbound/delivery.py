"""One attempt to tell a subscriber: a POST, with what shows who says it. Only 2xx is yes."""

from collections.abc import Mapping
from typing import Final, NamedTuple

import aiohttp

from control_plane.outbound.checked_session import CheckedSession, Unanswered, retry_after_seconds

GONE: Final = 410
# What a subscriber may ask for at most; who paces the attempts may allow less.
MOST_ASKED_SECONDS: Final = 3_600


class Message(NamedTuple):
    """What a subscriber is told; the same in every attempt but for `headers`, which are of the moment."""

    url: str
    body: bytes
    headers: Mapping[str, str]


class Outcome(NamedTuple):
    """What came of an attempt: a status, or why there was none; and the pause the subscriber wants."""

    status: int | None
    error: str | None = None
    retry_after: int = 0

    @property
    def is_delivered(self) -> bool:
        """Whether the subscriber has it."""
        return self.status is not None and 200 <= self.status < 300

    @property
    def is_gone(self) -> bool:
        """Whether the subscriber wants nothing any more."""
        return self.status == GONE


async def attempt(session: CheckedSession, message: Message, seconds: float) -> Outcome:
    """Tell a subscriber once. Nothing of an answer but its status is kept."""
    headers = {"Content-Type": "application/json", **message.headers}
    try:
        return await session.ask("POST", message.url, message.body, headers, seconds, _outcome)
    except Unanswered as error:
        return Outcome(None, f"the subscriber {error.reason}")


async def _outcome(response: aiohttp.ClientResponse) -> Outcome:
    """Read the head alone: a body may be endless."""
    status = response.status
    if 200 <= status < 300:
        return Outcome(status)
    asked = retry_after_seconds(response.headers.get("Retry-After", ""), MOST_ASKED_SECONDS)
    redirect = ", and redirects are not followed" if 300 <= status < 400 else ""
    return Outcome(status, f"the subscriber answered {status}{redirect}", asked)
