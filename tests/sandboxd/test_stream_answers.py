"""How streams of the gateway begin, and their refusals as it reads them."""

import asyncio
import json

from sallyport.net.memory import memory_pair
from sallyport.problem import Code
from sallyport.wire.http1.codec import parse_response
from sandboxd.stream_answers import MAX_LOCAL_STREAMS, StreamRefused, begin_stream, not_found, problem
from tests.support.transports import End
from tests.support.until import until


def test_both_are_problem_documents() -> None:
    for answer, status, code in (
        (problem(Code.OVERLOADED, "too many"), 503, "overloaded"),
        (not_found("nothing"), 404, "not_found"),
    ):
        head, _, body = answer.partition(b"\r\n\r\n")
        assert parse_response(head).status == status
        assert json.loads(body)["code"] == code


async def test_one_that_is_served_is_one_of_those_that_are_open() -> None:
    gateway, stream = _stream()
    serves, streams = asyncio.Protocol(), set[asyncio.Transport]()
    assert begin_stream(stream, streams, lambda: serves) is serves
    assert streams == {stream}
    assert gateway.received == b""


async def test_one_that_is_refused_hears_why_and_ends() -> None:
    def refuse() -> asyncio.Protocol:
        raise StreamRefused(not_found("no such thing"))

    gateway, stream = _stream()
    streams = set[asyncio.Transport]()
    begin_stream(stream, streams, refuse)
    assert streams == set()
    await until(lambda: "eof" in gateway.events)
    assert gateway.received == not_found("no such thing")


async def test_one_too_many_is_not_looked_at() -> None:
    asked: list[str] = []

    def serve() -> asyncio.Protocol:
        asked.append("served")
        return asyncio.Protocol()

    streams = {_stream()[1] for _ in range(MAX_LOCAL_STREAMS)}
    gateway, stream = _stream()
    begin_stream(stream, streams, serve)
    await until(lambda: "eof" in gateway.events)
    assert b'"overloaded"' in gateway.received
    assert (asked, len(streams)) == ([], MAX_LOCAL_STREAMS)


def _stream() -> tuple[End, asyncio.Transport]:
    end = End()
    _, stream = memory_pair(asyncio.get_running_loop(), end, asyncio.Protocol())
    return end, stream
