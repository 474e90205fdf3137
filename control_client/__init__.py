"""What other processes use to talk to Sallyport: HTTP client sessions stand here and nowhere else.

session.py speaks to a control plane; plans, credentials, keys, authorities, tokens and leases each ask it one thing and
read the answer strictly. gateway.py asks a gateway's admin surface and proxy port, blocking, for the command.
tool_client.py follows the feed of MCP servers and calls their tools, for applications that embed it (docs/client.md).
It must not know any part's inside. Open session.py first, or tool_client.py.
"""
