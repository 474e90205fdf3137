"""What pushes are about (contracts section 7). Pure."""

from typing import Final

# It has no delta: whoever hears it reads the feed.
CONFIG_CHANGED: Final = "config_changed"
EVENTS: Final = (
    *("installation_created", "installation_deleted", "installation_updated"),
    *("shared_tool_started", "shared_tool_stopped"),
    *("sandbox_started", "sandbox_stopped", "sandbox_destroyed"),
)
