"""A document arrives whole or not at all; over a whole stream it is in test_local_streams.py."""

import asyncio

import pytest

from sallyport.net.memory import memory_pair
from sallyport.setup import setup_digest
from sandboxd.document_stream import DocumentStream
from sandboxd.setup.announcement import Announcement
from sandboxd.stream_answers import StreamRefused
from tests.support.transports import End
from tests.support.until import until

BODY = b'{"a":1}'


class Taker:
    def __init__(self) -> None:
        self.taken: list[tuple[int, bytes]] = []
        self.ended = 0

    def announced(self, revision: int) -> Announcement | None:
        known = Announcement(revision=7, digest=setup_digest(BODY), size_bytes=len(BODY))
        return known if revision == 7 else None

    def document_received(self, revision: int, body: bytes) -> None:
        self.taken.append((revision, body))

    def end(self) -> None:
        self.ended += 1


def stream(taker: Taker, revision: str = "7") -> End:
    end = End()
    _, inside = memory_pair(asyncio.get_running_loop(), end, asyncio.Protocol())
    inside.set_protocol(DocumentStream(inside, taker, revision, taker.end))
    return end


async def test_a_document_in_pieces() -> None:
    taker = Taker()
    end = stream(taker)
    for byte in BODY:
        end.transport.write(bytes([byte]))
        await asyncio.sleep(0)
    assert taker.taken == []
    end.transport.write_eof()
    await until(lambda: taker.ended == 1)
    assert taker.taken == [(7, BODY)]
    assert end.received.startswith(b"HTTP/1.1 200 ")


async def test_more_than_was_announced() -> None:
    taker = Taker()
    end = stream(taker)
    end.transport.write(BODY + b" ")
    await end.until_event("lost")
    await until(lambda: taker.ended == 1)
    assert taker.taken == []


@pytest.mark.parametrize("revision", ["8", "x", "", "-7", "٧", "7" * 17])
async def test_what_was_not_announced(revision: str) -> None:
    with pytest.raises(StreamRefused) as refused:
        stream(Taker(), revision)
    assert refused.value.answer.startswith(b"HTTP/1.1 404 ")
