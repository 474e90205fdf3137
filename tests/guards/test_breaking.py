"""The harness itself: a guard that is missed is told from one that is not, and the source is left as it was."""

from pathlib import Path

import pytest

from tests.guards.breaking import ROOT, Guard, break_all

WINDOW = "sallyport/wire/yamux/window.py"
TEST = "tests/sallyport/wire/yamux/test_window.py::test_what_is_granted_may_come_and_not_a_byte_more"
MISSED = Guard("missed", WINDOW, "if count > self.available:", "if False:", TEST)
NOT_MISSED = Guard("not missed", WINDOW, "MAX_WINDOW_BYTES: Final = 4 *", "MAX_WINDOW_BYTES: Final = 5 *", TEST)
NOT_RUN = Guard("not run", WINDOW, "from typing import Final", "from nowhere import Final", TEST)


@pytest.mark.full
def test_planted_guards(tmp_path: Path) -> None:
    before = (ROOT / WINDOW).read_bytes()
    missed, not_missed, not_run = break_all([MISSED, NOT_MISSED, NOT_RUN], tmp_path, processes=1)
    assert missed == ""
    assert not_missed.startswith(f"{TEST} passes without it")
    assert not_run.startswith(f"{TEST} does not run without it")
    assert (ROOT / WINDOW).read_bytes() == (tmp_path / "0" / WINDOW).read_bytes() == before


@pytest.mark.full
def test_a_test_that_fails_anyway_proves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="fail before anything is broken"):
        list(break_all([MISSED._replace(test=f"{TEST}_")], tmp_path, processes=1))
