"""One attempt to tell a subscriber: a POST, signed as Standard Webhooks has it. Only 2xx is yes."""

from typing import Final, NamedTuple

import aiohttp

from control_plane.outbound.checked_session import CheckedSession, Unanswered, retry_after_seconds
from control_plane.webhooks.retry import LONGEST_SECONDS
from control_plane.webhooks.signing import signed_headers
from sallyport.secret import Secret

GONE: Final = 410


class Message(NamedTuple):
    """What a subscriber is told; `id` is the event's, the same in every attempt."""

    id: str
    url: str
    body: bytes


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


async def attempt(session: CheckedSession, message: Message, secret: Secret, now: float, seconds: float) -> Outcome:
    """Tell a subscriber once. Nothing of an answer but its status is kept."""
    headers = {"Content-Type": "application/json", **signed_headers(secret, message.id, now, message.body)}
    try:
        return await session.ask("POST", message.url, message.body, headers, seconds, _outcome)
    except Unanswered as error:
        return Outcome(None, f"the subscriber {error.reason}")


async def _outcome(response: aiohttp.ClientResponse) -> Outcome:
    """Read the head alone: a body may be endless."""
    status = response.status
    if 200 <= status < 300:
        return Outcome(status)
    asked = retry_after_seconds(response.headers.get("Retry-After", ""), LONGEST_SECONDS)
    redirect = ", and redirects are not followed" if 300 <= status < 400 else ""
    return Outcome(status, f"the subscriber answered {status}{redirect}", asked)
