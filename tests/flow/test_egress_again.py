"""The suites of hostile requests once more: through a real sandboxd, and in pieces of a byte.

Every answer is the same. What sandboxd refuses by itself leaves no record at a gateway.
"""

import functools
from collections.abc import Callable
from types import ModuleType

import pytest

from tests.flow import test_egress_authority, test_egress_credentials, test_egress_framing, test_egress_paths
from tests.support.afterwards import AFTERWARDS
from tests.support.egress_stage import HOSTILE, Case, Played, each_way
from tests.support.egress_ways import SANDBOXD, WAYS
from tests.support.figures import InTime, RecordProperty
from tests.support.raw_end import RawEnd

pytestmark = [pytest.mark.full, pytest.mark.timeout(300)]

SUITES = {
    "paths": test_egress_paths,
    "authority": test_egress_authority,
    "framing": test_egress_framing,
    "credentials": test_egress_credentials,
}
# More pieces than this would only take longer.
MOST_PIECES = 3000

type PlayAgain = Callable[[str, bool], Played]


@pytest.fixture(scope="module")
def play_again(tmp_path_factory: pytest.TempPathFactory) -> PlayAgain:
    @functools.cache
    def play(suite: str, in_pieces: bool) -> Played:
        folder = tmp_path_factory.mktemp(suite)
        if not in_pieces:
            played: Played = SUITES[suite].play(folder, (SANDBOXD,))
            return played
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(RawEnd, "send", send_in_pieces)
            played = SUITES[suite].play(folder)
        return played

    return play


def send_in_pieces(end: RawEnd, data: bytes) -> None:
    step = len(data) // MOST_PIECES + 1
    for start in range(0, len(data), step):
        end.writer.write(data[start : start + step])


def cases_of(suite: ModuleType) -> list[Case]:
    tables = [value for name, value in vars(suite).items() if name.isupper() and isinstance(value, list)]
    return [case for table in tables for case in table if isinstance(case, Case)]


def again(*ways: str) -> pytest.MarkDecorator:
    cases = [(name, case, way) for name, suite in SUITES.items() for case, way in each_way(cases_of(suite), ways)]
    each = [pytest.param(*one, marks=HOSTILE) for one in cases]
    return pytest.mark.parametrize(("suite", "case", "way"), each, ids=str)


@again(SANDBOXD)
def test_a_sandboxd_between_changes_no_answer(suite: str, case: Case, way: str, play_again: PlayAgain) -> None:
    play_again(suite, False).check(case, way)


@again(*WAYS)
def test_pieces_of_a_byte_change_no_answer(suite: str, case: Case, way: str, play_again: PlayAgain) -> None:
    play_again(suite, True).check(case, way)


@AFTERWARDS
@pytest.mark.parametrize("in_pieces", [False, True])
@pytest.mark.parametrize("suite", SUITES)
def test_t6_a_plain_request_succeeds_after_each(
    suite: str, in_pieces: bool, play_again: PlayAgain, record_property: RecordProperty, in_time: InTime
) -> None:
    play_again(suite, in_pieces).check_afterwards(record_property, in_time)


@pytest.mark.parametrize("in_pieces", [False, True])
@pytest.mark.parametrize("suite", SUITES)
def test_nothing_happened_that_belongs_to_no_case(suite: str, in_pieces: bool, play_again: PlayAgain) -> None:
    play_again(suite, in_pieces).check_the_whole()
