"""Meaning to sockets: transports, dialling, interception, time and tasks.

Knows bytes, addresses, certificates and the event loop. Must not know policy: it never imports
`sallyport.plan`, decides nothing about routes or credentials, and reads no environment.
Open `dial.py` first for the way out, `interception.py` and `tls.py` for where TLS ends,
`tunnel.py` for many streams over one WebSocket, `memory.py` for the transports that tests use instead of sockets.
"""
