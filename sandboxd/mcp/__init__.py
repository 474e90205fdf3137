"""The stdio MCP servers of a sandbox, reached by streamable HTTP on streams of the tunnel.

Knows HTTP on a stream, and how a declared server is started; the sessions are `sallyport/mcp/`. Must not know what
tools are. Open `sessions.py` first (what is declared), then `exchange.py` (one request and its answer).
"""
