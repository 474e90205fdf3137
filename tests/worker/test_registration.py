"""A worker's reports: at once after a change, again after a failure, taken back at the end."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from control_client import backoff
from control_client.registrations import RunningServer
from tests.support.control_sessions import Counts, control_session
from tests.support.fake_control import FakeControl, answer, refusal
from tests.support.integration_stage import integration_stage
from tests.support.until import until
from worker.integrations.catalog import CATALOG
from worker.registration import Addresses, Registration, Whereabouts, running_servers

PATH = "/internal/v1/workers/wrk_1"


class Reporting:
    """A registration that runs, and the control plane it reports to."""

    def __init__(self, control: FakeControl, registration: Registration, counts: Counts) -> None:
        self.control = control
        self.registration = registration
        self.counts = counts
        self.servers: list[RunningServer] = []
        self.taken = 0
        self.stop = asyncio.Event()
        self.whereabouts = Whereabouts(api="http://127.0.0.1:1", front=None, has_front=False)
        registration.on_taken = self.take

    def take(self) -> None:
        self.taken += 1

    @property
    def asked(self) -> list[str]:
        return [method for method, path, _ in self.control.asked if path == PATH]

    def reported(self) -> list[str]:
        return [each["serverId"] for each in self.control.bodies(PATH)[-1]["servers"]]


@pytest.fixture
async def reporting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Reporting]:
    monkeypatch.setattr(backoff, "FIRST_SECONDS", 0.01)
    monkeypatch.setattr("worker.registration.SETTLE_SECONDS", 0.001)
    async with control_session(tmp_path) as (control, session, counts), asyncio.TaskGroup() as group:
        registration = Registration(session, "wrk_1", epoch=7, servers=lambda: made.servers)
        made = Reporting(control, registration, counts)
        group.create_task(registration.run(made.whereabouts, made.stop))
        await until(lambda: made.taken == 1)
        yield made
        made.stop.set()


async def test_a_change_is_reported_at_once_and_the_end_too(reporting: Reporting) -> None:
    assert (reporting.asked, reporting.reported()) == (["PUT"], [])
    reporting.servers = [RunningServer("time", "standard", "running", [])]
    reporting.registration.changed()
    await until(lambda: len(reporting.asked) == 2)
    assert reporting.reported() == ["time"]
    assert reporting.control.bodies(PATH)[-1]["epoch"] == 7
    reporting.stop.set()
    await until(lambda: len(reporting.asked) == 3)
    assert reporting.asked == ["PUT", "PUT", "DELETE"]


async def test_without_a_change_the_lease_is_renewed(reporting: Reporting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.registration.RENEWALS", 3000)
    reporting.registration.changed()
    await until(lambda: len(reporting.asked) >= 4)


async def test_a_control_plane_that_is_back_hears_of_it_and_that_is_told(reporting: Reporting) -> None:
    async with reporting.control.away():
        reporting.registration.changed()
        await until(lambda: ("worker", "temporary") in reporting.counts)
        assert reporting.taken == 1
    await until(lambda: reporting.taken == 2)


async def test_one_that_was_replaced_goes_on_in_vain_and_takes_nothing_back(reporting: Reporting) -> None:
    reporting.control.misbehave(PATH, *[refusal(409, "lease_conflict")] * 1000)
    reporting.registration.changed()
    await until(lambda: len(reporting.asked) >= 4)
    reporting.stop.set()
    await asyncio.sleep(0.02)
    assert "DELETE" not in reporting.asked
    assert repr(reporting.registration) == "<Registration of wrk_1, epoch 7>"


async def test_an_end_that_cannot_be_told_is_an_end(reporting: Reporting) -> None:
    reporting.control.misbehave(PATH, answer(500))
    reporting.stop.set()
    await until(lambda: reporting.asked == ["PUT", "DELETE"])


async def test_addresses_are_known_when_every_listener_listens() -> None:
    stop = asyncio.Event()
    both = Whereabouts(api=None, front=None, has_front=True)
    waiting = asyncio.get_running_loop().create_task(both.addresses(stop))
    both.front_listens("::1", 2, is_tls=True)
    await asyncio.sleep(0)
    assert not waiting.done()
    both.api_listens("127.0.0.1", 1, is_tls=False)
    assert await waiting == Addresses("http://127.0.0.1:1", "https://[::1]:2")
    named = Whereabouts(api="https://a.test:443", front="https://f.test:443", has_front=True)
    named.api_listens("0.0.0.0", 1, is_tls=True)
    assert await named.addresses(stop) == Addresses("https://a.test:443", "https://f.test:443")
    stop.set()
    assert await Whereabouts(api=None, front=None, has_front=False).addresses(stop) is None


async def test_servers_are_reported_as_they_are(tmp_path: Path) -> None:
    async with integration_stage(tmp_path) as stage:
        heard = []
        stage.integrations.on_changed = lambda: heard.append(1)
        integration = await stage.started()
        assert heard
        [found] = running_servers(stage.integrations)
        assert (found.server_id, found.tier, found.status, found.sandbox_id) == ("tester", "admin", "running", None)
        assert len(found.tools) == 4
        integration.want("sbx_one", 1)
        assert running_servers(stage.integrations)[0].sandbox_id is None
        heard.clear()
        await integration.stop()
        assert heard
        planned = await stage.integrations.install(CATALOG["github-connector"], lambda *_: None, "plans")
        planned.want("sbx_one", 1)
        assert running_servers(stage.integrations)[0].sandbox_id == "sbx_one"
        planned.want("sbx_two", 1)
        assert running_servers(stage.integrations)[0].sandbox_id is None
        heard.clear()
        await stage.integrations.remove("tester")
        assert heard
