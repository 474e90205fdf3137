"""The line at the end of a run: a death is counted where the test that meets it could not even begin."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# What the suites are like: a gateway in a fixture of the module, and what each vector is asked afterwards.
DEAD_IN_A_FIXTURE = """
import pytest

@pytest.fixture(scope="module")
def outcomes():
    raise ConnectionRefusedError("the gateway is dead")

@pytest.mark.counted("vectors", "deaths")
@pytest.mark.parametrize("vector", [1, 2, 3])
def test_afterwards(vector, outcomes): ...

@pytest.mark.counted("vectors", "deaths")
def test_that_is_well(): ...
"""
DEAD_AT_THE_END = """
import pytest

@pytest.fixture
def outcomes():
    yield
    raise ConnectionRefusedError("the gateway died when it was told to drain")

@pytest.mark.counted("vectors", "deaths")
def test_afterwards(outcomes): ...

@pytest.mark.counted("vectors", "deaths")
def test_that_fails_as_well(outcomes):
    raise AssertionError
"""
MANY_IN_A_LOOP = """
import pytest

@pytest.mark.counted("addresses", "reached")
@pytest.mark.parametrize("number", [40, 2])
def test_many(number, record_property):
    record_property("tried", ["addresses", number])
    record_property("longest", ["plain request", number / 100])
    assert number > 2

@pytest.mark.counted("addresses", "reached")
def test_that_fails_before_it_has_said_how_many():
    raise AssertionError

def test_of_another_kind(record_property):
    record_property("tried", ["tries", 7])

@pytest.mark.counted("vectors", "deaths")
@pytest.mark.skip(reason="vectors not here")
def test_that_is_not_run(): ...
"""


LATE = """
import pytest

@pytest.mark.counted("revocations", "late")
def test_late(in_time):
    in_time("from the revocation to the end", 2.0, 1.0)
"""


def summary(folder: Path, text: str, *arguments: str) -> str:
    """Run these tests in a process of their own, with what every test has; returns the lines of counts."""
    (folder / "test_it.py").write_text(text)
    command = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-c", str(ROOT / "pyproject.toml")]
    ran = subprocess.run(
        [*command, "--rootdir", str(folder), *arguments, str(folder / "test_it.py")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=50,
    )
    return "\n".join(line for line in ran.stdout.splitlines() if " tried: " in line) or ran.stdout + ran.stderr


@pytest.mark.parametrize("workers", [[], ["-n", "2"]], ids=["alone", "xdist"])
def test_a_gateway_that_dies_in_a_fixture_is_counted(tmp_path: Path, workers: list[str]) -> None:
    assert summary(tmp_path, DEAD_IN_A_FIXTURE, *workers) == "vectors tried: 4; deaths: 3"


def test_one_that_dies_at_the_end_is_counted_and_no_test_twice(tmp_path: Path) -> None:
    assert summary(tmp_path, DEAD_AT_THE_END) == "vectors tried: 2; deaths: 2"


def test_a_test_of_many_says_how_many(tmp_path: Path) -> None:
    told = summary(tmp_path, MANY_IN_A_LOOP)
    assert told == "addresses tried: 43; tries tried: 7; reached: 2; longest plain request: 0.400 s"


def test_what_cannot_be_collected_takes_no_counts_away(tmp_path: Path) -> None:
    assert "deaths" not in summary(tmp_path, "import no_such_module")
    assert "INTERNALERROR" not in summary(tmp_path, "import no_such_module")


@pytest.mark.parametrize(("arguments", "late"), [([], 0), (["--full"], 1)], ids=["fast", "full"])
def test_time_is_looked_at_under_full_alone(tmp_path: Path, arguments: list[str], late: int) -> None:
    assert summary(tmp_path, LATE, *arguments) == f"revocations tried: 1; late: {late}"
