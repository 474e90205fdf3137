"""The only SQL: models, migrations, and the queries of each subject; SQLite and PostgreSQL by the same code.

A transaction is `Database.read()` or `Database.write()`; every query takes one as its first argument. Events are given
to the write transaction and become visible with its commit, in the order of their ids. No policy and no HTTP here.
Open database.py first.
"""
