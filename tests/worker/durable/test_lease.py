"""Who is alive: an id has one worker, the newest, and the others know whose lease has run out."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from worker.durable.database import DatabaseUnavailable, open_engine
from worker.durable.lease import LeaseLost, WorkerLease

type Make = Callable[..., WorkerLease]


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.full)])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    if request.param == "postgresql":
        server = request.getfixturevalue("postgres")
        url = server.url(server.create())
    else:
        url = f"sqlite:///{tmp_path / 'worker.db'}"
    engine = open_engine(url)
    yield engine
    engine.dispose()


@pytest.fixture
def taken(engine: Engine) -> Make:
    def take(worker_id: str, seconds: float = 60) -> WorkerLease:
        lease = WorkerLease(engine, worker_id, seconds)
        lease.take()
        return lease

    return take


def test_whoever_starts_again_is_the_worker_and_the_one_before_is_not(taken: Make) -> None:
    first, second = taken("wrk_1"), taken("wrk_1")
    assert first.epoch < second.epoch
    second.renew()
    with pytest.raises(LeaseLost, match="took over as worker wrk_1"):
        first.renew()


def test_a_lease_that_ran_out_is_seen_by_others_and_not_by_its_own(taken: Make) -> None:
    alive, dead = taken("wrk_1"), taken("wrk_2", -1)
    assert (alive.dead(), dead.dead()) == (["wrk_2"], [])


def test_a_late_renewal_is_still_in_time_until_somebody_took_over(taken: Make) -> None:
    alive, late = taken("wrk_1"), taken("wrk_2", -1)
    late.renew()
    alive.bury("wrk_2")
    with pytest.raises(LeaseLost):
        late.renew()


def test_who_lives_again_is_not_buried(taken: Make) -> None:
    alive = taken("wrk_1")
    taken("wrk_2", -1)
    again = taken("wrk_2")
    alive.bury("wrk_2")
    again.renew()


def test_who_ends_well_lets_others_go_on_at_once(taken: Make) -> None:
    leaving, other = taken("wrk_1"), taken("wrk_2")
    leaving.give_up()
    assert other.dead() == ["wrk_1"]


def test_who_was_replaced_does_not_give_up_what_is_another_s(taken: Make) -> None:
    replaced, _, other = taken("wrk_1"), taken("wrk_1"), taken("wrk_2")
    replaced.give_up()
    assert other.dead() == []


def test_a_database_that_is_away_is_told(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path / 'nowhere' / 'worker.db'}")
    with pytest.raises(DatabaseUnavailable, match="unable to open database file"):
        WorkerLease(engine, "wrk_1", 1).take()


def test_it_can_be_printed(taken: Make) -> None:
    lease = taken("wrk_1")
    assert repr(lease) == f"<WorkerLease of wrk_1, epoch {lease.epoch}>"


def test_the_epoch_grows_also_where_the_database_forgot_the_worker(engine: Engine, taken: Make) -> None:
    before = taken("wrk_1", -1)
    taken("wrk_2").bury("wrk_1")
    assert taken("wrk_1").epoch > before.epoch
