"""OpenAI: its API, and Codex in the sandbox. default.py is the definition, codex.py the agent."""
