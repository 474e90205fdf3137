"""How a stream of the gateway begins: with what serves it from now on, or with a problem document and the end."""

import asyncio
import json
from collections.abc import Callable
from typing import Final

from sallyport.problem import Code, Problem
from sallyport.wire.http1.answers import plain_answer, problem_answer

# Streams of the gateway at once: sessions of people and agents with what runs here. A tunnel has 1,024 streams, most
# of them for the sandbox's own traffic, which these may not crowd out.
MAX_LOCAL_STREAMS: Final = 256


class StreamRefused(Exception):
    """A stream that is answered with a problem."""

    def __init__(self, answer: bytes) -> None:
        super().__init__()
        self.answer = answer


def begin_stream(
    stream: asyncio.Transport, streams: set[asyncio.Transport], serve: Callable[[], asyncio.Protocol]
) -> asyncio.Protocol:
    """Return what serves a stream, which then is one of the open streams; or answer what `serve` refuses it with.

    Whoever has the streams takes it from them when it has ended. A refused one is none of them.
    """
    try:
        if len(streams) >= MAX_LOCAL_STREAMS:
            raise StreamRefused(problem(Code.OVERLOADED, f"{MAX_LOCAL_STREAMS} streams are open already"))
        protocol = serve()
    except StreamRefused as refused:
        stream.write(refused.answer)
        stream.close()
        return asyncio.Protocol()
    streams.add(stream)
    return protocol


def problem(code: Code, detail: str) -> bytes:
    """Write a refusal by one of the codes of the data path."""
    return problem_answer(Problem(code=code, detail=detail), method="CONNECT", close=True)


def not_found(detail: str) -> bytes:
    """404 is no answer of the data path, so `Code` does not know it."""
    document = {
        "type": "urn:sallyport:error:not_found",
        "title": "There is nothing here",
        "status": 404,
        "code": "not_found",
        "detail": detail,
        "requestId": "",
        "retryable": False,
    }
    return plain_answer(404, "application/problem+json", json.dumps(document).encode("ascii"), close=True)
