"""Calls decided by a file, by the control plane, by both; and how long what was said is believed."""

import asyncio
import hashlib
from collections.abc import AsyncIterator

import pytest

from control_client.admissions import Admission, AdmittedServer, SandboxPlace
from control_client.errors import TOKEN_UNREADABLE, ControlError
from control_client.feed_state import Tier
from sallyport.net.tasks import TaskSet
from worker.integrations import front_admission
from worker.integrations.front_admission import (
    FRESH_SECONDS,
    Admitted,
    CannotAsk,
    ControlAdmission,
    EitherAdmission,
    FileAdmission,
)
from worker.integrations.front_keys import Caller

KEY, OTHER = f"sp_sk_{'a' * 64}", f"sp_sk_{'b' * 64}"
HERE = Admission("ckey_1", Tier.STANDARD, AdmittedServer("stl_1", None))
STALE_SECONDS = 60.0


class Said:
    """A control plane by what it says, and is asked."""

    def __init__(self, tasks: TaskSet) -> None:
        self.now = 100.0
        self.says: Admission | ControlError | None = HERE
        self.asked: list[tuple[str, str]] = []
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.admission = ControlAdmission(self._ask, lambda: self.now, tasks, stale_seconds=STALE_SECONDS)

    async def _ask(self, key_hash: str, name: str) -> Admission | None:
        self.asked.append((key_hash, name))
        await self.may_answer.wait()
        if isinstance(self.says, ControlError):
            raise self.says
        return self.says


@pytest.fixture
async def said() -> AsyncIterator[Said]:
    failures: list[str] = []
    tasks = TaskSet(lambda name, error: failures.append(name))
    yield Said(tasks)
    await tasks.close()
    assert failures == []


async def test_what_the_control_plane_says_is_believed_for_a_second(said: Said) -> None:
    admitted = await said.admission.admit(KEY, "search")
    assert admitted == Admitted(Caller(name="ckey_1", tier="standard"), "stl_1")
    said.says = None
    said.now += FRESH_SECONDS - 0.01
    assert await said.admission.admit(KEY, "search") == admitted
    said.now += 0.02
    assert await said.admission.admit(KEY, "search") is None
    assert said.asked == [(hashlib.sha256(KEY.encode()).hexdigest(), "search")] * 2
    assert repr(said.admission) == "<ControlAdmission: 1 remembered>"


async def test_each_key_and_name_is_asked_about(said: Said) -> None:
    place = SandboxPlace("sbx_1", "http://127.0.0.1:9900")
    said.says = Admission("ckey_2", Tier.ADMIN, AdmittedServer("files", place))
    assert await said.admission.admit(OTHER, "sandbox__sbx_1__files") == Admitted(
        Caller(name="ckey_2", tier="admin"), "files", place
    )
    said.says = HERE._replace(server=None)
    for name in ("nothing", "", "x" * 300, "a\nb"):
        found = await said.admission.admit(KEY, name)
        assert found == Admitted(Caller(name="ckey_1", tier="standard"), None)
    assert [name for _, name in said.asked] == ["sandbox__sbx_1__files", "nothing", "-"]
    for malformed in ("", "x", "sp_ak_" + "a" * 64, KEY + "a", "sp_sk_\udcff"):
        assert await said.admission.admit(malformed, "search") is None
    assert len(said.asked) == 3


async def test_all_who_ask_at_once_wait_for_one_answer(said: Said) -> None:
    said.may_answer.clear()
    async with asyncio.TaskGroup() as group:
        waiting = [group.create_task(said.admission.admit(KEY, "search")) for _ in range(5)]
        while not said.asked:  # noqa: ASYNC110  nothing announces it
            await asyncio.sleep(0)
        waiting[0].cancel()
        await asyncio.sleep(0)
        said.may_answer.set()
    assert len(said.asked) == 1
    assert waiting[0].cancelled()
    assert all(each.result() is not None for each in waiting[1:])


async def test_while_it_cannot_be_asked_what_it_said_last_goes_on_for_a_while(said: Said) -> None:
    admitted = await said.admission.admit(KEY, "search")
    said.says = ControlError("unreachable", temporary=True)
    said.now += STALE_SECONDS - 0.01
    assert await said.admission.admit(KEY, "search") == admitted
    with pytest.raises(CannotAsk):
        await said.admission.admit(OTHER, "search")
    said.now += 0.02
    with pytest.raises(CannotAsk):
        await said.admission.admit(KEY, "search")
    said.says = HERE
    assert await said.admission.admit(KEY, "search") == admitted


async def test_a_refusal_that_stays_is_no_reason_to_go_on(said: Said) -> None:
    await said.admission.admit(KEY, "search")
    said.says = ControlError("forbidden", temporary=False, status=403)
    said.now += FRESH_SECONDS
    with pytest.raises(CannotAsk):
        await said.admission.admit(KEY, "search")


async def test_a_worker_without_a_control_plane_knows_no_client_key(said: Said) -> None:
    said.says = ControlError(TOKEN_UNREADABLE, temporary=True)
    assert await said.admission.admit(KEY, "search") is None


async def test_what_was_asked_longest_ago_is_forgotten(said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front_admission, "MAX_REMEMBERED", 2)
    for name in ("a", "b", "c", "a"):
        await said.admission.admit(KEY, name)
    assert [name for _, name in said.asked] == ["a", "b", "c", "a"]


class Keys:
    """A file with KEY in it."""

    def find(self, key: str) -> Caller | None:
        return Caller(name="ops", tier="admin") if key == KEY else None


async def test_a_key_of_the_file_names_servers_by_their_ids(said: Said) -> None:
    file = FileAdmission(Keys())
    assert await file.admit(KEY, "anything") == Admitted(Caller(name="ops", tier="admin"), "anything")
    assert await file.admit(OTHER, "anything") is None
    both = EitherAdmission(file, said.admission)
    assert await both.admit(KEY, "anything") == Admitted(Caller(name="ops", tier="admin"), "anything")
    assert said.asked == []
    assert await both.admit(OTHER, "search") == Admitted(Caller(name="ckey_1", tier="standard"), "stl_1")
    assert repr(both).startswith("<EitherAdmission <FileAdmission")
