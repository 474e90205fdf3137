"""yamux v0: many streams in one ordered byte stream, each with two halves and two windows.

frames.py has the header and every constant of the published specification, window.py the flow control,
stream_state.py the states of a stream as a table, session.py one side of the whole: bytes in, calls of a sink,
bytes out. No clock and no socket here. The specification on one page is docs/tunnel-protocol.md.
Open session.py first.
"""
