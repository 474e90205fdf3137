"""Notion: its API, and its hosted MCP server with an authorization server of its own."""
