"""The feed of servers as one tier sees it: asked with that tier's key, by links and a memory of its own."""

from typing import Final
from urllib.parse import urlencode

from control_client.errors import unexpected
from control_client.feed_documents import MAX_FEED_BYTES, read_feed
from control_client.feed_state import FeedAnswer, Known
from control_client.session import Answer, ControlSession

PATH: Final = "/api/integrations/client"
# Contracts section 6: the runtime could not be asked, and this is the last set that was verified.
STALE: Final = "X-Sallyport-Stale"
# The last push that is in the answer; a push of the same or a lower seq is in it too.
REVISION: Final = "X-Sallyport-Revision"


async def fetch_feed(session: ControlSession, known: Known, *, instance_id: str, user_id: str | None) -> FeedAnswer:
    """Ask for the servers; raises ControlError. What is known already is not sent again."""
    query = {"instanceId": instance_id} | ({} if user_id is None else {"userId": user_id})
    path = f"{PATH}?{urlencode(query)}"
    answer = await session.ask("feed", "GET", path, most_bytes=MAX_FEED_BYTES, etag=known.etag)
    is_unchanged = answer.status == 304
    servers = known.servers if is_unchanged else read_feed(answer.body)
    etag = known.etag if is_unchanged else answer.etag
    return FeedAnswer(servers, _revision(answer), etag, answer.headers.get(STALE) == "true")


def _revision(answer: Answer) -> int | None:
    text = answer.headers.get(REVISION)
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) <= 16):
        raise unexpected(f"{REVISION} is not a whole number")
    return int(text)
