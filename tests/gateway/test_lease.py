"""Lease reports: now and then, soon after a change, never in a storm."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from control_client.leases import HeldSandbox
from gateway import lease
from gateway.lease import LeaseReports
from tests.support.control_stage import ControlStage, control_stage
from tests.support.fake_control import refusal
from tests.support.until import until

PATH = "/internal/gateways/gw_1/lease"


class Reported:
    """Reports, and what they are about."""

    def __init__(self, stage: ControlStage) -> None:
        self.stage = stage
        self.held: list[HeldSandbox] = []
        self.superseded: list[str] = []
        self.settled: list[float] = []
        self.let_settle = asyncio.Event()
        self.let_settle.set()
        self.reports = LeaseReports(
            stage.session,
            "gw_1",
            epoch=12,
            admin_url="http://127.0.0.1:9900",
            held=lambda: self.held,
            superseded=self.superseded.append,
            sleep=self.sleep,
        )

    async def sleep(self, seconds: float) -> None:
        self.settled.append(seconds)
        await self.let_settle.wait()
        await asyncio.sleep(0.001)

    def start(self) -> None:
        self.stage.tasks.spawn(self.reports.run(), name="lease")

    @property
    def count(self) -> int:
        return self.stage.control.count(PATH)


@pytest.fixture
async def reported(tmp_path: Path) -> AsyncIterator[Reported]:
    async with control_stage(tmp_path) as stage:
        yield Reported(stage)


async def test_a_change_is_reported_at_once(reported: Reported) -> None:
    reported.start()
    await until(lambda: reported.count == 1)
    reported.held = [HeldSandbox("sbx_1", 7, 1)]
    reported.reports.changed()
    await until(lambda: reported.count == 2)
    assert reported.stage.control.bodies(PATH)[-1]["planRevisions"] == {"sbx_1": 1}


async def test_many_changes_are_one_report(reported: Reported) -> None:
    reported.let_settle.clear()
    reported.start()
    await until(lambda: reported.settled == [lease.SETTLE_SECONDS])
    for _ in range(100):
        reported.reports.changed()
    await asyncio.sleep(0.01)
    assert reported.count == 1
    reported.let_settle.set()
    await until(lambda: reported.count == 2)
    await asyncio.sleep(0.01)
    assert reported.count == 2


async def test_without_a_change_it_is_reported_all_the_same(
    reported: Reported, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "REPORT_SECONDS", 0.02)
    reported.start()
    await until(lambda: reported.count >= 3)


async def test_a_failure_is_tried_again_after_longer_and_longer(reported: Reported) -> None:
    reported.stage.control.misbehave(PATH, *[refusal(503, "database_unavailable")] * 5)
    reported.start()
    reported.reports.changed()
    await until(lambda: reported.count >= 6)
    pauses = reported.settled[:5]
    assert all(lease.SETTLE_SECONDS <= pause <= lease.SETTLE_SECONDS + lease.REPORT_SECONDS for pause in pauses)
    assert len(set(pauses)) == 5


async def test_outlived_tunnels_are_named(reported: Reported) -> None:
    reported.stage.control.superseded = ["sbx_1", "sbx_2"]
    reported.start()
    await until(lambda: reported.superseded == ["sbx_1", "sbx_2"])
