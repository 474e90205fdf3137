"""The schema's history, by Alembic: env.py runs it, versions/ holds one file per step. Open versions/ first."""
