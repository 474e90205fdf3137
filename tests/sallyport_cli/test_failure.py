from collections.abc import Callable

import pytest

from sallyport_cli.failure import ExitStatus, Failure, bad_input, environment


@pytest.mark.parametrize(("make", "status"), [(bad_input, 2), (environment, 3)])
def test_status_by_kind(make: Callable[[str, str], Failure], status: int) -> None:
    failure = make("what", "what to do")
    assert (failure.status, failure.message, failure.hint) == (status, "what", "what to do")


def test_statuses_are_those_documented() -> None:
    assert [int(status) for status in ExitStatus] == [0, 1, 2, 3, 70, 126, 127, 130]
