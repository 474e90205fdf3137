"""MCP servers that speak on their standard input and output, reached by streamable HTTP: a process for each session.

Knows lines, JSON-RPC's outer form and sessions; must not know what tools are, nor what carries the requests: sandboxd
has them on streams of a tunnel, the worker's front by a framework. Open `sessions.py` first (which process a request is
for), then `session.py` (one client and its process), then `exchange.py` (one request and the ways to answer it).
"""
