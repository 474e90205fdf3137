"""Messages of DNS: read strictly, answered in the form that resolvers read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sallyport.wire.dns import Kind, Reply, read_question, write_malformed, write_reply
from sallyport.wire.errors import RemoteProtocolError
from tests.support.dns_questions import AAAA, A, answered, question


def test_a_question_is_read_as_it_was_written() -> None:
    read = read_question(question("Api.Example.COM", A, number=513))
    assert (read.message_id, read.name, read.kind, read.space) == (513, "Api.Example.COM", Kind.A, 1)
    assert read.is_query


def test_an_answer_repeats_the_question_and_names_it() -> None:
    asked = question("Api.Example.COM", A)
    reply = answered(write_reply(read_question(asked), Reply.DONE, [bytes((198, 18, 0, 1))], 60))
    assert reply.question == asked[12:]
    assert (reply.number, reply.code, reply.addresses) == (7, 0, ((bytes((198, 18, 0, 1)), 60),))


def test_edns_behind_the_question_is_passed_over() -> None:
    plain = question("a.test")
    with_options = plain[:10] + b"\0\1" + plain[12:] + b"\0\0\x29\x10\0\0\0\0\0\0\0"
    assert read_question(with_options).written == plain[12:]


@pytest.mark.parametrize(
    "message",
    [
        b"",
        question("a.test")[:11],
        question("a.test", flags=0x8100),  # an answer
        question("a.test")[:4] + b"\0\2" + question("a.test")[6:],  # two questions
        question("a.test")[:4] + b"\0\0" + question("a.test")[6:],  # none
        question("a.test")[:-1],
        question("a.test")[:-6],
        question("a.test")[:12] + b"\xc0\x0c" + b"\0\1\0\1",  # a name that refers to itself
        question("x" * 64),
        question(".".join(["x" * 63] * 4)),
        question("a.test")[:12] + b"\3a.b\0\0\1\0\1",
    ],
)
def test_what_is_no_one_question_is_refused(message: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        read_question(message)


def test_what_cannot_be_read_is_answered_by_its_number_alone() -> None:
    malformed = write_malformed(question("a.test", number=99)[:13])
    assert malformed is not None
    assert (answered(malformed).number, answered(malformed).code) == (99, Reply.MALFORMED)
    assert write_malformed(b"\0" * 11) is None
    assert write_malformed(question("a.test", flags=0x8000)) is None


@given(st.binary(max_size=600))
def test_any_bytes_are_read_or_refused(message: bytes) -> None:
    try:
        read = read_question(message)
    except RemoteProtocolError:
        return
    assert message[12:].startswith(read.written)
    assert len(write_reply(read, Reply.DONE, [bytes(16)], 60)) <= 512


@given(st.lists(st.text("abc-_0", min_size=1, max_size=63), min_size=1, max_size=3), st.sampled_from([A, AAAA]))
def test_any_name_comes_back(labels: list[str], kind: int) -> None:
    assert read_question(question(".".join(labels), kind)).name == ".".join(labels)
