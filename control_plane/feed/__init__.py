"""The client feed: which MCP servers a client may use, as its key and the runtime say (contracts section 6).

What an instance is served is kept as a set of entries. `keeping` brings it in line with the rows of this database and
with what workers and gateways report; each difference is one change, with a revision, in the transaction that makes it.
"""
