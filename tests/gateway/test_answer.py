"""Answers on their way down, against an origin whose every byte is chosen: framing, interim answers, scrubbing, limits."""

import asyncio
from base64 import b64encode
from pathlib import Path

import pytest

from tests.support.raw_end import RawAnswer, RawEnd
from tests.support.stage import OK, OPEN_URL, SECRET, URL, Stage, one_route, stage

pytestmark = pytest.mark.uvloop

NEXT = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnext"


async def answer_to(scene: Stage, answer: bytes, *, method: str = "GET", ends: bool = False) -> tuple[RawAnswer, RawEnd]:
    """Carry one exchange whose answer is these bytes; return what the sandbox got, and its stream."""
    client, link, _ = await scene.ask(scene.gateway.request(URL, method=method))
    link.send(answer)
    if ends:
        link.close()
    return await client.answer(method), client


async def is_pooled(scene: Stage, client: RawEnd, method: str = "GET") -> bool:
    """Send another request on the stream; say whether it went out on the same link, and require its own answer."""
    links = len(scene.origin.ends)
    client.send(scene.gateway.request(URL, method=method))
    first = scene.origin.ends[-1]
    heads = [asyncio.ensure_future(first.head()), asyncio.ensure_future(scene.origin.link())]  # noqa: TID251  a race
    done, waiting = await asyncio.wait(heads, return_when=asyncio.FIRST_COMPLETED)
    for task in waiting:
        task.cancel()
    for task in done:
        task.exception()
    same = len(scene.origin.ends) == links
    if not same:
        await scene.origin.ends[-1].head()
    scene.origin.ends[-1].send(NEXT)
    assert (await client.answer(method)).body == b"next"
    return same
