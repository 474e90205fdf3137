"""The compiled runtime plan: its schema, its bytes, and the one matcher that reads it.

PURE. `model` says what a plan may hold, `codec` turns bytes into a plan or into every issue they have, `match`
answers requests, `ties` proves that no two routes claim one request, `explain` says why an answer came out.
The plan knows nothing of sockets, tokens or secret values. Open `match.py` first; docs/runtime-plan.md is the
same thing told in prose.
"""
