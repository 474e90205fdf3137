"""The tap: nothing while nobody records; what passes is noted, bounded, and what is lost is counted."""

import json
from pathlib import Path
from typing import Any

import pytest

from gateway import recorder
from gateway.recorder import Recorder, RecorderBusy, Recording
from tests.support.gateway_plans import SANDBOX
from tests.support.stage import OK, OPEN_URL, SECRET, URL, Stage, stage
from tests.support.until import until

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"


def exchanges(recording: Recording) -> list[dict[str, Any]]:
    """Take what waits, as it would be written."""
    lines = recording.lines(recording.take(10_000))
    assert SECRET.encode() not in lines
    return [json.loads(line) for line in lines.splitlines()]


def begin(scene: Stage, *, sandbox_id: str | None = None, max_body_bytes: int = 1000) -> Recording:
    return scene.gateway.parts.recorder.begin(sandbox_id=sandbox_id, max_body_bytes=max_body_bytes)


async def exchange(scene: Stage, url: str = URL, *, method: str = "GET", body: bytes = b"", answer: bytes = OK) -> int:
    """Carry one exchange on a stream and a link of its own; return its status."""
    lines = [b"Connection: close"] + ([b"Content-Length: %d" % len(body)] if body else [])
    client, link, _ = await scene.ask(scene.gateway.request(url, *lines, method=method, body=body))
    link.send(answer.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1))
    return (await client.answer(method)).status


async def test_nothing_is_noted_while_nobody_records(tmp_path: Path) -> None:
    async with stage(tmp_path) as scene:
        assert scene.gateway.parts.recorder.capture is None
        recording = begin(scene)
        recording.end()
        assert scene.gateway.parts.recorder.capture is None
        await exchange(scene)
        assert exchanges(recording) == []
        assert scene.gateway.parts.recorder.held_bytes == 0


async def test_an_exchange_is_recorded_as_it_passed(tmp_path: Path) -> None:
    async with stage(tmp_path) as scene:
        recording = begin(scene)
        assert await exchange(scene, method="POST", body=b"question", answer=CHUNKED) == 200
        await until(lambda: scene.gateway.parts.recorder.held_bytes > 0)
        (shown,) = exchanges(recording)
        record = scene.gateway.audit.entries[0]
        assert {name: shown[name] for name in ("requestId", "decision", "outcome", "status", "egressRuleId")} == {
            "requestId": record["requestId"],
            "decision": "inject",
            "outcome": "injected",
            "status": 200,
            "egressRuleId": "r",
        }
        assert shown["requestBody"] == {"sizeBytes": 8, "text": "question"}
        assert shown["answerBody"] == {"sizeBytes": 11, "text": "hello world"}
        assert ["Authorization", "Bearer REDACTED"] in shown["sent"]["fields"]
        assert 0 <= shown["sentMs"] <= shown["answeredMs"] <= shown["durationMs"]
        assert scene.gateway.parts.recorder.held_bytes == 0
        assert (recording.recorded, recording.dropped) == (1, 0)


async def test_refusals_failures_and_cancellations_are_recorded(tmp_path: Path) -> None:
    async with stage(tmp_path) as scene:
        recording = begin(scene)
        client = await scene.gateway.client()
        client.send(scene.gateway.request("http://api.test/v1/../x"))
        assert (await client.answer()).status == 400
        client = await scene.gateway.client()
        client.send(b"GET http://api.test/v1 HTTP/1.1\r\nHost: api.test\r\n\r\n")
        assert (await client.answer()).status == 407
        client, link, _ = await scene.ask(scene.gateway.request(URL))
        link.send(b"HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\n" + SECRET[:15].encode())
        await client.head()
        client.abort()
        await scene.gateway.audit.until(3)
        client = await scene.gateway.client()
        chunked = b"Transfer-Encoding: chunked"
        client.send(scene.gateway.request(URL, chunked, method="POST", body=b"no chunk\r\n"))
        assert (await client.answer()).status == 400
        refused, unknown, cancelled, withheld = exchanges(recording)
        assert refused["answer"]["status"] == withheld["answer"]["status"] == 400
        for each in (refused, withheld):
            assert "sent" not in each
            assert each["sentMs"] is None
        assert json.loads(refused["answerBody"]["text"])["code"] == "invalid_request"
        assert (unknown["status"], unknown.get("sandboxId")) == (407, None)
        assert cancelled["outcome"] == "cancelled"
        assert "canary" not in json.dumps(cancelled), "half a secret"


async def test_one_sandbox_alone(tmp_path: Path) -> None:
    async with stage(tmp_path) as scene:
        other = begin(scene, sandbox_id="sbx_other")
        await exchange(scene)
        other.end()
        mine = begin(scene, sandbox_id=SANDBOX)
        await exchange(scene)
        await scene.gateway.audit.until(2)
        assert exchanges(other) == []
        assert [shown["sandboxId"] for shown in exchanges(mine)] == [SANDBOX]
        assert other.dropped == 0
        assert scene.gateway.parts.recorder.held_bytes == 0


