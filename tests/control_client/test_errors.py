"""What a ControlError says."""

from control_client.errors import UNEXPECTED_ANSWER, ControlError, unexpected


def test_its_text_is_the_word_and_what_happened() -> None:
    assert str(ControlError("a_word", temporary=False)) == "a_word"
    assert str(ControlError("a_word", temporary=False, detail="why")) == "a_word: why"


def test_an_answer_that_is_none_may_be_one_in_a_moment() -> None:
    error = unexpected("what it was", status=404)
    assert (error.code, error.temporary, error.status) == (UNEXPECTED_ANSWER, True, 404)
    assert error.retry_after_seconds > 0
