"""Integration servers: MCP servers that this worker installs, runs, watches and serves.

Duty: from a source to a running server whose tools are known, and its calls over streamable HTTP (contracts section 8).
Must not know: plans, the store of a control plane. A secret's value is met in `launch` alone.
Open `integration.py` first (the life of one server), then `integrations.py` (all of them), `front.py` (who may call).
"""