async def test_t6_what_another_sandbox_sends_and_gets_is_not_held(tmp_path: Path) -> None:
    async with stage(tmp_path) as scene:
        held = scene.gateway.parts.recorder
        other = begin(scene, sandbox_id="sbx_other", max_body_bytes=100_000)
        first = scene.gateway.request(URL, b"Content-Length: 50000", method="POST", body=bytes(25_000))
        client, link, _ = await scene.ask(first)
        assert held.held_bytes == 0, "the head, and what came with it of the body"
        client.send(bytes(25_000))
        await link.exactly(50_000)
        link.send(b"HTTP/1.1 200 OK\r\nContent-Length: 50000\r\n\r\n" + bytes(49_999))
        await client.head()
        await client.exactly(49_999)
        assert held.held_bytes == 0
        link.send(b"!")
        await client.exactly(1)
        client.send(scene.gateway.request("http://api.test/v1/../x"))  # the same stream
        assert (await client.answer()).status == 400
        await scene.gateway.audit.until(2)
        assert held.held_bytes == 0
        assert (exchanges(other), other.dropped) == ([], 0)


async def test_bodies_are_cut_at_what_was_asked_for_and_at_what_may_be_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with stage(tmp_path) as scene:
        recording = begin(scene, max_body_bytes=4)
        await exchange(scene, OPEN_URL, method="POST", body=b"question")
        monkeypatch.setattr(recorder, "MAX_HELD_BYTES", scene.gateway.parts.recorder.held_bytes + 1)
        await exchange(scene, OPEN_URL, method="POST", body=b"question")
        monkeypatch.setattr(recorder, "MAX_HELD_BYTES", 0)
        await exchange(scene, OPEN_URL, method="POST", body=b"question")
        await scene.gateway.audit.until(3)
        first, second = exchanges(recording)
        assert first["requestBody"] == {"sizeBytes": 8, "text": "ques", "truncated": True}
        assert second["requestBody"] == {"sizeBytes": 8, "text": "", "truncated": True}
        assert recording.dropped == 1, "an exchange whose head had no room"
        assert scene.gateway.parts.recorder.held_bytes == 0


async def test_what_nobody_reads_is_dropped_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "MAX_WAITING", 2)
    async with stage(tmp_path) as scene:
        recording = begin(scene)
        for _ in range(5):
            assert await exchange(scene) == 200
        await scene.gateway.audit.until(5)
        assert [shown["number"] for shown in exchanges(recording)] == [1, 2]
        assert (recording.recorded, recording.dropped) == (2, 3)
        assert await exchange(scene) == 200
        await scene.gateway.audit.until(6)
        recording.end()
        recording.take_all()
        assert recording.dropped == 4
        assert scene.gateway.parts.recorder.held_bytes == 0


async def test_an_exchange_that_ends_after_the_recording_leaves_nothing(tmp_path: Path) -> None:
    async with stage(tmp_path) as scene:
        recording = begin(scene)
        client, link, _ = await scene.ask(scene.gateway.request(URL))
        recording.end()
        link.send(OK)
        await client.answer()
        await scene.gateway.audit.until(1)
        assert exchanges(recording) == []
        assert scene.gateway.parts.recorder.held_bytes == 0


async def test_an_upgrade_is_recorded_by_its_heads(tmp_path: Path) -> None:
    async with stage(tmp_path) as scene:
        recording = begin(scene)
        lines = (b"Connection: Upgrade", b"Upgrade: websocket")
        client, link, _ = await scene.ask(scene.gateway.request(URL, *lines))
        link.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        assert b" 101 " in await client.head()
        client.close()
        link.close()
        await scene.gateway.audit.until(1)
        (shown,) = exchanges(recording)
        assert (shown["outcome"], shown["answer"]["status"]) == ("upgraded", 101)


def test_one_recorder_at_a_time() -> None:
    recorder = Recorder()
    first = recorder.begin(sandbox_id=None, max_body_bytes=0)
    with pytest.raises(RecorderBusy):
        recorder.begin(sandbox_id=None, max_body_bytes=0)
    recorder.close()
    assert first.has_ended
    recorder.close()
    second = recorder.begin(sandbox_id="sbx_one", max_body_bytes=0)
    first.end()
    assert recorder.recording is second, "an old one ends itself only"
    assert repr(recorder) == "<Recorder: <Recording of sbx_one: 0 waiting, 0 dropped>, 0 bytes held>"
    assert repr(recorder.capture and recorder.capture(b"GET / HTTP/1.1")) == "<Capture: 14 bytes>"
