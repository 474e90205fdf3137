"""What a stream is before its session has done anything to it."""

from sallyport.wire.yamux.frames import INITIAL_WINDOW_BYTES
from sallyport.wire.yamux.stream import NO_ID, MuxStream


def test_a_stream_of_ours_owes_a_syn_and_waits_to_be_accepted() -> None:
    stream = MuxStream(None, is_local=True)
    assert (stream.owes_syn, stream.owes_ack, stream.is_accepted, stream.id) == (True, False, False, NO_ID)
    assert stream.credit == stream.window.size == INITIAL_WINDOW_BYTES


def test_a_stream_of_the_peer_owes_an_ack() -> None:
    stream = MuxStream(None, is_local=False)
    stream.id = 3
    assert (stream.owes_syn, stream.owes_ack, stream.is_accepted) == (False, True, True)
    assert repr(stream) == "<MuxStream 3 open: 0 bytes unsent>"
