"""Atlassian: Jira and Confluence of a cloud site, and the hosted MCP server."""
