"""Linear: its GraphQL API, its hosted MCP server, and the events it sends."""
