"""Request bodies of the admin listener: bounded in size and time, orders read strictly."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Final

from aiohttp import web

from gateway.admin.refusals import Refused
from sallyport.json_object import unique_members
from sallyport.problem import Code

# The objects of the watch stream are a line long.
MAX_ORDER_BYTES: Final = 16 * 1024
# A body comes over loopback; whoever takes longer has stopped sending.
BODY_SECONDS: Final = 10.0


async def read_body(request: web.Request, limit: int) -> bytes:
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.content.iter_any():
                body += chunk
                if len(body) > limit:
                    raise Refused(Code.BODY_TOO_LARGE, f"the body is larger than {limit} bytes")
    except TimeoutError:
        raise Refused(Code.REQUEST_TIMEOUT, f"the body did not arrive within {BODY_SECONDS:g} s") from None
    return bytes(body)


async def read_order(request: web.Request, known: set[str]) -> Mapping[str, object]:
    """Read a small JSON object strictly: no unknown member, none twice. An empty body is an empty object."""
    body = await read_body(request, MAX_ORDER_BYTES)
    try:
        order = json.loads(body, object_pairs_hook=unique_members) if body.strip() else {}
    except (ValueError, RecursionError):
        raise Refused(Code.INVALID_REQUEST, "the body is not a JSON object with each member once") from None
    if not isinstance(order, dict):
        raise Refused(Code.INVALID_REQUEST, "the body is not a JSON object")
    unknown = sorted(order.keys() - known)
    if unknown:
        pointers = ", ".join(f"/{name}" for name in unknown)
        raise Refused(Code.INVALID_REQUEST, f"unknown: {pointers}; known: {', '.join(sorted(known)) or 'nothing'}")
    return order


def word(order: Mapping[str, object], name: str, words: Sequence[str] = ()) -> str:
    value = order.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= 256 or not value.isprintable():
        raise Refused(Code.INVALID_REQUEST, f"/{name}: write a text")
    if words and value not in words:
        raise Refused(Code.INVALID_REQUEST, f"/{name}: write one of {', '.join(words)}")
    return value
