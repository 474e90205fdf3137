"""Bytes <-> meaning: HTTP/1.1, the TLS ClientHello and (later) yamux and WebSocket frames.

Pure: no sockets, clock, randomness or tasks, and nothing of plans or secrets. What a peer sends
raises RemoteProtocolError or is a value; there is no third outcome. Open http1/codec.py first.
"""
