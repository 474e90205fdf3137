"""The programs measured beside the gateway: one module and one configuration file per peer.

Every peer does the gateway's visible work: it takes the client's `Authorization` out, writes the real one, keeps
upstream links open and writes one access line per request. Nothing here may favour a side: a setting that a peer's
own documentation advises belongs in its file.

Open `nginx.py` first.
"""
