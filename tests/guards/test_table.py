"""The table of guards fits the source: text, replacement and test of each are there."""

from pathlib import Path

import pytest

from tests.guards.breaking import Guard, faults_of
from tests.guards.table import GUARDS

GOOD = Guard("name", "part/a.py", "if x:", "if False:", "tests/test_a.py::test_b")


def test_every_entry_fits_the_source() -> None:
    assert [(guard.name, fault) for guard in GUARDS if (fault := faults_of(guard))] == []


def test_names_are_used_once() -> None:
    names = [guard.name for guard in GUARDS]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("entry", "fault"),
    [
        (GOOD, ""),
        (GOOD._replace(file="part/b.py"), "part/b.py holds its text 0 times, not once"),
        (GOOD._replace(text="if y:"), "part/a.py holds its text 0 times, not once"),
        (GOOD._replace(text="x"), "part/a.py holds its text 2 times, not once"),
        (GOOD._replace(replacement="if :"), "its replacement is no Python"),
        (GOOD._replace(replacement="if x: "), "its replacement changes nothing"),
        (GOOD._replace(test="tests/test_a.py::test_c"), "there is no test tests/test_a.py::test_c"),
        (GOOD._replace(test="tests/test_b.py::test_b"), "there is no test tests/test_b.py::test_b"),
    ],
)
def test_planted_entries(tmp_path: Path, entry: Guard, fault: str) -> None:
    for file, text in (("part/a.py", "if x:\n    x = 1\n"), ("tests/test_a.py", "def test_b() -> None: ...\n")):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text(text)
    assert faults_of(entry, tmp_path).startswith(fault)
    assert bool(faults_of(entry, tmp_path)) is bool(fault)
