"""Runs in a sandbox as a process of a plan: a WebSocket that tells what it is, and an MCP server over HTTP.

`python -c SOURCE PORT WORD [held]`: one port for both, which may be held by a test. It tells WORD, its process and its
variables.
"""

import json
import os
import sys

from aiohttp import web

PORT, WORD = int(sys.argv[1]), sys.argv[2]


def rights() -> list[str]:
    """Say what the kernel lets this process do."""
    with open("/proc/self/status") as file:
        status = {name: value.strip() for name, _, value in (line.partition(":\t") for line in file)}
    return [status[name] for name in ("CapEff", "CapBnd", "NoNewPrivs", "Seccomp")]


async def tell(request: web.Request) -> web.StreamResponse:
    """Answer each message with what this process is."""
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for message in socket:
        told = {"word": WORD, "pid": os.getpid(), "variables": dict(os.environ), "rights": rights(), "uid": os.getuid()}
        await socket.send_json({"asked": message.data, **told})
    return socket


async def mcp(request: web.Request) -> web.Response:
    """Answer the two requests that a client begins with, and one tool."""
    asked = json.loads(await request.read())
    if "id" not in asked:
        return web.Response(status=202)
    answers = {
        "initialize": {
            "protocolVersion": "2025-06-18",
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "inside", "version": "1"},
        },
        "tools/list": {"tools": [{"name": "say", "inputSchema": {"type": "object"}}]},
        "tools/call": {"content": [{"type": "text", "text": WORD}]},
    }
    answer = {"jsonrpc": "2.0", "id": asked["id"]}
    if asked["method"] not in answers:
        return web.json_response(answer | {"error": {"code": -32601, "message": "no such method"}})
    return web.json_response(answer | {"result": answers[asked["method"]]})


if __name__ == "__main__":
    application = web.Application()
    application.add_routes([web.get("/tell", tell), web.post("/mcp", mcp)])
    web.run_app(application, host="127.0.0.1", port=PORT, print=None, reuse_port=sys.argv[3:] == ["held"])
