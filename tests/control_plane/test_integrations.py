"""Integrations of manifests and of packages: a faulty file keeps from starting, a faulty package is left out."""

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from control_plane.definitions.catalog import CATALOG
from control_plane.definitions.linear import default as linear
from control_plane.definitions.registry import ENTRY_POINT_GROUP
from control_plane.foundation import StartError, foundation
from control_plane.integrations import MAX_MANIFESTS, IntegrationsError, load_registry
from tests.support.control_plane import NOW, settings
from tests.support.integrations import FOLDER, put_package, small_manifest

ROOT = Path(__file__).resolve().parent.parent.parent

type Write = Callable[[str, object], Path]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found = tmp_path / "manifests"
    found.mkdir()
    return found


@pytest.fixture
def write(folder: Path) -> Write:
    def write(name: str, content: object) -> Path:
        path = folder / name
        path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
        return path

    return write


def refused(folder: Path) -> tuple[str, ...]:
    with pytest.raises(IntegrationsError) as caught:
        load_registry(folder, [])
    return caught.value.faults


def variants(folder: Path | None) -> set[str]:
    return {definition.variant_id for definition in load_registry(folder, [])}


BUILT_IN = {definition.variant_id for definition in CATALOG}


# --- manifests --------------------------------------------------------------------------------------------------------


def test_without_a_folder_there_is_the_catalog() -> None:
    assert variants(None) == BUILT_IN


def test_a_folder_of_manifests(folder: Path, write: Write) -> None:
    write("a.json", small_manifest())
    write("b.yaml", "# YAML has JSON in it\n" + json.dumps(small_manifest(variantId="small-other")))
    write(".hidden.yaml", "not: one")
    write("README.md", "not one")
    assert variants(folder) == BUILT_IN | {"small-default", "small-other"}
    assert variants(FOLDER) > BUILT_IN


def test_all_faults_of_all_manifests_are_told_with_their_places(folder: Path, write: Write) -> None:
    one = write("a.yaml", small_manifest(familyId="A A", logoKey=7))
    two = write("b.yml", "a: 1\na: 2\n")
    three = write("c.json", '{"a": 1, "a": 2}')
    four = write("d.json", small_manifest(variantId="linear-default"))
    five = write("e.json", "[]")
    found = refused(folder)
    assert {fault.split(": ")[0] for fault in found} == {str(path) for path in (one, two, three, four, five)}
    assert [fault.split(": ")[1] for fault in found if fault.startswith(str(one))] == ["/familyId", "/logoKey"]
    assert any("'a' stands twice" in fault for fault in found)
    assert any("two definitions have the variant linear-default" in fault for fault in found)


def test_two_manifests_of_one_variant(folder: Path, write: Write) -> None:
    write("a.json", small_manifest())
    other = write("b.json", small_manifest(familyId="other"))
    [fault] = refused(folder)
    assert fault.startswith(f"{other}: two definitions have the variant small-default")


def test_a_folder_that_is_none(folder: Path, write: Write) -> None:
    assert refused(folder / "none") == (f"{folder / 'none'}: No such file or directory",)
    assert refused(write("a.json", "{}")) == (f"{folder / 'a.json'}: Not a directory",)


def test_a_file_that_is_too_long(folder: Path, write: Write) -> None:
    write("a.json", " " * (1024 * 1024 + 1))
    assert "larger than 1 MiB" in refused(folder)[0]


def test_a_file_that_cannot_be_read(folder: Path) -> None:
    (folder / "a.json").mkdir()
    (folder / "b.yaml").symlink_to(folder / "none")
    assert all("cannot be read" in fault for fault in refused(folder))
    assert len(refused(folder)) == 2


def test_a_folder_of_too_many(folder: Path, write: Write) -> None:
    for number in range(MAX_MANIFESTS + 1):
        write(f"{number}.json", "{}")
    assert refused(folder) == (f"{folder}: more than {MAX_MANIFESTS} manifests",)


async def test_a_control_plane_does_not_start_with_a_faulty_manifest(
    tmp_path: Path, folder: Path, write: Write
) -> None:
    config = settings(
        tmp_path / "data", f"sqlite:///{tmp_path / 'test.db'}", SALLYPORT_INTEGRATION_MANIFESTS=str(folder)
    )
    write("a.json", small_manifest(surprise=1))
    with pytest.raises(StartError, match="/surprise"):
        async with foundation(config, now=NOW):
            pass
    write("a.json", small_manifest())
    async with foundation(config, now=NOW) as base:
        assert base.registry.find("small", "small-default") is not None


# --- packages ---------------------------------------------------------------------------------------------------------


def point(value: str) -> EntryPoint:
    return EntryPoint(name=value.partition(":")[0], value=value, group=ENTRY_POINT_GROUP)


@pytest.mark.parametrize(
    "value",
    [
        "no_such_package:DEFINITION",
        "control_plane.definitions.linear.default:NOTHING",
        "json:loads",
        "control_plane.definitions.linear.default:DEFINITION",  # the catalog has it
        "tests.control_plane.test_integrations:UNSOUND",
    ],
)
def test_a_package_that_does_not_fit_is_left_out(value: str) -> None:
    registry = load_registry(None, [point(value)])
    assert registry.left_out == (value.partition(":")[0],)
    assert {definition.variant_id for definition in registry} == BUILT_IN


UNSOUND = dataclasses.replace(linear.DEFINITION, variant_id="unsound", connection_methods=[])

GOOD = """
import dataclasses

from control_plane.definitions.linear.default import DEFINITION as LINEAR

DEFINITION = dataclasses.replace(LINEAR, family_id="acme", variant_id="acme-tracker")
UNSOUND = dataclasses.replace(DEFINITION, variant_id="acme-unsound", connection_methods=[])
"""
SEEN = """
import json
from control_plane.integrations import load_registry
registry = load_registry(None)
print(json.dumps({"variants": [each.variant_id for each in registry], "left_out": registry.left_out}))
"""


def test_installed_packages_add_theirs_and_a_broken_one_stops_nothing(tmp_path: Path) -> None:
    points = {"acme": "acme_tracker:DEFINITION", "acme-unsound": "acme_tracker:UNSOUND"}
    put_package(tmp_path, "acme_tracker", GOOD, points)
    put_package(tmp_path, "broken_tracker", "raise RuntimeError('canary')", {"broken": "broken_tracker:DEFINITION"})
    put_package(tmp_path, "quitting_tracker", "import sys\nsys.exit(3)", {"quitting": "quitting_tracker:DEFINITION"})
    found = subprocess.run(
        [sys.executable, "-c", SEEN],
        env=os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    seen = json.loads(found.stdout.splitlines()[-1])
    assert set(seen["variants"]) == BUILT_IN | {"acme-tracker"}
    assert seen["left_out"] == ["acme-unsound", "broken", "quitting"]
    assert "canary" not in found.stdout + found.stderr, "what a stranger's error says is not ours to repeat"
