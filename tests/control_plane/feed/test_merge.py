"""What is served of what is there, as values."""

from collections.abc import Mapping

import pytest

from control_plane.feed.merge import (
    MAX_IN_SANDBOXES,
    InSandbox,
    Kind,
    Listed,
    Owned,
    Reported,
    Runtime,
    differences,
    installation_name,
    merge,
    sandbox_name,
)
from control_plane.feed.tiers import Tier

FRONT = "http://127.0.0.1:4300"
BUILT_IN = "http://127.0.0.1:7500/mcp"
NOTHING: Mapping[str, Listed] = {}


def shared(name: str, tier: Tier = Tier.STANDARD, *, is_wanted: bool = True) -> Owned:
    return Owned(name, tier, None, Kind.SHARED, name, "wrk_1", f"stl_{name}", is_wanted)


def installed(user_id: str) -> Owned:
    name = installation_name("notes", user_id, "inl_1")
    return Owned(name, Tier.STANDARD, user_id, Kind.INSTALLATION, "inl_1", "wrk_1", "inl_1", True)


def running(*servers: Owned, status: str = "running", front: str | None = FRONT) -> Runtime:
    reported = [Reported(each.worker_id, each.server_id, each.tier, status, front) for each in servers]
    return runtime({(each.worker_id, each.server_id): each for each in reported})


def runtime(
    reported: Mapping[tuple[str, str], Reported] | None = None,
    *in_sandboxes: InSandbox,
    lost: tuple[str, ...] = (),
    is_settling: bool = False,
) -> Runtime:
    return Runtime(reported or {}, in_sandboxes, lost, is_settling)


def listed(name: str, url: str = "", kind: Kind = Kind.SHARED, subject: str = "", user_id: str | None = None) -> Listed:
    return Listed(name, url or f"{FRONT}/mcp/{name}", Tier.STANDARD, user_id, kind, subject or name)


@pytest.mark.parametrize(
    ("status", "is_new", "is_known"),
    [
        ("running", True, True),
        ("restarting", True, True),
        ("starting", False, True),
        ("stopped", False, False),
        ("stopping", False, False),
        ("crash_loop", False, False),
        ("removing", False, False),
    ],
)
def test_what_runs_or_comes_back_is_served(status: str, is_new: bool, is_known: bool) -> None:
    tool = shared("search")
    for known, is_served in ((NOTHING, is_new), ({"search": listed("search")}, is_known)):
        merged = merge([tool], running(tool, status=status), known, None)
        assert (merged.entries == {"search": listed("search")}) == is_served
        assert bool(merged.entries) == is_served
        assert not merged.is_stale


def test_what_is_not_wanted_or_cannot_be_called_or_is_of_another_tier_there_is_not_served() -> None:
    tool, unwanted = shared("search"), shared("old", is_wanted=False)
    assert merge([unwanted], running(unwanted), NOTHING, None).entries == {}
    assert merge([tool], running(tool, front=None), NOTHING, None).entries == {}
    assert merge([tool], runtime(), NOTHING, None).entries == {}
    assert merge([tool], running(shared("search", Tier.ADMIN)), NOTHING, None).entries == {}


def test_what_cannot_be_verified_stays_as_it_was() -> None:
    tool, new, unwanted = shared("search"), shared("new"), shared("old", is_wanted=False)
    known = {"search": listed("search", "http://there/mcp/search"), "old": listed("old"), "gone": listed("gone")}
    merged = merge([tool, new, unwanted], runtime(lost=("wrk_1",)), known, None)
    assert merged.entries == {"search": known["search"]}
    assert merged.is_stale


def test_another_instance_s_worker_that_is_lost_makes_nothing_stale() -> None:
    tool = shared("search")
    found = running(tool)._replace(lost=("wrk_2",))
    assert not merge([tool], found, NOTHING, None).is_stale


def test_the_built_in_server_is_there_also_while_it_is_not_known_where() -> None:
    known = merge([], runtime(), NOTHING, BUILT_IN).entries
    assert merge([], runtime(), known, None) == (known, True)
    assert merge([], runtime(), NOTHING, None) == ({}, False)


def test_what_a_user_installed_and_the_built_in_server() -> None:
    mine = installed("a@b")
    merged = merge([mine], running(mine), NOTHING, BUILT_IN)
    assert merged.entries["sallyport"] == Listed("sallyport", BUILT_IN, Tier.ADMIN, None, Kind.BUILT_IN, "sallyport")
    entry = merged.entries["notes__user_a@b__inl_1"]
    assert entry.url == f"{FRONT}/mcp/notes__user_a%40b__inl_1"
    assert [entry.is_seen_by(Tier.STANDARD, user) for user in ("a@b", "c", None)] == [True, False, False]
    assert [merged.entries["sallyport"].is_seen_by(tier, "c") for tier in Tier] == [False, True]


