"""`/api/integrations/client`: what a client may use, by its key alone (contracts section 6)."""

import hashlib
from typing import Annotated, Final

import orjson
import structlog
from fastapi import APIRouter, Depends, Query, Request, Response

from control_plane.api.caller import identify_client
from control_plane.api.parts import PartsOf
from control_plane.callers import CLIENT_FEED
from control_plane.feed.keeping import config_of
from control_plane.feed.keys import KeyHolder
from control_plane.refusals import ControlCode, FieldIssue, Refused

router = APIRouter()

# What a client reads beside the body (control_client/feed.py).
REVISION: Final = "X-Sallyport-Revision"
STALE: Final = "X-Sallyport-Stale"
_ETAG_DIGITS: Final = 32

_log = structlog.get_logger(__name__)


@router.get(CLIENT_FEED)
async def get_client_feed(
    request: Request,
    holder: Annotated[KeyHolder, Depends(identify_client)],
    parts: PartsOf,
    instance_id: Annotated[str | None, Query(alias="instanceId", max_length=256)] = None,
    user_id: Annotated[str | None, Query(alias="userId", max_length=256)] = None,
) -> Response:
    """Return the MCP servers of an instance that a key sees, with those that one user has installed."""
    if instance_id is None:
        issue = FieldIssue("missing_field", "instanceId", "name the instance of the key")
        raise Refused(ControlCode.INVALID_REQUEST, "faulty parameters", issues=[issue])
    if instance_id != holder.instance_id:
        # Whether there is one of that name is nothing for the holder of another one's key.
        raise Refused(ControlCode.FORBIDDEN, "this key is for another instance")
    served = await parts.feed.served(instance_id)
    seen = {each.name: config_of(each.url) for each in served.entries if each.is_seen_by(holder.tier, user_id)}
    # Sorted, and of nothing but what is seen: equal sets have equal tags, and no tag tells of what is not seen.
    body = orjson.dumps({"mcpServers": seen}, option=orjson.OPT_SORT_KEYS)
    etag = f'"{hashlib.sha256(body).hexdigest()[:_ETAG_DIGITS]}"'
    headers = {"ETag": etag, "Vary": "Authorization, X-API-Key", "Cache-Control": "private"}
    headers |= {REVISION: str(served.revision)} | ({STALE: "true"} if served.is_stale else {})
    if etag in [each.strip() for each in request.headers.get("If-None-Match", "").split(",")]:
        return Response(status_code=304, headers=headers)
    return Response(body, media_type="application/json", headers=headers)
