"""`/mcp`: the built-in MCP server `sallyport`, for whoever shows an admin key of a client (contracts section 6).

Each tool is one operation of `/v1` or `/api`, asked in this process (../own_api.py) as a member of the key's
organization and within its instance: so a tool can do nothing that the API would not do, what it takes and gives back
is what OpenAPI says of the operation, and what it is refused is refused in the same words. Which tools there are is one
table, operations.py; open that first.
"""
