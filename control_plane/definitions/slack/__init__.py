"""Slack: its Web API and files as a bot, and the events it sends."""
