"""An MCP server for tests, on standard input and output, in plain Python: it does as it is told, also badly.

Run as a program it takes the names of what it does: `python mcp_program.py FAULT...`. FAULTS says what there is.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

PROGRAM: Final = Path(__file__)
FAULTS: Final = {
    "banner": "prints a line that is no message first",
    "crash-now": "ends with code 3 at once, and says why",
    "crash-on-call": "ends with code 4 when `crash` is called",
    "deaf": "goes on when its input ends",
    "deaf-to-term": "and on SIGTERM too",
    "discover-only": "knows server/discover and not initialize",
    "endless-line": "prints a line without an end",
    "endless-pages": "has pages of tools that repeat themselves",
    "escape": "starts a child in a session of its own, which stays",
    "flood": "fills its standard error",
    "garbage": "prints nothing but lines that are no messages",
    "hang": "says nothing",
    "linger": "starts a child that keeps the pipes, and ends when `crash` is called",
    "mute-pages": "answers the handshake and no tools/list",
    "pages": "has 7 tools on 4 pages",
    "refuse": "answers initialize with an error",
    "secret": "prints its variable TOKEN",
}


def main(faults: list[str]) -> None:
    """Serve until the input ends."""
    if "deaf-to-term" in faults:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if "secret" in faults:
        sys.stderr.write(f"my token is {os.environ['TOKEN']}\nand so it is\n")
    if "crash-now" in faults:
        sys.stderr.write("cannot open the database\n")
        sys.stderr.flush()
        os._exit(3)
    if "flood" in faults:
        sys.stderr.write(("x" * 100_000 + "\n") * 200)
        sys.stderr.write("after the flood\n")
    sys.stderr.flush()
    if {"linger", "escape"} & set(faults):
        child = subprocess.Popen(["sleep", "60"], start_new_session="escape" in faults)
        Path(os.environ["PIDS"]).write_text(str(child.pid))
    if "endless-line" in faults:
        while True:
            sys.stdout.write("y" * 65536)
    if "garbage" in faults:
        while True:
            sys.stdout.write("no message\n")
    if "banner" in faults:
        print("Welcome to the server!", flush=True)
    if "hang" in faults:
        time.sleep(60)
    for line in sys.stdin:
        message = json.loads(line)
        if "id" in message and "method" in message:
            answer(message, faults)
    while {"deaf", "deaf-to-term"} & set(faults):
        time.sleep(60)


def answer(request: dict[str, Any], faults: list[str]) -> None:
    """Answer one request."""
    method, params = request["method"], request.get("params") or {}
    match method:
        case "initialize" if "refuse" in faults:
            reply(request, error={"code": -32000, "message": "not today"})
        case "initialize" if "discover-only" not in faults:
            reply(request, result=identity() | {"protocolVersion": params["protocolVersion"]})
        case "server/discover" if "discover-only" in faults:
            reply(request, result={"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}} | MODERN)
        case "tools/list" if "mute-pages" in faults:
            pass
        case "tools/list":
            reply(request, result=tools(params.get("cursor"), faults))
        case "tools/call":
            call(request, params, MODERN if "discover-only" in faults else {})
        case "ping":
            reply(request, result={})
        case _:
            reply(request, error={"code": -32601, "message": "Method not found"})


MODERN: Final = {"resultType": "complete", "ttlMs": 0, "cacheScope": "private"}


def identity() -> dict[str, Any]:
    """Return what it says of itself."""
    return {"capabilities": {"tools": {"listChanged": True}}, "serverInfo": {"name": "test-server", "version": "1.2"}}


def tools(cursor: str | None, faults: list[str]) -> dict[str, Any]:
    """Return a page of tools."""
    extra = MODERN if "discover-only" in faults else {}
    if "endless-pages" in faults:
        return {"tools": [tool("echo")], "nextCursor": "again"}
    if "pages" in faults:
        page = int(cursor or 0)
        names = [f"tool_{number}" for number in range(7)][page * 2 : page * 2 + 2]
        return {"tools": [tool(name) for name in names]} | ({"nextCursor": str(page + 1)} if page < 3 else {})
    return {"tools": [tool(name) for name in ("echo", "crash", "grow", "whoami")]} | extra


def tool(name: str) -> dict[str, Any]:
    """Describe one tool."""
    return {"name": name, "description": f"The tool {name}", "inputSchema": {"type": "object"}}


def call(request: dict[str, Any], params: dict[str, Any], extra: dict[str, Any]) -> None:
    """Carry out one call."""
    match params["name"]:
        case "crash":
            sys.stderr.write("I was told to crash\n")
            sys.stderr.flush()
            os._exit(4)
        case "grow":
            token = params.get("_meta", {}).get("progressToken")
            for step in range(3 if token is not None else 0):
                notify("notifications/progress", {"progressToken": token, "progress": step, "total": 3})
            reply(request, result=text("grown") | extra)
        case "fetch":
            from urllib.request import urlopen  # reads HTTPS_PROXY and SSL_CERT_FILE

            with urlopen(params["arguments"]["url"], timeout=20) as answer:
                reply(request, result=text(answer.read().decode()))
        case "whoami":
            known = ("HTTPS_PROXY", "TOKEN", "HOME", "SALLYPORT_SECRET_OF_THE_WORKER")
            reply(request, result=text(json.dumps({name: os.environ.get(name) for name in known})))
        case _:
            reply(request, result=text(json.dumps(params.get("arguments"))) | extra)


def text(content: str) -> dict[str, Any]:
    """Return a result of one text."""
    return {"content": [{"type": "text", "text": content}]}


def reply(request: dict[str, Any], **outcome: object) -> None:
    """Print an answer."""
    print(json.dumps({"jsonrpc": "2.0", "id": request["id"], **outcome}), flush=True)


def notify(method: str, params: dict[str, Any]) -> None:
    """Print a notification."""
    print(json.dumps({"jsonrpc": "2.0", "method": method, "params": params}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
