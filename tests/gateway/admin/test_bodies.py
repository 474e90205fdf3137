"""Bodies of the admin listener: bounded, and orders read strictly."""

import asyncio
import io
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from gateway.admin import bodies
from gateway.admin.bodies import read_body, read_order, word
from gateway.admin.refusals import answer_refusals

type Client = TestClient[web.Request, web.Application]


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async def order(request: web.Request) -> web.Response:
        return web.json_response(word(await read_order(request, {"kind", "id"}), "kind", ("a", "b")))

    async def body(request: web.Request) -> web.Response:
        return web.Response(body=await read_body(request, 100))

    app = web.Application(middlewares=[answer_refusals])
    app.add_routes([web.post("/order", order), web.post("/body", body)])
    async with TestClient(TestServer(app)) as client:
        yield client


async def test_a_body_up_to_its_limit(client: Client) -> None:
    assert await (await client.post("/body", data=b"x" * 100)).read() == b"x" * 100
    assert (await client.post("/body", data=b"x" * 101)).status == 413


async def test_a_body_has_its_time(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "BODY_SECONDS", 0.0)

    never = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"x"
        await never.wait()

    answer = await client.post("/body", data=slow())
    assert answer.status == 408


@pytest.mark.parametrize(
    ("order", "status"),
    [
        (b'{"kind": "a"}', 200),
        (b'{"kind": "a", "id": 1}', 200),
        (b"", 400),
        (b"{}", 400),
        (b"[]", 400),
        (b'{"kind": "c"}', 400),
        (b'{"kind": ["a"]}', 400),
        (b'{"kind": "a", "kind": "b"}', 400),
        (b'{"kind": "a", "more": 1}', 400),
        (b"[" * 10_000, 400),
        (b" " * (bodies.MAX_ORDER_BYTES + 1), 413),
    ],
)
async def test_orders_are_read_strictly(client: Client, order: bytes, status: int) -> None:
    assert (await client.post("/order", data=io.BytesIO(order))).status == status
