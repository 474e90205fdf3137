"""An MCP server for load, on standard input and output, in plain Python: `python work_program.py NAME`.

Its one tool, NAME_work, takes steps with pauses, tells its progress, and answers with what was asked; many at once.
"""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any, Final

PROGRAM: Final = Path(__file__)


class WorkServer:
    """What it does."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._latest: dict[str, int] = {}
        self._calls: set[asyncio.Task[None]] = set()

    async def serve(self) -> None:
        """Answer until the input ends."""
        reader = asyncio.StreamReader(limit=1 << 22)
        protocol = asyncio.StreamReaderProtocol(reader)
        await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin)
        async for line in reader:
            message = json.loads(line)
            if "id" in message and "method" in message:
                self._answer(message)

    def _answer(self, request: dict[str, Any]) -> None:
        params = request.get("params") or {}
        match request["method"]:
            case "initialize":
                info = {"name": self._name, "version": "1"}
                result = {"capabilities": {"tools": {}}, "serverInfo": info}
                _reply(request, result=result | {"protocolVersion": params["protocolVersion"]})
            case "tools/list":
                hints = {"readOnlyHint": True}
                tool = {"name": f"{self._name}_work", "inputSchema": {"type": "object"}, "annotations": hints}
                _reply(request, result={"tools": [tool]})
            case "tools/call":
                task = asyncio.get_running_loop().create_task(self._work(request, params))
                self._calls.add(task)
                task.add_done_callback(self._calls.discard)
            case "ping":
                _reply(request, result={})
            case _:
                _reply(request, error={"code": -32601, "message": "Method not found"})

    async def _work(self, request: dict[str, Any], params: dict[str, Any]) -> None:
        asked = params["arguments"]
        caller, number = asked["caller"], asked["number"]
        before, self._latest[caller] = self._latest.get(caller, -1), number
        token = params.get("_meta", {}).get("progressToken")
        for step in range(asked["steps"]):
            await asyncio.sleep(asked["pause"])
            if token is not None:
                progress = {"progressToken": token, "progress": step + 1, "total": asked["steps"]}
                _write({"jsonrpc": "2.0", "method": "notifications/progress", "params": progress})
        found = {"server": self._name, "caller": caller, "number": number, "before": before}
        _reply(request, result={"content": [{"type": "text", "text": json.dumps(found)}]})


def _reply(request: dict[str, Any], **outcome: object) -> None:
    _write({"jsonrpc": "2.0", "id": request["id"], **outcome})


def _write(message: dict[str, Any]) -> None:
    print(json.dumps(message), flush=True)


if __name__ == "__main__":
    asyncio.run(WorkServer(sys.argv[1]).serve())
