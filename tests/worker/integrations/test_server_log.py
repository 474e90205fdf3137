"""A ring of lines in which no secret stands."""

import pytest

from worker.integrations.server_log import ServerLog

SECRET = "hunter2-hunter2"


def log(lines: int = 10, line_bytes: int = 64) -> ServerLog:
    return ServerLog(most_lines=lines, most_line_bytes=line_bytes)


@pytest.mark.parametrize("chunk", [1, 3, 1000])
def test_lines_are_kept_however_they_come(chunk: int) -> None:
    kept = log()
    data = b"one\ntwo\r\n\xff\x1b[31mred\nlast"
    for start in range(0, len(data), chunk):
        kept.write(data[start : start + chunk])
    assert kept.tail(9) == ["one", "two", "\ufffd [31mred"]
    kept.end()
    assert (kept.tail(1), kept.tail(0), repr(kept)) == (["last"], [], "<ServerLog 4 lines>")


def test_only_the_last_are_kept_and_a_long_one_is_cut() -> None:
    kept = log(2, 8)
    kept.write(b"a\nb\n" + b"x" * 1000)
    kept.write(b"x" * 1000 + b"\nafter\n")
    assert kept.tail(9) == ["xxxxxxxx", "after"]


@pytest.mark.parametrize("chunk", [1, 7, 1000])
@pytest.mark.parametrize("before", range(40, 70, 3))
def test_a_secret_is_blanked_wherever_it_stands(chunk: int, before: int) -> None:
    kept = log()
    kept.hide((SECRET, "line-one\nline-two"))
    data = b"." * before + SECRET.encode() + b"!" * 50 + b"\nand line-two\n"
    for start in range(0, len(data), chunk):
        kept.write(data[start : start + chunk])
    kept.end()
    text = "\n".join(kept.tail(9))
    assert not any(SECRET[:length] in text for length in range(4, len(SECRET) + 1))
    assert kept.tail(1) == ["and <Secret>"]


def test_what_is_not_of_standard_error_is_named() -> None:
    kept = log()
    kept.hide((SECRET, "ab"))
    kept.write(b"hello\n", stream="stdout")
    kept.note(f"it said {SECRET}, and ab")
    assert kept.tail(2) == ["[stdout] hello", "[worker] it said <Secret>, and ab"]
