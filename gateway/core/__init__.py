"""The gateway's decisions as pure code: bytes, time and state come in as arguments.

Classification, injection, scrubbing, the credential cache's rules, the pool's states. No
sockets, tasks, clocks, logs or randomness, and no import from the rest of `gateway`.

Open first: `gateway/core/classify.py`.
"""
