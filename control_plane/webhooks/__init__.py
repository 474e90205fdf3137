"""Events of providers: taken in, verified, and told to those who subscribed.

`ingest` takes a request in: read by its definition, verified, written with what is to be done about it in one
transaction. `outbox` does it: makes out who is told, and tells them until they say 2xx. Pure are `verification` (was
this signed), `signing` (ours), `retry` and `fair_share` (when, and whose turn it is). docs/webhooks.md has the whole.
"""
