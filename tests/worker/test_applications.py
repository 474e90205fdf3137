"""Which applications run: one per sandbox, a newer one supersedes, there is a bound."""

import pytest

from tests.support.application_store import MemoryStore
from worker.application import Application, ApplicationState
from worker.applications import Applications, NoSuchApplication, NotPossible, TooManyApplications


class BusyStore(MemoryStore):
    """Others take a sandbox's place again and again."""

    async def begin(self, application: Application) -> str:
        return "app_gone"


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def applications(store: MemoryStore, most: int = 100) -> Applications:
    return Applications(
        store, new_id=lambda sandbox, millis, random: f"app_{random}", wall=lambda: 0.0, max_applications=most
    )


async def test_the_same_revision_again_is_the_one_that_runs(store: MemoryStore) -> None:
    asked = applications(store)
    assert (await asked.begin("sbx_1", 2)).application_id == (await asked.begin("sbx_1", 2)).application_id


async def test_the_same_id_again_is_the_same_one(store: MemoryStore) -> None:
    asked = applications(store)
    one = await asked.begin("sbx_1", 2, "app_back")
    one.state = ApplicationState.APPLIED
    assert (await asked.begin("sbx_1", 2, "app_back")).application_id == "app_back"
    assert store.kept == {"app_back": one}


async def test_a_newer_revision_supersedes_and_an_older_one_is_refused(store: MemoryStore) -> None:
    asked = applications(store)
    old = await asked.begin("sbx_1", 2)
    new = await asked.begin("sbx_1", 3)
    assert (old.state, new.state) == (ApplicationState.SUPERSEDED, ApplicationState.RUNNING)
    with pytest.raises(NotPossible, match="revision 3 is being applied already"):
        await asked.begin("sbx_1", 2)


async def test_sandboxes_do_not_wait_for_each_other(store: MemoryStore) -> None:
    asked = applications(store)
    one, other = await asked.begin("sbx_1", 1), await asked.begin("sbx_2", 9)
    assert (one.state, other.state) == (ApplicationState.RUNNING, ApplicationState.RUNNING)


async def test_cancelling_ends_it_once(store: MemoryStore) -> None:
    asked = applications(store)
    one = await asked.begin("sbx_1", 1)
    assert (await asked.cancel(one.application_id)).state is ApplicationState.CANCELLED
    with pytest.raises(NotPossible, match="has ended: cancelled"):
        await asked.cancel(one.application_id)


async def test_what_is_not_known_is_told(store: MemoryStore) -> None:
    with pytest.raises(NoSuchApplication, match="app_nothing"):
        await applications(store).find("app_nothing")


async def test_the_last_good_revision_is_the_newest_applied_before(store: MemoryStore) -> None:
    asked = applications(store)
    for sandbox, revision in (("sbx_1", 1), ("sbx_1", 2), ("sbx_2", 7)):
        (await asked.begin(sandbox, revision)).state = ApplicationState.APPLIED
    bad = await asked.begin("sbx_1", 8)
    assert await asked.last_good(bad) == 2


async def test_without_an_earlier_one_there_is_nothing_to_go_back_to(store: MemoryStore) -> None:
    asked = applications(store)
    only = await asked.begin("sbx_1", 1)
    only.state = ApplicationState.APPLIED
    with pytest.raises(NotPossible, match="no earlier revision"):
        await asked.last_good(only)


async def test_there_is_a_bound_on_those_that_have_not_ended(store: MemoryStore) -> None:
    asked = applications(store, most=2)
    first = await asked.begin("sbx_1", 1)
    await asked.begin("sbx_2", 1)
    with pytest.raises(TooManyApplications):
        await asked.begin("sbx_3", 1)
    first.state = ApplicationState.FAILED
    await asked.begin("sbx_3", 1)


async def test_a_place_that_others_take_each_time_is_not_tried_for_for_ever() -> None:
    with pytest.raises(NotPossible, match="ask again"):
        await applications(BusyStore()).begin("sbx_1", 1)
