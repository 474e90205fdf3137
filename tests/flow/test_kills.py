"""Every part is killed under load, and comes back: nothing that was acknowledged is lost, nothing arrives twice."""

import itertools
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from demo.origins import random_credentials, serve_origins
from tests.support.background import in_background
from tests.support.counting_origin import COUNTING_HOST, Arrivals, counting_application
from tests.support.figures import InTime, figure
from tests.support.gateway_plans import plan, route
from tests.support.gateway_process import Setting
from tests.support.posting_load import PostingLoad, posting_load
from tests.support.up_process import PARTS, UpProcess, up_process

SECRET = "counting-canary-token-7714"
# Starting a part takes a second or two here; a machine at its limits takes ten times that.
BACK_SECONDS = 30.0
# Items acknowledged between two kills.
UNDER_LOAD = 50

# The order in which the parts are killed, one after the other came back.
ORDERS = list(itertools.permutations(PARTS))


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """All parts, the load on them, and what arrived at the origin."""

    up: UpProcess
    load: PostingLoad
    arrivals: Arrivals

    def kill(self, part: str) -> float:
        """Kill a part; return how long after that a request succeeded which was begun later."""
        self.load.wait_acknowledged(UNDER_LOAD, BACK_SECONDS)
        moment = time.perf_counter()
        before = self.up.kill(part)
        seconds = self.load.wait_good_after(moment, BACK_SECONDS)
        deadline = time.perf_counter() + BACK_SECONDS
        while not self._is_back(part, before):
            assert time.perf_counter() < deadline, f"{part} was not started again:\n{self.up.log[-2000:]}"
            time.sleep(0.02)
        # And with it back, requests go on.
        self.load.wait_good_after(time.perf_counter(), BACK_SECONDS)
        return seconds

    def _is_back(self, part: str, before: int) -> bool:
        try:
            return self.up.pid(part) != before
        except AssertionError:
            return False

    def assert_nothing_lost_or_doubled(self) -> None:
        """Every acknowledged item arrived, and none of all arrived twice."""
        self.load.stop()
        lost = [item for _, item in self.load.acknowledged if not self.arrivals.ids[item]]
        doubled = [item for item, count in self.arrivals.ids.items() if count > 1]
        assert (lost, doubled) == ([], [])
        assert len(self.load.acknowledged) > UNDER_LOAD


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    arrivals = Arrivals()
    further = {COUNTING_HOST: lambda ledger: counting_application(ledger, SECRET, arrivals)}
    with in_background(serve_origins(tmp_path, random_credentials(), os.environ["PATH"], further)) as origins:
        setting = Setting(
            plan=plan([route("count", [COUNTING_HOST], "con_count")], default="deny"),
            credentials={"con_count": SECRET},
            connect_to=origins.connect_to(),
            ca_file=origins.files.ca_file,
        )
        with up_process(tmp_path / "up", setting) as up:
            trust = up.sandboxd_state / "ca.pem"
            with posting_load(up.addresses["sandboxd"], trust, COUNTING_HOST) as load:
                load.wait_good_after(time.perf_counter(), BACK_SECONDS)
                yield Scene(up=up, load=load, arrivals=arrivals)
            assert SECRET not in up.log


@pytest.mark.timeout(180)
def test_each_part_is_killed_once(scene: Scene, in_time: InTime) -> None:
    seconds = {part: scene.kill(part) for part in PARTS}
    scene.assert_nothing_lost_or_doubled()
    for part, measured in seconds.items():
        # Neither the control plane nor the worker is in a request's path.
        in_time(f"after {part} was killed", measured, 1.0 if part in ("control-plane", "worker") else BACK_SECONDS)


@pytest.mark.full
@pytest.mark.timeout(300)
@pytest.mark.parametrize("order", ORDERS, ids="-".join)
def test_every_order(scene: Scene, order: Sequence[str]) -> None:
    for part in order:
        figure(f"after {part} was killed", scene.kill(part))
    scene.assert_nothing_lost_or_doubled()


@pytest.mark.full
@pytest.mark.timeout(300)
def test_all_at_once(scene: Scene) -> None:
    scene.load.wait_acknowledged(UNDER_LOAD, BACK_SECONDS)
    moment = time.perf_counter()
    for part in PARTS:
        scene.up.kill(part)
    figure("after all were killed", scene.load.wait_good_after(moment, BACK_SECONDS))
    scene.assert_nothing_lost_or_doubled()
