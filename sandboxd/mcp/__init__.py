"""MCP servers that speak on their standard input and output, reached by streamable HTTP.

Knows lines, JSON-RPC's outer form and HTTP; must not know what tools are. Open `sessions.py` first (which process a
request is for), then `session.py` (one client and its process), then `exchange.py` (one request and its answer).
"""
