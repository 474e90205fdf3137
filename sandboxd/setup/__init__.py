"""The sandbox's part of a plan: files, environment, artifacts, workspaces and processes.

Knows the setup document (`sallyport/setup.py`) and this machine. Must not know routes, rules or credentials: nothing
of the kind is in a setup document. Open `setup.py` first (documents come, statuses go), then `application.py` (one
document, step by step), then `process.py` (one process and its group).
"""