def test_servers_of_sandboxes() -> None:
    inside = InSandbox("sbx_1", "files", FRONT)
    for_admins = InSandbox("sbx_1", "ops", FRONT, Tier.ADMIN)
    entries = merge([], runtime({}, inside, for_admins), NOTHING, None).entries
    assert set(entries) == {"sandbox__sbx_1__files", "sandbox__sbx_1__ops"}
    assert entries["sandbox__sbx_1__files"].url == f"{FRONT}/mcp/sandbox__sbx_1__files"
    assert {name: each.tier.value for name, each in entries.items()} == {
        "sandbox__sbx_1__files": "standard",
        "sandbox__sbx_1__ops": "admin",
    }
    many = [InSandbox("sbx_1", f"s{number:04}", FRONT) for number in range(MAX_IN_SANDBOXES + 1)]
    assert len(merge([], runtime({}, *many), NOTHING, None).entries) == MAX_IN_SANDBOXES


def test_a_sandbox_that_no_gateway_told_of_yet_stays_while_they_come_back() -> None:
    name = sandbox_name("sbx_1", "files")
    known = {name: listed(name, kind=Kind.SANDBOX, subject="sbx_1"), "search": listed("search")}
    unheld = InSandbox("sbx_1", "files", FRONT, is_held=False)
    settling = merge([], runtime({}, unheld, is_settling=True), known, None)
    assert (settling.entries, settling.is_stale) == ({name: known[name]}, True)
    assert merge([], runtime({}, unheld), known, None) == ({}, False)
    assert merge([], runtime({}, unheld, is_settling=True), {}, None) == ({}, False)
    # Its plan has it no more, or it was deleted.
    assert merge([], runtime(is_settling=True), known, None) == ({}, False)
    told = merge([], runtime({}, InSandbox("sbx_1", "files", FRONT), is_settling=True), known, None)
    assert (set(told.entries), told.is_stale) == ({name}, False)


def test_differences_are_told_by_what_they_are_about() -> None:
    before = {
        "stays": listed("stays"),
        "moves": listed("moves"),
        "goes": listed("goes"),
        "a": listed("a", kind=Kind.SANDBOX, subject="sbx_1"),
        "b": listed("b", kind=Kind.SANDBOX, subject="sbx_1"),
        "c": listed("c", kind=Kind.SANDBOX, subject="sbx_2"),
        "mine": listed("mine", kind=Kind.INSTALLATION, subject="inl_1", user_id="u"),
        "yours": listed("yours", kind=Kind.INSTALLATION, subject="inl_2", user_id="v"),
    }
    after = {
        "stays": before["stays"],
        "moves": listed("moves", "http://elsewhere/mcp/moves"),
        "comes": listed("comes"),
        "mine": before["mine"]._replace(url="http://elsewhere/mcp/mine"),
        "new": listed("new", kind=Kind.INSTALLATION, subject="inl_3", user_id="w"),
        "d": listed("d", kind=Kind.SANDBOX, subject="sbx_3"),
        "sallyport": listed("sallyport", kind=Kind.BUILT_IN, subject="sallyport"),
    }
    assert differences(before, before, ()) == []
    found = {tuple(each.meta.items()): each for each in differences(before, after, {"sbx_2"})}
    told = {key: (each.event, names(each.removed), names(each.added)) for key, each in found.items()}
    assert told == {
        (("toolId", "goes"),): ("shared_tool_stopped", "goes", ""),
        (("sandboxId", "sbx_1"),): ("sandbox_stopped", "a b", ""),
        (("sandboxId", "sbx_2"),): ("sandbox_destroyed", "c", ""),
        (("installationId", "inl_2"), ("userId", "v")): ("installation_deleted", "yours", ""),
        (("toolId", "moves"),): ("shared_tool_started", "", "moves"),
        (("toolId", "comes"),): ("shared_tool_started", "", "comes"),
        (("installationId", "inl_1"), ("userId", "u")): ("installation_updated", "", "mine"),
        (("installationId", "inl_3"), ("userId", "w")): ("installation_created", "", "new"),
        (("sandboxId", "sbx_3"),): ("sandbox_started", "", "d"),
        (): ("config_changed", "", "sallyport"),
    }


def names(entries: tuple[Listed, ...]) -> str:
    return " ".join(each.name for each in entries)
