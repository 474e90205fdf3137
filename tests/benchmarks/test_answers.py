"""Only complete, right answers are counted, however they are cut."""

import pytest

from benchmarks.answers import Answers, LoadError

_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody"


def test_an_answer_is_complete_with_its_last_byte() -> None:
    answers = Answers(4)
    for _ in range(3):
        assert [answers.feed(bytes([byte])) for byte in _ANSWER] == [False] * (len(_ANSWER) - 1) + [True]
    assert answers.feed(_ANSWER)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 4\r\n\r\nbody",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 40\r\n\r\nbody",
        _ANSWER + b"x",
    ],
    ids=["401", "chunked", "other length", "more than the answer"],
)
def test_all_else_is_an_error_also_after_right_ones(answer: bytes) -> None:
    answers = Answers(4)
    with pytest.raises(LoadError):
        answers.feed(answer)
    answers = Answers(4)
    assert answers.feed(_ANSWER)
    with pytest.raises(LoadError):
        answers.feed(answer)
