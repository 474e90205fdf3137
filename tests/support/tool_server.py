"""Real MCP servers for tests, by the SDK's own server over streamable HTTP on loopback.

In the test's own loop (`tools_here`), or as a program: `python -m tests.support.tool_server PORT PLACE NAME=KEY,KEY...`
prints its port once it listens, and ends with its standard input. Each NAME is served at /NAME/mcp to whoever shows one
of its keys. PLACE tells two that serve the same name apart.
"""

import asyncio
import contextlib
import json
import os
import signal
import socket
import ssl
import sys
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import uvicorn
from mcp.server.mcpserver import Context, MCPServer
from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS, ToolAnnotations
from starlette.types import ASGIApp, Receive, Scope, Send

REPEATABLE = ToolAnnotations(read_only_hint=True)


class ToolPlace:
    """Some servers at one port."""

    def __init__(self, place: str, keys: Mapping[str, str]) -> None:
        """keys: each server's name, and the keys it takes, with commas between them."""
        self.place = place
        self.port = 0
        self.scheme = "http"
        self.shown: list[tuple[str, str]] = []  # method, and the key that was shown
        self.holding = asyncio.Event()  # a call is being held
        self.release = asyncio.Event()
        self.held = 0
        self._keys = {name: {f"Bearer {key}" for key in listed.split(",")} for name, listed in keys.items()}
        self._servers = {name: self._build(name) for name in keys}
        self._apps: dict[str, ASGIApp] = {
            name: server.streamable_http_app(streamable_http_path=f"/{name}/mcp")
            for name, server in self._servers.items()
        }
        self._uvicorn: uvicorn.Server | None = None

    def url(self, name: str) -> str:
        """Where a server is spoken to."""
        return f"{self.scheme}://127.0.0.1:{self.port}/{name}/mcp"

    @contextlib.asynccontextmanager
    async def serving(self, port: int = 0, context: ssl.SSLContext | None = None) -> AsyncIterator[None]:
        """Serve while the block runs, with TLS where a context is given. What is open at its end is cut."""
        listening = socket.socket()
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", port))
        listening.listen(1024)
        self.port = listening.getsockname()[1]
        config = uvicorn.Config(self._serve, interface="asgi3", log_config=None, access_log=False, lifespan="off")
        config.load()
        config.ssl = context
        self.scheme = "http" if context is None else "https"
        self._uvicorn = _Server(config)
        async with contextlib.AsyncExitStack() as stack:
            for server in self._servers.values():
                await stack.enter_async_context(server.session_manager.run())
            stack.callback(listening.close)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._uvicorn.serve(sockets=[listening]), name=f"tools at {self.place}")
                try:
                    yield
                finally:
                    self._uvicorn.should_exit = self._uvicorn.force_exit = True
                    for accepting in self._uvicorn.servers:
                        accepting.close()
                    for connection in list(self._uvicorn.server_state.connections):
                        transport: Any = connection.transport
                        if transport is not None:
                            transport.abort()

    def _build(self, name: str) -> MCPServer:
        server = MCPServer(name, log_level="CRITICAL")
        latest: dict[str, int] = {}

        def answer(caller: str, number: int) -> str:
            before, latest[caller] = latest.get(caller, -1), number
            return json.dumps(
                {"server": name, "place": self.place, "caller": caller, "number": number, "before": before}
            )

        @server.tool(name=f"{name}_echo", annotations=REPEATABLE)
        async def echo(caller: str, number: int) -> str:
            return answer(caller, number)

        @server.tool(name=f"{name}_work", annotations=REPEATABLE)
        async def work(caller: str, number: int, steps: int, context: Context, pause: float = 0.02) -> str:
            found = answer(caller, number)
            for step in range(steps):
                await asyncio.sleep(pause)
                await context.report_progress(step + 1, steps)
            return found

        @server.tool(name=f"{name}_hold")
        async def hold() -> str:
            self.held += 1
            self.holding.set()
            await self.release.wait()
            return self.place

        @server.tool(name=f"{name}_hold_again", annotations=REPEATABLE)
        async def hold_again() -> str:
            return await hold()

        @server.tool(name=f"{name}_fail")
        async def fail() -> str:
            raise ValueError("it does not work")

        if name == "odd":

            @server.tool(name="größe \r\n")
            async def odd() -> str:
                return self.place

        @server.tool(name=f"{name}_refuse")
        async def refuse() -> str:
            raise MCPError(code=INVALID_PARAMS, message="not like this")

        return server

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        name = scope["path"].split("/")[1]
        shown = dict(scope["headers"]).get(b"authorization", b"").decode("latin-1")
        self.shown.append((scope["method"], shown))
        if name in self._apps and shown in self._keys[name]:
            await self._apps[name](scope, receive, send)
            return
        status = 401 if name in self._apps else 404
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b""})


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to whoever runs this."""
        yield


@contextlib.asynccontextmanager
async def tools_here(
    place: str, keys: Mapping[str, str], *, port: int = 0, context: ssl.SSLContext | None = None
) -> AsyncIterator[ToolPlace]:
    """Serve in this loop while the block runs."""
    found = ToolPlace(place, keys)
    async with found.serving(port, context):
        yield found


async def _run(port: int, place: str, keys: Mapping[str, str]) -> None:
    found = ToolPlace(place, keys)
    async with found.serving(port):
        sys.stdout.write(f"{found.port}\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


def _end_with_input() -> None:
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    # Whoever started us may be killed; then this ends by itself.
    threading.Thread(target=_end_with_input, daemon=True).start()
    asyncio.run(_run(int(sys.argv[1]), sys.argv[2], dict(each.split("=", 1) for each in sys.argv[3:])))
