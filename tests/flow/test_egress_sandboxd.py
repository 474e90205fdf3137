"""The suites of hostile inputs once more, through a real sandboxd: what its sandbox asks is answered the same.

What sandboxd refuses by itself leaves no record at a gateway; everything else is as by the other two ways.
"""

from types import ModuleType

import pytest

from tests.flow import test_egress_authority, test_egress_credentials, test_egress_framing, test_egress_paths
from tests.support.egress_stage import Case, Played, each_way
from tests.support.egress_ways import SANDBOXD

pytestmark = [pytest.mark.full, pytest.mark.timeout(180)]

SUITES = {
    "paths": test_egress_paths,
    "authority": test_egress_authority,
    "framing": test_egress_framing,
    "credentials": test_egress_credentials,
}


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Played]:
    return {name: suite.play(tmp_path_factory.mktemp(name), (SANDBOXD,)) for name, suite in SUITES.items()}


def cases_of(suite: ModuleType) -> list[Case]:
    tables = [value for name, value in vars(suite).items() if name.isupper() and isinstance(value, list)]
    return [case for table in tables for case in table if isinstance(case, Case)]


@pytest.mark.parametrize(
    ("suite", "case"),
    [(name, case) for name, suite in SUITES.items() for case, _ in each_way(cases_of(suite), (SANDBOXD,))],
    ids=str,
)
def test_a_sandboxd_between_changes_no_answer(suite: str, case: Case, played: dict[str, Played]) -> None:
    played[suite].check(case, SANDBOXD)


@pytest.mark.parametrize("suite", SUITES)
def test_nothing_happened_that_belongs_to_no_case(suite: str, played: dict[str, Played]) -> None:
    played[suite].check_the_whole()
