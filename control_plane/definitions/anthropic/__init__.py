"""Anthropic: its API, and Claude Code in the sandbox. default.py is the definition, claude_code.py the agent."""
