"""The stream of recorded exchanges: what it says, who may have it, and that it ends whatever happens to its reader."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway import recorder
from gateway.admin import flows
from tests.support.raw_end import WAIT_SECONDS, RawEnd
from tests.support.stage import OK, SECRET, URL, Stage, stage
from tests.support.until import until


@contextlib.asynccontextmanager
async def recorded(scene: Stage, query: str = "") -> AsyncIterator[aiohttp.ClientResponse]:
    """Record until the block ends."""
    address = f"http://127.0.0.1:{scene.gateway.gateway.admin_port}/v1/flows{query}"
    async with aiohttp.ClientSession() as session, session.get(address) as answer:
        yield answer


async def next_line(answer: aiohttp.ClientResponse) -> dict[str, Any]:
    async with asyncio.timeout(WAIT_SECONDS):
        line = await answer.content.readline()
    assert SECRET.encode() not in line
    found: dict[str, Any] = json.loads(line)
    return found


async def exchange(scene: Stage) -> None:
    client, link, _ = await scene.ask(scene.gateway.request(URL, b"Connection: close"))
    link.send(OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    assert (await client.answer()).status == 200


async def test_exchanges_come_as_they_end(tmp_path: Path) -> None:
    async with stage(tmp_path) as scene, recorded(scene, "?maxBody=1") as answer:
        assert (answer.status, answer.content_type) == (200, "application/x-ndjson")
        assert await next_line(answer) == {"kind": "recording", "formatVersion": 1, "maxBodyBytes": 1}
        await exchange(scene)
        shown = await next_line(answer)
        assert (shown["kind"], shown["number"], shown["outcome"]) == ("exchange", 1, "injected")
        assert shown["answerBody"] == {"sizeBytes": 2, "text": "o", "truncated": True}


async def test_a_recording_of_one_sandbox_says_so(tmp_path: Path) -> None:
    async with stage(tmp_path) as scene, recorded(scene, "?sandbox=sbx_other&durationMs=300") as answer:
        assert (await next_line(answer))["sandboxId"] == "sbx_other"
        await exchange(scene)
        assert await next_line(answer) == {"kind": "end", "recorded": 0, "dropped": 0}
        assert await answer.content.read() == b""
        assert scene.gateway.parts.recorder.capture is None


@pytest.mark.parametrize(
    "query",
    [
        "?maxBody=-1",
        "?maxBody=1048577",
        "?maxBody=x",
        "?durationMs=1e3",
        "?sandbox=",
        "?what=1",
        "?maxBody=1&maxBody=2",
    ],
)
async def test_a_query_is_read_strictly(tmp_path: Path, query: str) -> None:
    async with stage(tmp_path) as scene, recorded(scene, query) as answer:
        assert (answer.status, answer.content_type) == (400, "application/problem+json")
        assert scene.gateway.parts.recorder.recording is None


async def test_a_second_recorder_is_refused_until_the_first_is_gone(tmp_path: Path) -> None:
    async with stage(tmp_path) as scene:
        async with recorded(scene) as first:
            await next_line(first)
            async with recorded(scene) as second:
                assert second.status == 409
                assert (await second.json())["code"] == "recorder_busy"
        await until(lambda: scene.gateway.parts.recorder.recording is None)
        async with recorded(scene) as third:
            assert third.status == 200


async def test_web_pages_get_nothing(tmp_path: Path) -> None:
    async with stage(tmp_path) as scene, aiohttp.ClientSession() as session:
        address = f"http://127.0.0.1:{scene.gateway.gateway.admin_port}/v1/flows"
        async with session.get(address, headers={"Origin": "http://example.com"}) as answer:
            assert answer.status == 403


async def test_drops_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "MAX_WAITING", 0)
    async with stage(tmp_path) as scene, recorded(scene) as answer:
        await next_line(answer)
        await exchange(scene)
        assert await next_line(answer) == {"kind": "dropped", "dropped": 1}


async def test_silence_is_broken_by_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flows, "ALIVE_SECONDS", 0.1)
    async with stage(tmp_path) as scene, recorded(scene) as answer:
        await next_line(answer)
        assert await next_line(answer) == {"kind": "alive", "recorded": 0, "dropped": 0}


async def test_a_recorder_that_reads_nothing_delays_nobody_and_is_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "MAX_WAITING", 4)
    monkeypatch.setattr(flows, "WRITE_SECONDS", 0.3)
    async with stage(tmp_path) as scene:
        reader = await RawEnd.dial(scene.gateway.gateway.admin_port)
        reader.pause()
        reader.send(b"GET /v1/flows HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await until(lambda: scene.gateway.parts.recorder.recording is not None)
        recording = scene.gateway.parts.recorder.recording
        assert recording is not None
        # A body that fills every buffer between the two.
        big = b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\nConnection: close\r\n\r\n" + b"x" * 60000
        carried = 0
        while not recording.has_ended:
            client, link, _ = await scene.ask(scene.gateway.request(URL, b"Connection: close"))
            link.send(big)
            assert (await client.answer()).status == 200
            carried += 1
            assert carried < 2000
        await until(lambda: scene.gateway.parts.recorder.held_bytes == 0)
        assert recording.dropped > 0
        reader.abort()


async def test_the_end_of_the_gateway_ends_the_recording(tmp_path: Path) -> None:
    async with stage(tmp_path) as scene, recorded(scene) as answer:
        await next_line(answer)
        await exchange(scene)
        async with asyncio.timeout(5):
            await scene.gateway.gateway.close()
        assert (await next_line(answer))["kind"] == "exchange"
        assert await next_line(answer) == {"kind": "end", "recorded": 1, "dropped": 0}
