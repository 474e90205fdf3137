"""An answer passed on to the caller of the admin listener: whole or visibly cut. Upgrades are in test_relays.py."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from gateway.admin.pass_on import pass_on_answer
from sallyport.wire.http1.codec import parse_response
from sallyport.wire.http1.scan import HEAD_END

type Client = TestClient[web.Request, web.Application]


class Given:
    """A stream whose bytes a test has given."""

    def __init__(self, data: bytes) -> None:
        self.reader = asyncio.StreamReader()
        self.reader.feed_data(data)
        self.reader.feed_eof()

    writer: asyncio.StreamWriter

    def close(self) -> None:
        """Nothing to close."""


@contextlib.asynccontextmanager
async def passing_on(answer: bytes) -> AsyncIterator[Client]:
    head, _, body = answer.partition(HEAD_END)

    async def handle(request: web.Request) -> web.StreamResponse:
        return await pass_on_answer(request, Given(body), parse_response(head))

    app = web.Application()
    app.router.add_get("/", handle)
    async with TestClient(TestServer(app)) as client:
        yield client


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 418 Odd\r\nX-One: 1\r\nContent-Length: 3\r\n\r\nabc",
        b"HTTP/1.1 418 Odd\r\nX-One: 1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n2\r\nbc\r\n0\r\n\r\n",
        b"HTTP/1.1 418 Odd\r\nX-One: 1\r\n\r\nabc",
    ],
)
async def test_a_whole_answer(answer: bytes) -> None:
    async with passing_on(answer) as client, client.get("/") as response:
        assert (response.status, response.reason, response.headers["X-One"]) == (418, "Odd", "1")
        assert await response.read() == b"abc"


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\nzz\r\n",
    ],
)
async def test_an_answer_that_is_cut_does_not_look_whole(answer: bytes) -> None:
    async with passing_on(answer) as client:
        with pytest.raises(aiohttp.ClientError):
            async with client.get("/") as response:
                await response.read()
