"""What a serving process tells: what has changed since the last line, and nothing else."""

import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from pathlib import Path

import pytest

from gateway.processes import reports as reports_module
from gateway.processes.reports import Reports
from tests.support.gateway_plans import plan
from tests.support.in_process import GatewayInProcess, in_process_gateway
from tests.support.until import until

pytestmark = pytest.mark.uvloop


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[GatewayInProcess]:
    async with in_process_gateway(tmp_path, plan=plan([])) as gateway:
        yield gateway


async def told(lines: AsyncGenerator[bytes]) -> list[Mapping[str, object]]:
    return [json.loads(line) for line in (await anext(lines)).splitlines() if line]


async def test_tunnels_and_streams_are_told_as_they_change(
    gateway: GatewayInProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reports_module, "LOOK_SECONDS", 0.05)
    reports = Reports()
    gateway.parts.tunnels.subscribe(lambda _: reports.changed())
    lines = reports.lines(gateway.parts)
    assert await told(lines) == []
    tunnel = await gateway.tunnel()
    host = gateway.parts.tunnels.current("sbx_one")
    assert host is not None
    assert await told(lines) == [{"tunnel": "sbx_one", "epoch": host.epoch}, {"held": ["sbx_one"]}]
    assert await told(lines) == []  # nothing new is a line too, so that a silent process is known
    tunnel.abort()
    await until(lambda: len(gateway.parts.tunnels) == 0)
    assert await told(lines) == [{"tunnel": "sbx_one", "epoch": None}, {"released": ["sbx_one"]}]
    await lines.aclose()


async def test_what_is_wanted_is_told_once(gateway: GatewayInProcess) -> None:
    reports = Reports()
    lines = reports.lines(gateway.parts)
    assert await told(lines) == []
    reports.want_plan("sbx_two")
    reports.want_plan("sbx_two")
    reports.want_keys()
    assert repr(reports) == "<Reports: 1 plans wanted>"
    assert await told(lines) == [{"wantPlan": "sbx_two"}, {"wantKeys": True}]
    reports.close()
    assert [line async for line in lines] == []


async def test_many_sandboxes_are_several_lines(gateway: GatewayInProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports_module, "IDS_PER_LINE", 2)
    for number in range(3):
        await gateway.tunnel(f"sbx_{number}")
    lines = Reports().lines(gateway.parts)
    assert (await told(lines))[3:] == [{"held": ["sbx_0", "sbx_1"]}, {"held": ["sbx_2"]}]
    await lines.aclose()


async def test_denials_are_told_once_and_many_are_several_lines(
    gateway: GatewayInProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reports_module, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(reports_module, "DENIALS_PER_LINE", 2)
    monkeypatch.setattr(reports_module, "MOST_DENIALS", 3)
    lines = Reports().lines(gateway.parts)
    for number in range(4):
        gateway.parts.denials.keep("sbx_one", b'{"path":"/%d"}' % number)
    assert await told(lines) == [{"denials": [{"path": "/1"}, {"path": "/2"}]}, {"denials": [{"path": "/3"}]}]
    assert await told(lines) == []
    gateway.parts.denials.keep("sbx_two", b'{"path":"/4"}')
    assert await told(lines) == [{"denials": [{"path": "/4"}]}]
    await lines.aclose()
