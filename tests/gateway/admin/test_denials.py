"""`/v1/denials`: a list that goes on where it was left, and the same as events."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.admin import denials
from tests.support.gateway_plans import SANDBOX
from tests.support.raw_end import WAIT_SECONDS
from tests.support.stage import HOST, Stage, stage

pytestmark = pytest.mark.uvloop


@contextlib.asynccontextmanager
async def asked(scene: Stage, query: str = "", **headers: str) -> AsyncIterator[aiohttp.ClientResponse]:
    address = f"http://127.0.0.1:{scene.gateway.gateway.admin_port}/v1/denials{query}"
    async with aiohttp.ClientSession() as session, session.get(address, headers=headers) as answer:
        yield answer


async def listed(scene: Stage, query: str = "") -> dict[str, Any]:
    async with asked(scene, query) as answer:
        assert (answer.status, answer.content_type) == (200, "application/json")
        assert answer.headers["Cache-Control"] == "no-store"
        found: dict[str, Any] = await answer.json()
        return found


async def deny(scene: Stage, path: str) -> None:
    client = await scene.gateway.client()
    client.send(scene.gateway.request(f"http://{HOST}{path}", method="TRACE"))
    assert (await client.answer("TRACE")).status == 405


async def next_event(answer: aiohttp.ClientResponse) -> dict[str, str]:
    """Return the fields of one event, or of a comment."""
    fields = {}
    async with asyncio.timeout(WAIT_SECONDS):
        while line := (await answer.content.readline()).decode().rstrip("\n"):
            name, _, value = line.partition(": ")
            fields[name] = value
    return fields


def follow(scene: Stage, query: str = "", **headers: str) -> contextlib.AbstractAsyncContextManager[Any]:
    return asked(scene, query, Accept="text/event-stream", **headers)


async def test_a_list_goes_on_where_it_was_left(tmp_path: Path) -> None:
    async with stage(tmp_path) as scene:
        assert (await listed(scene))["items"] == []
        await deny(scene, "/one")
        await deny(scene, "/two")
        first = await listed(scene, f"?sandboxId={SANDBOX}&limit=1")
        assert [each["path"] for each in first["items"]] == ["/two"]
        await deny(scene, "/three")
        then = await listed(scene, f"?sandboxId={SANDBOX}&after={first['next']}")
        assert [each["path"] for each in then["items"]] == ["/three"]
        assert (await listed(scene, "?sandboxId=sbx_other"))["items"] == []
        assert len((await listed(scene))["items"]) == 3


async def test_events_come_as_they_happen_and_are_taken_up_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(denials, "LOOK_SECONDS", 0.01)
    async with stage(tmp_path) as scene:
        await deny(scene, "/before")
        async with follow(scene, f"?sandboxId={SANDBOX}") as answer:
            assert answer.content_type == "text/event-stream"
            event = await next_event(answer)
            assert (event["event"], json.loads(event["data"])["path"]) == ("denial", "/before")
            await deny(scene, "/while")
            assert json.loads((await next_event(answer))["data"])["path"] == "/while"
        async with follow(scene, **{"Last-Event-ID": event["id"]}) as answer:
            assert json.loads((await next_event(answer))["data"])["path"] == "/while"


async def test_a_quiet_stream_shows_that_it_lives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(denials, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(denials, "ALIVE_SECONDS", 0.03)
    async with stage(tmp_path) as scene, follow(scene) as answer:
        for _ in range(3):
            assert await next_event(answer) == {"": "alive"}


async def test_followers_are_few_and_end_with_the_gateway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(denials, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(denials, "ALIVE_SECONDS", 0.03)
    monkeypatch.setattr(denials, "MAX_FOLLOWERS", 1)
    async with stage(tmp_path) as scene:
        async with follow(scene) as answer:
            await next_event(answer)
            async with follow(scene) as second:
                assert (second.status, (await second.json(content_type=None))["code"]) == (503, "overloaded")
        async with asyncio.timeout(5):
            while True:  # whoever has gone is noticed when something is written
                async with follow(scene) as answer:
                    if answer.status == 200:
                        scene.gateway.parts.denials.close()
                        await answer.read()
                        break
                await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    "query",
    [
        "?what=1",
        "?sandboxId=",
        "?after=1",
        "?after=zzzzzzzz-1",
        "?limit=0",
        "?limit=1001",
        "?limit=x",
        "?limit=1&limit=2",
    ],
)
async def test_a_query_is_read_strictly(tmp_path: Path, query: str) -> None:
    async with stage(tmp_path) as scene, asked(scene, query) as answer:
        assert (answer.status, answer.content_type) == (400, "application/problem+json")
