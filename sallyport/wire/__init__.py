"""Bytes <-> meaning: HTTP/1.1, the TLS ClientHello, WebSocket frames and yamux.

Pure: no sockets, clock, randomness or tasks, and nothing of plans or secrets. What a peer sends
raises RemoteProtocolError or is a value; there is no third outcome. Open http1/codec.py first.
"""
