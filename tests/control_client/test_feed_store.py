"""The last good set on disk."""

import stat
from pathlib import Path

from control_client.feed_state import Tier
from control_client.feed_store import FeedStore

SERVERS = {"one": "http://h/1"}


def store(folder: Path, tier: Tier = Tier.STANDARD, *, instance_id: str = "i", user_id: str | None = None) -> FeedStore:
    return FeedStore(folder, tier, instance_id=instance_id, user_id=user_id)


async def test_it_keeps_and_finds_a_set(tmp_path: Path) -> None:
    folder = tmp_path / "state" / "client"
    assert await store(folder).load() is None
    await store(folder).save(SERVERS)
    await store(folder).save(SERVERS | {"two": "http://h/2"})
    assert await store(folder).load() == SERVERS | {"two": "http://h/2"}
    assert stat.S_IMODE(kept(folder).stat().st_mode) == 0o600


async def test_no_other_finds_it(tmp_path: Path) -> None:
    await store(tmp_path).save(SERVERS)
    for other in (
        store(tmp_path, Tier.ADMIN),
        store(tmp_path, instance_id="j"),
        store(tmp_path, user_id=""),
        store(tmp_path, user_id="u"),
    ):
        assert await other.load() is None


async def test_what_cannot_be_read_is_as_none(tmp_path: Path) -> None:
    await store(tmp_path).save(SERVERS)
    file = kept(tmp_path)
    for content in (b"", b'{"mcpServers": {"one"', b"x" * (5 * 1024 * 1024)):
        file.write_bytes(content)
        assert await store(tmp_path).load() is None
    file.unlink()
    file.mkdir()
    assert await store(tmp_path).load() is None


async def test_a_disk_that_takes_nothing_harms_nobody(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    await store(tmp_path / "file" / "state").save(SERVERS)


def kept(folder: Path) -> Path:
    (file,) = folder.iterdir()
    return file
