"""The report says in words what was received, and never more than that."""

import io

from rich.console import Console

from demo.ledger import Presence, Received
from demo.report import print_opening, print_result
from demo.steps import Outcome, Step
from demo.tap import Crossed

STEP = Step(title="git clone", sent="no user", saw="the working tree", command=("git",), checks=(), home="git")

UP, DOWN = Crossed(messages=3, size=1200), Crossed(messages=4, size=34567)


def printed(presence: Presence, *faults: str, times: int = 1) -> str:
    entry = Received(
        host="github.com",
        method="GET",
        path="/a.git",
        header="Authorization",
        presence=presence,
        foreign_headers=(),
        body_bytes_announced=None,
    )
    page = io.StringIO()
    console = Console(file=page, width=200)
    outcome = Outcome(status=0, output="", errors="", received=[entry] * times, sent_up=UP, sent_down=DOWN)
    print_result(console, 3, STEP, outcome, list(faults))
    return page.getvalue()


def test_a_step_that_passed() -> None:
    page = printed(Presence.EXACT, times=2)
    assert "3. git clone  passed" in page
    assert "GET github.com/a.git: the exact credential in Authorization (2 times)" in page
    assert "1,200 bytes in 3 messages up, 34,567 in 4 down; no credential in them" in page
    assert "the working tree; no credential in its environment, answer, files" in page


def test_a_step_that_failed_claims_nothing() -> None:
    page = printed(Presence.WRONG, "environment: raw")
    assert "3. git clone  failed" in page
    assert "a WRONG credential in Authorization" in page
    assert "environment: raw" in page
    assert "no credential in" not in page


def test_the_opening_says_whose_origins_these_are() -> None:
    page = io.StringIO()
    print_opening(Console(file=page, width=200))
    assert "The origins are OURS" in page.getvalue()
