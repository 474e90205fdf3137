"""Placeholders of a plan are found wherever they stand, and how many there are costs nothing (C5)."""

from collections import UserDict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.placeholders import BLOCK_BYTES, FEW, FIRST_BYTES, Placeholders

HEAD = b"POST /v1/chat HTTP/1.1\r\nHost: api.example.com\r\nUser-Agent: agent/1.0 (Linux)\r\nAccept: text/event-stream"


def many(count: int, length: int = 24) -> list[bytes]:
    """Values that have nothing in common."""
    return [b"%0*x" % (length, (number + 1) * 0x9E3779B97F4A7C15 % 16**length) for number in range(count)]


@pytest.mark.parametrize("count", [1, FEW, FEW + 1, 1000])
def test_each_is_found_at_every_place(count: int) -> None:
    values = many(count)
    placeholders = Placeholders(values)
    assert placeholders
    assert not placeholders.stand_in(HEAD)
    for value in (values[0], values[-1]):
        for at in range(len(HEAD) + 1):
            assert placeholders.stand_in(HEAD[:at] + value + HEAD[at:])
        assert not placeholders.stand_in(HEAD + value[:-1])
        assert not placeholders.stand_in(value[1:] + HEAD)
    assert repr(placeholders) == f"<Placeholders: {count}>"


def test_none_stand_nowhere() -> None:
    placeholders = Placeholders([])
    assert not placeholders
    assert not placeholders.stand_in(HEAD)
    assert not placeholders.stand_in(b"")


def test_those_that_begin_alike_and_have_other_lengths() -> None:
    values = [b"sp-place" + b"x" * number for number in range(2, 40, 2)]
    placeholders = Placeholders(values)
    assert placeholders.stand_in(b"an sp-placexx in the middle")
    assert not placeholders.stand_in(b"an sp-placex in the middle, and sp-plac")
    assert not placeholders.stand_in(b"sp-plac" * 1000)


VALUES = st.lists(st.text("ab", min_size=8, max_size=12).map(str.encode), min_size=1, max_size=30)


@given(VALUES, st.text("abc", max_size=80).map(str.encode))
def test_as_if_each_were_sought_by_itself(values: list[bytes], head: bytes) -> None:
    assert Placeholders(values).stand_in(head) == any(value in head for value in values)


class Counting(UserDict[bytes, tuple[int, ...]]):
    """Blocks that count how often they are looked up."""

    looks = 0

    def get(self, key: bytes, default: object = None) -> Any:  # noqa: ANN401  as the dict's
        self.looks += 1
        return self.data.get(key, default)


def test_a_thousand_are_sought_with_no_more_looks_than_ten() -> None:
    looks = []
    for count in (10, 1000):
        placeholders = Placeholders(many(count))
        placeholders._blocks = counting = Counting(placeholders._blocks)
        assert not placeholders.stand_in(HEAD)
        looks.append(counting.looks)
    assert looks[0] == looks[1] == len(range(0, len(HEAD) - BLOCK_BYTES + 1, FIRST_BYTES - BLOCK_BYTES + 1))
