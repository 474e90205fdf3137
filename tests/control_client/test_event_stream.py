"""Server-sent events: the same however the bytes are cut, and bounded."""

import itertools

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from control_client.errors import ControlError
from control_client.event_stream import Event, EventStream

STREAM = (
    b": hello\n\nid: 7\nevent: plan\ndata: {}\n\n"
    b"retry: 10\r\nevent: plan_removed\r\ndata: a\r\ndata:b\r\n\r\nunknown: x\ndata\n\nevent: lost\n\ndata: last\n\n"
)
EVENTS = [
    Event("plan", b"{}", "7"),
    Event("plan_removed", b"a\nb", "7"),
    Event("message", b"", "7"),
    Event("message", b"last", "7"),
]


def test_events_are_read() -> None:
    assert EventStream().feed(STREAM) == EVENTS


def test_the_same_byte_by_byte() -> None:
    stream = EventStream()
    assert [event for at in range(len(STREAM)) for event in stream.feed(STREAM[at : at + 1])] == EVENTS
    assert repr(stream) == "<EventStream at 7, 0 bytes held>"


@given(st.lists(st.integers(0, len(STREAM)), max_size=8))
def test_property_cuts_do_not_matter(cuts: list[int]) -> None:
    stream, found = EventStream(), []
    places = [0, *sorted(cuts), len(STREAM)]
    for begin, end in itertools.pairwise(places):
        found += stream.feed(STREAM[begin:end])
    assert found == EVENTS


def outcome(data: bytes, size: int) -> list[Event] | str:
    """Feed data in pieces of a size; the events, or the error."""
    stream, found = EventStream(32), []
    try:
        for at in range(0, len(data), size):
            found += stream.feed(data[at : at + size])
    except ControlError as error:
        return str(error)
    return found


@given(st.binary(max_size=80) | st.text("data:\n\r idevn\0", max_size=60).map(str.encode))
@example(b": " + b"x" * 40 + b"\n")
@example(b"data: " + b"x" * 28 + b"\r\n\n")
def test_property_any_bytes_are_events_or_a_control_error_however_they_are_cut(data: bytes) -> None:
    whole = outcome(data, max(1, len(data)))
    assert isinstance(whole, str) or all(len(event.data) <= 32 for event in whole)
    if not isinstance(whole, str) or "more than" in whole:
        assert outcome(data, 1) == whole


def test_an_event_half_sent_is_none() -> None:
    assert EventStream().feed(b"event: plan\ndata: {}\n") == []


@pytest.mark.parametrize(
    "data",
    [
        b"data: " + b"x" * 200,  # a line without an end
        b"data: " + b"x" * 50 + b"\ndata: " + b"x" * 50 + b"\ndata: x\n",  # lines without an event
        b"data: a\0b\n",
        b"data: a\rb\n",
        b"event: pl\xc3\xa4n\n",
        b"id: 1\x07\n",
        b"event: " + b"x" * 257 + b"\n",
    ],
)
def test_what_is_too_much_or_unreadable(data: bytes) -> None:
    with pytest.raises(ControlError):
        EventStream(100).feed(data)


def test_what_was_read_makes_room() -> None:
    stream = EventStream(100)
    for _ in range(50):
        assert len(stream.feed(b"data: " + b"x" * 80 + b"\n\n")) == 1
