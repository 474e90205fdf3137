"""MCP servers of our own, each a program that a worker starts like any other; they import nothing of the worker."""
