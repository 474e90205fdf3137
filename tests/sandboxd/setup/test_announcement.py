"""What is said before a document comes; bad ones over the tunnel are in test_setup.py."""

import pytest

from sallyport.setup import MAX_SETUP_BYTES, setup_digest
from sallyport.wire.errors import RemoteProtocolError
from sandboxd.setup.announcement import read_announcement

MESSAGE = {"type": "setup.apply", "revision": 3, "digest": setup_digest(b"{}"), "sizeBytes": 2}


def test_it_is_of_certain_bytes() -> None:
    announced = read_announcement(MESSAGE)
    assert announced.revision == 3
    assert announced.is_of(b"{}")
    assert not announced.is_of(b"[]")
    assert not announced.is_of(b"{} ")


@pytest.mark.parametrize(
    "change", [{"revision": 0}, {"digest": None}, {"sizeBytes": 0}, {"sizeBytes": MAX_SETUP_BYTES + 1}]
)
def test_what_says_nothing(change: dict[str, object]) -> None:
    with pytest.raises(RemoteProtocolError, match=r"setup\.apply"):
        read_announcement(MESSAGE | change)
