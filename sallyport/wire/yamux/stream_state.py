"""The states of a stream. What is not in the table is illegal, and only this file says what follows what.

That the accepting side has said ACK is kept apart (session.py): it concerns opening alone, and a stream may be
half-closed or reset before it.
"""

from enum import Enum
from typing import Final

from sallyport.wire.errors import LocalProtocolError, RemoteProtocolError


class StreamState(Enum):
    """Which halves of a stream still carry bytes."""

    OPEN = "open"
    LOCAL_ENDED = "local side ended"  # we sent FIN
    REMOTE_ENDED = "remote side ended"  # the peer sent FIN
    ENDED = "ended"  # both did
    RESET = "reset"  # by either side


class StreamEvent(Enum):
    """What moves a stream from one state to another."""

    SEND_FIN = "FIN sent"
    SEND_RST = "RST sent"
    RECEIVE_FIN = "FIN received"
    RECEIVE_RST = "RST received"


_SENT: Final = (StreamEvent.SEND_FIN, StreamEvent.SEND_RST)

TRANSITIONS: Final[dict[StreamState, dict[StreamEvent, StreamState]]] = {
    StreamState.OPEN: {
        StreamEvent.SEND_FIN: StreamState.LOCAL_ENDED,
        StreamEvent.RECEIVE_FIN: StreamState.REMOTE_ENDED,
        StreamEvent.SEND_RST: StreamState.RESET,
        StreamEvent.RECEIVE_RST: StreamState.RESET,
    },
    StreamState.LOCAL_ENDED: {
        StreamEvent.RECEIVE_FIN: StreamState.ENDED,
        StreamEvent.SEND_RST: StreamState.RESET,
        StreamEvent.RECEIVE_RST: StreamState.RESET,
    },
    StreamState.REMOTE_ENDED: {
        StreamEvent.SEND_FIN: StreamState.ENDED,
        StreamEvent.SEND_RST: StreamState.RESET,
        StreamEvent.RECEIVE_RST: StreamState.RESET,
    },
    StreamState.ENDED: {},
    StreamState.RESET: {},
}


def advance(state: StreamState, event: StreamEvent) -> StreamState:
    """Return the state after event; raises RemoteProtocolError or LocalProtocolError, by whose event it is."""
    following = TRANSITIONS[state].get(event)
    if following is not None:
        return following
    what = f"{event.value} on a stream whose state is: {state.value}"
    raise LocalProtocolError(what) if event in _SENT else RemoteProtocolError(what)
