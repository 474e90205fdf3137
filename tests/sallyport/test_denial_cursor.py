"""Cursors of several processes in one text."""

import pytest

from sallyport.denial_cursor import MAX_LENGTH, MAX_PROCESSES, is_cursor, merge, number_of

ONE, TWO = "0a0b0c0d", "11223344"


def test_each_process_finds_its_own() -> None:
    cursor = f"{ONE}-7.{TWO}-12"
    assert (number_of(cursor, ONE), number_of(cursor, TWO), number_of(cursor, "ffffffff")) == (7, 12, 0)
    assert (number_of("", ONE), number_of(ONE, ONE), number_of(f"{ONE}-", ONE)) == (0, 0, 0)


def test_what_was_read_last_counts_and_the_silent_keep_their_place() -> None:
    assert merge("", []) == ""
    assert merge("", [f"{ONE}-1"]) == f"{ONE}-1"
    assert merge(f"{ONE}-1.{TWO}-5", [f"{ONE}-3"]) == f"{TWO}-5.{ONE}-3"
    assert merge(f"{ONE}-1", [f"{TWO}-2"]) == f"{ONE}-1.{TWO}-2"


def test_a_cursor_does_not_grow_for_ever() -> None:
    cursor = ""
    for number in range(3 * MAX_PROCESSES):
        cursor = merge(cursor, [f"{number:08x}-{number}"])
        assert is_cursor(cursor)
    assert len(cursor) <= MAX_LENGTH
    assert cursor.count(".") == MAX_PROCESSES - 1
    last = 3 * MAX_PROCESSES - 1
    assert number_of(cursor, f"{last:08x}") == last


@pytest.mark.parametrize(
    "text",
    ["", "x", f"{ONE}", f"{ONE}-", f"{ONE}-1.", f"{ONE}-1\n", f"{ONE}-" + "1" * 17, "0A0B0C0D-1", f"{ONE}-\u0661"],
)
def test_anything_else_is_no_cursor(text: str) -> None:
    assert not is_cursor(text)
