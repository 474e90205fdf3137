"""Which Go compiler builds the peers in Go."""

import pytest

from benchmarks.peers import go


@pytest.mark.parametrize(
    ("version", "is_recent"), [("1.19.8", False), ("1.20", True), ("1.27.3", True), ("1.21rc2", True), ("2.0", True)]
)
def test_a_compiler_has_to_know_what_the_peers_use(version: str, is_recent: bool) -> None:
    assert go._is_recent(version) is is_recent
