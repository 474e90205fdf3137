"""The table: every pair of state and event is either in it or refused, and by whose fault."""

import pytest

from sallyport.wire.errors import LocalProtocolError, RemoteProtocolError
from sallyport.wire.yamux.stream_state import TRANSITIONS, StreamEvent, StreamState, advance

SENT = (StreamEvent.SEND_FIN, StreamEvent.SEND_RST)


@pytest.mark.parametrize("state", StreamState)
@pytest.mark.parametrize("event", StreamEvent)
def test_every_pair_leads_somewhere_or_is_refused(state: StreamState, event: StreamEvent) -> None:
    if event in TRANSITIONS[state]:
        assert advance(state, event) is TRANSITIONS[state][event]
        return
    with pytest.raises(LocalProtocolError if event in SENT else RemoteProtocolError, match=state.value):
        advance(state, event)


@pytest.mark.parametrize(
    ("events", "state"),
    [
        ([StreamEvent.SEND_FIN, StreamEvent.RECEIVE_FIN], StreamState.ENDED),
        ([StreamEvent.RECEIVE_FIN, StreamEvent.SEND_FIN], StreamState.ENDED),
        ([StreamEvent.RECEIVE_FIN, StreamEvent.SEND_RST], StreamState.RESET),
        ([StreamEvent.SEND_FIN, StreamEvent.RECEIVE_RST], StreamState.RESET),
    ],
)
def test_ways_to_the_end(events: list[StreamEvent], state: StreamState) -> None:
    reached = StreamState.OPEN
    for event in events:
        reached = advance(reached, event)
    assert reached is state


def test_nothing_leaves_an_end() -> None:
    assert TRANSITIONS[StreamState.ENDED] == TRANSITIONS[StreamState.RESET] == {}
