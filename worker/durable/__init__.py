"""What the worker keeps: applications that go on after a crash, and the lease under which they are carried out.

Duty: the database (SQLite or PostgreSQL), the workflows in it (DBOS), which worker is alive. The only room of the
worker that knows a database. Must not know: what a step does, HTTP.
Open `workflows.py` first, then `lease.py`, `database.py`, `sqlite.py` (which SQLite it is).
"""
