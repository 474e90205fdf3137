"""`targets sync`: missing rows, the operator's file, all its faults at once, and nothing the second time."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from control_plane.foundation import Foundation
from control_plane.target_sync import SyncError, read_file, sync
from control_plane.targets import Changes, TargetDesk
from tests.support.control_plane import NOW, SECRET
from tests.support.definitions import registry

ENVIRONMENT = {"CLIENT_SECRET": SECRET}
GOOD = {
    "forge-server": {
        "enabled": True,
        "config": {"baseUrl": "https://forge.example"},
        "secrets": {"clientId": {"file": "id"}, "clientSecret": {"env": "CLIENT_SECRET"}},
    },
    "forge-two": {
        "familyId": "forge",
        "variantId": "forge-server",
        "displayName": "Two",
        "config": {"baseUrl": "https://two.example"},
    },
}


async def run(
    base: Foundation, folder: Path, targets: Mapping[str, object] | None, *, ready: bool = False, dry_run: bool = False
) -> list[tuple[str, str]]:
    """Sync and return what changed."""
    (folder / "id").write_text("the-id\n")
    content = json.dumps({"targets": targets}).encode()
    wanted = None if targets is None else read_file(content, ENVIRONMENT, folder)
    found = await sync(base.database, base.vault, registry(), wanted, NOW, enable_ready=ready, dry_run=dry_run)
    assert SECRET not in repr(found)
    return [(each.target_key, each.what) for each in found]


async def shown(base: Foundation, key: str) -> dict[str, object]:
    return await TargetDesk(base.database, base.vault, registry()).get(key, for_operator=True)


async def test_missing_targets_are_made_disabled(base: Foundation, tmp_path: Path) -> None:
    assert ("forge-server", "added") in await run(base, tmp_path, None)
    assert await run(base, tmp_path, None, ready=True) == []
    assert not (await shown(base, "linear-default"))["enabled"]


async def test_without_preparation_those_are_enabled_that_need_nothing(base: Foundation, tmp_path: Path) -> None:
    await run(base, tmp_path, None, ready=True)
    assert (await shown(base, "linear-default"))["enabled"]
    assert not (await shown(base, "forge-server"))["enabled"]  # it has no address, and needs the operator's application


async def test_a_file_is_applied_once(base: Foundation, tmp_path: Path) -> None:
    await run(base, tmp_path, None)
    changed = [
        ("forge-server", "enabled"),
        ("forge-server", "config"),
        ("forge-server", "secrets/clientId"),
        ("forge-server", "secrets/clientSecret"),
        ("forge-two", "added"),
        ("forge-two", "config"),
        ("forge-two", "displayName"),
    ]
    assert await run(base, tmp_path, GOOD, dry_run=True) == changed
    assert not (await shown(base, "forge-server"))["enabled"]
    assert await run(base, tmp_path, GOOD) == changed
    target = await shown(base, "forge-server")
    assert (target["enabled"], target["targetHealth"]) == (True, {"status": "healthy", "issues": []})
    assert await run(base, tmp_path, GOOD) == []
    assert (await shown(base, "forge-server"))["revision"] == target["revision"]


async def test_what_the_file_does_not_name_stays(base: Foundation, tmp_path: Path) -> None:
    await run(base, tmp_path, GOOD)
    desk = TargetDesk(base.database, base.vault, registry())
    before = await shown(base, "forge-server")
    await desk.change("forge-server", int(str(before["revision"])), Changes(overrides={"displayName": "Mine"}), NOW)
    assert await run(base, tmp_path, {"forge-server": {"enabled": False}}) == [("forge-server", "enabled")]
    after = await shown(base, "forge-server")
    assert (after["displayName"], after["config"]) == ("Mine", before["config"])
    replaced = {"forge-server": {"secrets": {"clientSecret": {"file": "id"}}}}
    assert await run(base, tmp_path, replaced) == [("forge-server", "secrets/clientSecret")]


FAULTY: list[tuple[object, list[str]]] = [
    ({"none": {"enabled": True}}, ["/targets/none"]),
    (
        {"hand-made": {"familyId": "linear", "variantId": "linear-default"}},  # it is what has no definition
        ["/targets/hand-made"],
    ),
    ({"forge-server": {"variantId": "forge-other"}}, ["/targets/forge-server/variantId"]),
    ({"forge-server": {"enabled": True}}, ["/targets/forge-server/config/baseUrl"]),
    (
        {"forge-server": {"config": {"x": 1}}},
        ["/targets/forge-server/config/baseUrl", "/targets/forge-server/config/x"],
    ),
    ({"linear-default": {"secrets": {"nope": {"file": "id"}}}}, ["/targets/linear-default/secrets/nope"]),
    (
        {"linear-default": {"secrets": {"clientId": {"env": "NONE"}, "clientSecret": {"file": "none"}}}},
        ["/targets/linear-default/secrets/clientId", "/targets/linear-default/secrets/clientSecret"],
    ),
    (
        {"linear-default": {"secrets": {"clientId": {}}}, "a": {"x": 1}},
        ["/targets/a/x", "/targets/linear-default/secrets/clientId"],
    ),
    (
        {"linear-default": {"secrets": {"clientId": {"env": "A", "file": "b"}}}},
        ["/targets/linear-default/secrets/clientId"],
    ),
    ({"none": {}, "other": {}, "linear-default": {"enabled": True}}, ["/targets/none", "/targets/other"]),
    ([], ["/targets"]),
]


@pytest.mark.parametrize(("targets", "pointers"), FAULTY)
@pytest.mark.parametrize("url", ["sqlite"], indirect=True)  # the same code refuses
async def test_every_fault_is_told_and_nothing_changes(
    base: Foundation, tmp_path: Path, targets: Mapping[str, object], pointers: list[str]
) -> None:
    await run(base, tmp_path, None)
    before = await shown(base, "linear-default")
    with pytest.raises(SyncError) as caught:
        await run(base, tmp_path, targets)
    assert sorted(issue.pointer for issue in caught.value.issues) == pointers
    assert await shown(base, "linear-default") == before


@pytest.mark.parametrize(
    "content", [b"", b"[]", b'{"targets": {}, "targets": {}}', b'{"other": {}}', b'{"targets": 1.5}']
)
def test_what_is_no_file_of_targets(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(SyncError):
        read_file(content, {}, tmp_path)
