"""The HTTP surface: thin routers over the logic, strict bodies, problem documents, the event stream, uvicorn's start.

A router reads its arguments, calls one function of the logic and writes the answer down. It must not know SQL.
Open server.py first.
"""
