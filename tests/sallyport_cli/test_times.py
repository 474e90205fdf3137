import pytest

from sallyport_cli.failure import Failure
from sallyport_cli.times import instant, seconds


def test_a_duration_has_its_unit() -> None:
    assert seconds("24h", "--ttl") == 86_400


@pytest.mark.parametrize("text", ["24", "0s", "-1h", "400d", "1 h", ""])
def test_a_bad_duration_names_the_option(text: str) -> None:
    with pytest.raises(Failure, match="--ttl"):
        seconds(text, "--ttl")


def test_instant_is_utc() -> None:
    assert instant(0) == "1970-01-01T00:00:00Z"
