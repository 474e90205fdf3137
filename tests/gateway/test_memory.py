"""A gateway that holds too much memory: what it refuses, what it resets, and where its limit comes from."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway import memory
from gateway.memory import MemoryWatch, memory_limit
from gateway.setting_kinds import MEMORY_CGROUP, MEMORY_OFF
from sallyport.plan.codec import seal
from tests.support.gateway_plans import SANDBOX
from tests.support.plan_documents import plan_document
from tests.support.raw_end import RawEnd
from tests.support.stage import OK, OPEN_URL, URL, Stage, one_route, stage
from tests.support.two_ways import WAYS, way_into
from tests.support.until import until

MIB = 1024 * 1024
LIMIT = 800 * MIB
GET = b"GET http://api.test/v1/x HTTP/1.1\r\nHost: api.test\r\n\r\n"
CONNECT = b"CONNECT api.test:443 HTTP/1.1\r\nHost: api.test:443\r\n\r\n"


async def stuck(scene: Stage, ask: object, size: int, *, further: int = 0) -> tuple[RawEnd, RawEnd]:
    """Answer with so many bytes, of which the sandbox takes none; so many are still to come."""
    end = await ask(GET)  # type: ignore[operator]
    link = await scene.origin.link()
    await link.head()
    end.writer.transport.pause_reading()
    link.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (size + further) + bytes(size))
    return end, link


@pytest.mark.uvloop
@pytest.mark.parametrize("way", WAYS)
async def test_t5_over_its_memory_a_gateway_refuses_what_is_new_and_resets_what_holds_most(
    tmp_path: Path, way: str
) -> None:
    async with stage(tmp_path, further={"limits": {"write_buffer_bytes": "1MiB", "memory": "off"}}) as scene:
        parts = scene.gateway.parts
        watch = MemoryWatch(parts, LIMIT)
        ask = await way_into(scene.gateway, way)
        kept = await ask(GET)
        link = await scene.origin.link()
        await link.head()
        link.send(OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        assert (await kept.answer()).status == 200
        large, _ = await stuck(scene, ask, 8 * MIB)
        await until(lambda: any(stream.held_bytes > 512 * 1024 for stream in parts.streams.all()))
        with capture_logs() as logs:
            watch.look(LIMIT)
            watch.look(LIMIT + 1)
            large.writer.transport.resume_reading()  # type: ignore[attr-defined]  # it reads as well
            await large.gone()
            watch.look(LIMIT)  # not low enough yet
        assert [event["event"] for event in logs] == ["memory_over_limit"]
        assert parts.is_shedding
        assert scene.gateway.metric("sallyport_streams_shed_total") == 1
        # Nothing new: on a stream that is there, on one that is not, and for a CONNECT.
        kept.send(GET if way == "tunnel" else scene.gateway.request(URL))
        for end in (kept, await ask(GET), await ask(CONNECT, "intercepted; revision=1")):
            answer = await end.answer()
            assert (answer.status, json.loads(answer.body)["code"]) == (503, "overloaded")
            assert answer.value("Retry-After") == "1"
            assert "memory" in json.loads(answer.body)["detail"]
        with capture_logs() as logs:
            watch.look(LIMIT // 2)
        assert [event["event"] for event in logs] == ["memory_recovered"]
        again = await ask(GET)
        link = await scene.origin.link()
        await link.head()
        link.send(OK)
        assert (await again.answer()).status == 200
        watch.close()


@pytest.mark.uvloop
async def test_t5_a_connect_on_a_stream_that_is_there_is_refused(tmp_path: Path) -> None:
    async with stage(tmp_path, further={"limits": {"memory": "off"}}) as scene:
        client = await scene.gateway.client()
        client.send(b"GET /healthz HTTP/1.1\r\nHost: gateway\r\n\r\n")
        assert (await client.answer()).status == 200
        scene.gateway.parts.is_shedding = True
        client.send(CONNECT.replace(b"\r\n\r\n", b"\r\n" + scene.gateway.authorization + b"\r\n\r\n"))
        answer = await client.answer()
        assert (answer.status, json.loads(answer.body)["code"]) == (503, "overloaded")


@pytest.mark.uvloop
async def test_t5_a_stream_that_has_asked_nothing_yet_is_refused(tmp_path: Path) -> None:
    async with stage(tmp_path, further={"limits": {"memory": "off"}}) as scene:
        scene.gateway.parts.is_shedding = True
        client = await scene.gateway.client()
        answer = await client.answer()
        assert (answer.status, json.loads(answer.body)["code"]) == (503, "overloaded")


@pytest.mark.uvloop
async def test_what_tunnels_hold_goes_where_streams_hold_too_little(tmp_path: Path) -> None:
    limits = {"write_buffer_bytes": "16KiB", "memory": "off"}
    async with stage(tmp_path, further={"limits": limits}) as scene:
        parts = scene.gateway.parts
        watch = MemoryWatch(parts, LIMIT)
        ask = await way_into(scene.gateway, "tunnel")
        end = await ask(b"POST http://open.test/x HTTP/1.1\r\nHost: open.test\r\nContent-Length: 9000000\r\n\r\n")
        link = await scene.origin.link()
        await link.head()
        link.pause()
        end.send(bytes(8 * MIB))
        await until(lambda: parts.tunnel_buffers.held > 128 * 1024)
        watch.look(LIMIT + 1)
        await until(lambda: parts.tunnel_buffers.held == 0)
        assert await end.gone() == b""
        watch.close()


@pytest.mark.uvloop
async def test_t5_who_holds_most_in_all_is_reset_and_refused_and_its_neighbour_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Although no stream of it holds as much as the neighbour's one does."""
    monkeypatch.setattr(memory, "LOOK_SECONDS", 3600)  # what this process really holds is not the question
    limits = {"write_buffer_bytes": "2MiB", "memory": "off"}
    async with stage(tmp_path, further={"limits": limits}) as scene:
        parts = scene.gateway.parts
        parts.plans.apply(seal({**plan_document([one_route()], [], default="deny"), "sandboxId": "sbx_two"}))
        ask, neighbour = await way_into(scene.gateway, "tunnel"), await way_into(scene.gateway, "tunnel", "sbx_two")
        kept, link = await stuck(scene, neighbour, 2 * MIB - 1, further=1)
        for _ in range(8):
            await stuck(scene, ask, MIB, further=1)

        def held(sandbox_id: str) -> list[int]:
            return [stream.held_bytes for stream in parts.streams.of_sandbox(sandbox_id) if stream.is_of_sandbox]

        await until(lambda: min(held(SANDBOX)) > MIB // 2 and held("sbx_two")[0] > 3 * MIB // 2)
        watch = MemoryWatch(parts, 16 * MIB)
        watch.look(16 * MIB + 1)
        assert sum(size > 0 for size in held(SANDBOX)) == 5
        assert held("sbx_two")[0] > 3 * MIB // 2
        refused = await (await ask(GET)).answer()
        assert (refused.status, json.loads(refused.body)["code"]) == (503, "overloaded")
        for asking in (neighbour, await way_into(scene.gateway, "explicit", "sbx_two")):
            served = await asking(GET)
            other = await scene.origin.link()
            await other.head()
            other.send(OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
            assert (await served.answer()).status == 200
        link.send(bytes(1))
        kept.writer.transport.resume_reading()  # type: ignore[attr-defined]  # it reads as well
        assert (await kept.answer()).body == bytes(2 * MIB)
        watch.look(0)
        again = await ask(GET)  # on the link that the kept answer came on
        await link.head()
        link.send(OK)
        assert (await again.answer()).status == 200
        watch.close()


@pytest.mark.uvloop
async def test_it_looks_by_the_clock(tmp_path: Path) -> None:
    async with stage(tmp_path, further={"limits": {"memory": "128MiB"}}) as scene:
        watch = MemoryWatch(scene.gateway.parts, 1)
        watch.expire()
        assert scene.gateway.parts.is_shedding
        client = await scene.gateway.client()
        client.send(scene.gateway.request(OPEN_URL))
        assert (await client.answer()).status == 503
        watch.close()


def files(root: Path, texts: Mapping[str, str]) -> Path:
    for name, text in ({"proc/self/statm": "1 2 3"} | dict(texts)).items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("texts", "limit"),
    [
        ({}, None),
        ({"sys/fs/cgroup/memory.max": "max\n"}, None),
        ({"sys/fs/cgroup/memory.max": "1000\n"}, 400),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/memory.max": "2000\n"}, 800),
        ({"proc/self/cgroup": "4:cpu,memory:/x\n", "sys/fs/cgroup/memory/x/memory.limit_in_bytes": "3000"}, 1200),
        ({"sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n"}, None),
        ({"proc/self/cgroup": "garbage", "sys/fs/cgroup/memory.max": "also"}, None),
    ],
)
def test_the_limit_of_a_cgroup(tmp_path: Path, texts: Mapping[str, str], limit: int | None) -> None:
    assert memory_limit(MEMORY_CGROUP, 2, files(tmp_path, texts)) == limit


def test_a_limit_that_is_written_down_or_off(tmp_path: Path) -> None:
    root = files(tmp_path, {"sys/fs/cgroup/memory.max": "1000"})
    assert memory_limit(MEMORY_OFF, 1, root) is None
    assert memory_limit(5000, 4, root) == 5000
    assert memory_limit(5000, 4, tmp_path / "no Linux") is None
