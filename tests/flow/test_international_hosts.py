"""H3, what holds beside the refusals: a host of other letters is managed, and reached, by its A-label, by both ways."""

import pytest

from tests.support.egress_stage import (
    ADDED_LINES,
    HOSTILE,
    Case,
    Played,
    asks_inside,
    asks_plainly,
    of,
    play_all,
)
from tests.support.egress_ways import WAYS

pytestmark = HOSTILE

# bücher, and straße as it is today: the second has lower-case letters beside its digits.
LABELS = {"xn--bcher-kva": "bücher", "xn--strae-oqa": "straße"}
ARRIVED = b"GET /v1/x HTTP/1.1\r\nHost: {host}\r\n" + ADDED_LINES

H3 = [
    case
    for label, letters in LABELS.items()
    for case in (
        Case(
            name=f"H3 {label} inside",
            prefix=f"{label}.",
            play=asks_inside(b"GET /v1/x HTTP/1.1\r\nHost: {host}\r\n\r\n"),
            status=200,
            sent=(ARRIVED,),
        ),
        Case(
            name=f"H3 {label} plain",
            prefix=f"{label}.",
            play=asks_plainly(b"GET http://{host}/v1/x HTTP/1.1\r\nHost: {host}\r\n\r\n"),
            status=200,
            sent=(ARRIVED,),
        ),
        # One host, however its letters are written.
        Case(
            name=f"H3 {label} in capitals",
            prefix=f"{label}.",
            play=asks_plainly(b"GET http://{HOST}/v1/x HTTP/1.1\r\nHost: {HOST}\r\n\r\n"),
            status=200,
            sent=(ARRIVED,),
        ),
        # Its letters themselves are never folded into it.
        Case(
            name=f"H3 {label} by its letters",
            prefix=f"{label}.",
            play=asks_inside(f"GET /v1/x HTTP/1.1\r\nHost: {letters}.test\r\n\r\n".encode()),
            status=400,
            code="invalid_request",
        ),
    )
]


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Played:
    return play_all(tmp_path_factory.mktemp("international"), H3, ways=WAYS)


@of(H3)
def test_h3_a_managed_host_is_reached_by_its_a_label(case: Case, way: str, played: Played) -> None:
    played.check(case, way)


def test_nothing_happened_that_belongs_to_no_case(played: Played) -> None:
    played.check_the_whole()
