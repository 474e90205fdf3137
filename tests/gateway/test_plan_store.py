"""What is kept on disk: whole or not at all, and nobody else's."""

import asyncio
import stat
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.plan_store import Contact, PlanStore, Restored, StateError
from gateway.revocations import Revocation
from sallyport.net.tasks import TaskSet

CONTACT = Contact(
    1_750_000_000,
    (
        Revocation("sandbox", "sbx_1", 1_760_000_000.0),
        Revocation("connection", "con_1", 1_760_000_000.0, "org_1"),
    ),
)
NOTHING = Restored(None, None, ())


@pytest.fixture
async def tasks() -> AsyncIterator[TaskSet]:
    failures: list[str] = []
    tasks = TaskSet(lambda name, error: failures.append(f"{name}: {error!r}"))
    yield tasks
    await tasks.close()
    assert failures == []


async def filled(folder: Path, tasks: TaskSet) -> PlanStore:
    store = PlanStore(folder / "state", tasks)
    assert store.open() == NOTHING
    store.save_plan("sbx_1", b"plan one")
    store.save_plan("sbx/2 with odd:name", b"plan\ntwo")
    store.save_keys(b"keys")
    store.save_contact(CONTACT)
    await store.flush()
    return store


def kept(folder: Path, tasks: TaskSet) -> Restored:
    return PlanStore(folder / "state", tasks).open()


async def test_what_was_written_is_read(tmp_path: Path, tasks: TaskSet) -> None:
    store = await filled(tmp_path, tasks)
    found = kept(tmp_path, tasks)
    assert (found.contact, found.jwks, sorted(found.plans)) == (CONTACT, b"keys", [b"plan\ntwo", b"plan one"])
    store.save_plan("sbx_1", b"a newer one")
    store.drop_plan("sbx/2 with odd:name")
    store.drop_plan("sbx_never")
    await store.flush()
    assert kept(tmp_path, tasks).plans == (b"a newer one",)
    assert store.failures == 0


async def test_files_and_directory_are_the_gateways_alone(tmp_path: Path, tasks: TaskSet) -> None:
    await filled(tmp_path, tasks)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "state").iterdir()}
    assert modes == {0o600}
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o701])
async def test_a_directory_of_others_is_refused(tmp_path: Path, tasks: TaskSet, mode: int) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state").chmod(mode)
    with pytest.raises(StateError, match="chmod 700 it"):
        kept(tmp_path, tasks)


async def test_a_file_in_the_way_is_refused(tmp_path: Path, tasks: TaskSet) -> None:
    (tmp_path / "state").touch()
    with pytest.raises(StateError, match=r"control\.state_dir"):
        kept(tmp_path, tasks)


@pytest.mark.parametrize(
    "spoil", [lambda data: data[:-1], lambda data: data + b"x", lambda data: b"", lambda data: data[1:]]
)
async def test_a_file_that_is_not_as_it_was_written_is_passed_over(
    tmp_path: Path, tasks: TaskSet, spoil: Callable[[bytes], bytes]
) -> None:
    await filled(tmp_path, tasks)
    for path in (tmp_path / "state").iterdir():
        path.write_bytes(spoil(path.read_bytes()))
    assert kept(tmp_path, tasks) == NOTHING


async def test_every_changed_byte_is_noticed(tmp_path: Path, tasks: TaskSet) -> None:
    await filled(tmp_path, tasks)
    path = tmp_path / "state" / "keys"
    content = path.read_bytes()
    for at in range(len(content)):
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        assert kept(tmp_path, tasks).jwks is None, at


async def test_what_another_version_wrote_is_passed_over(tmp_path: Path, tasks: TaskSet) -> None:
    store = PlanStore(tmp_path / "state", tasks)
    store.open()
    for content in (b"[]", b"{}", b'{"heardAt": 1, "revocations": [1]}', b"\xff"):
        store._put("contact", content)
        await store.flush()
        assert kept(tmp_path, tasks).contact is None


async def test_revocations_of_a_version_without_organizations_are_of_all(tmp_path: Path, tasks: TaskSet) -> None:
    store = PlanStore(tmp_path / "state", tasks)
    store.open()
    store._put("contact", b'{"heardAt": 1, "revocations": [["connection", "con_1", 2.0]]}')
    await store.flush()
    assert kept(tmp_path, tasks).contact == Contact(1, (Revocation("connection", "con_1", 2.0, None),))


async def test_a_write_that_was_cut_short_leaves_the_old_file(tmp_path: Path, tasks: TaskSet) -> None:
    await filled(tmp_path, tasks)
    (tmp_path / "state" / ".new-abc").write_bytes(b"half")
    assert kept(tmp_path, tasks).jwks == b"keys"


async def test_the_last_word_wins(tmp_path: Path, tasks: TaskSet) -> None:
    store = await filled(tmp_path, tasks)
    for number in range(50):
        store.save_keys(b"keys %d" % number)
        await asyncio.sleep(0)
    await store.flush()
    assert kept(tmp_path, tasks).jwks == b"keys 49"


async def test_a_directory_that_disappeared_is_counted(tmp_path: Path, tasks: TaskSet) -> None:
    store = await filled(tmp_path, tasks)
    (tmp_path / "state").rename(tmp_path / "elsewhere")
    store.save_keys(b"newer")
    await store.flush()
    assert store.failures == 1
    (tmp_path / "elsewhere").rename(tmp_path / "state")
    store.save_keys(b"newer")
    await store.flush()
    assert kept(tmp_path, tasks).jwks == b"newer"


async def test_t5_a_disk_that_is_full_is_told_once_and_so_is_its_end(tmp_path: Path, tasks: TaskSet) -> None:
    store = await filled(tmp_path, tasks)
    (tmp_path / "state").rename(tmp_path / "elsewhere")
    with capture_logs() as logs:
        for number in range(3):
            store.save_keys(b"keys %d" % number)
            await store.flush()
        (tmp_path / "elsewhere").rename(tmp_path / "state")
        for number in range(3):
            store.save_keys(b"keys again %d" % number)
            await store.flush()
    assert [event["event"] for event in logs] == ["state_not_saved", "state_saved_again"]
    assert store.failures == 3
    assert kept(tmp_path, tasks).jwks == b"keys again 2"
