"""Our client as the conformance suite of MCP starts it: `python -m tests.support.conformance_client URL`.

It lists the tools of the server at URL and calls each, with arguments as their schemas want them.
"""

import asyncio
import sys
from collections.abc import Mapping
from typing import Any

from control_client.reload import LiveTools


async def call_everything(url: str) -> None:
    """Follow one server, as a feed would have it."""

    async def no_fields(url: str) -> dict[str, str]:
        return {}

    tools = LiveTools(no_fields)
    try:
        tools.apply({"server": url})
        view = await tools.settled()
        for tool in view.toolsets["server"].tools:
            result = await tools.call("server", tool.name, arguments_for(tool.input_schema))
            if result.is_error:
                raise SystemExit(f"{tool.name}: {result}")
    finally:
        await tools.close()


def arguments_for(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return an argument of its type for each property."""
    values = {"number": 2, "integer": 2, "boolean": True, "array": [], "object": {}}
    return {name: values.get(each.get("type"), "text") for name, each in schema.get("properties", {}).items()}


if __name__ == "__main__":
    asyncio.run(call_everything(sys.argv[-1]))
