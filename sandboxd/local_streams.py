"""Streams that the gateway opens: to a declared endpoint, to a declared MCP server, or to bring a setup document.

Nothing here reaches what the setup document does not declare, and nothing off this machine. Every stream is answered
by one head, as a CONNECT is: 200 and then bytes, or a problem document and the end.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Final

from sallyport.net.clock import Clock
from sallyport.net.loopback import LoopbackError, connect_loopback, loopback_addresses
from sallyport.net.relay import Relay
from sallyport.net.tasks import TaskSet
from sallyport.problem import Code
from sallyport.setup import McpServer, StdioMcpTransport, split_url
from sallyport.wire.http1.answers import ESTABLISHED
from sandboxd.document_stream import DocumentStream
from sandboxd.mcp.sessions import StdioSessions
from sandboxd.setup.process_log import ProcessLog
from sandboxd.setup.setup import Setup
from sandboxd.stream_answers import StreamRefused, begin_stream, not_found, problem

CONNECT_SECONDS: Final = 5.0  # on this machine; more than that is a listener whose queue is full
# A session may say nothing for long; a dead tunnel ends its streams by itself, and a local program by its socket.
IDLE_SECONDS: Final = 24 * 3600.0
CLOSE_SECONDS: Final = 5.0


class LocalStreams:
    """What the gateway may open. `connect` each stream; `close` ends those that are left, `setup.close` comes after."""

    def __init__(self, setup: Setup, *, tasks: TaskSet, clock: Clock) -> None:
        self._setup = setup
        self._tasks = tasks
        self._clock = clock
        self._open: set[asyncio.Transport] = set()
        self._stdio = StdioSessions(
            tasks, declared=self._declared_servers, environment=setup.environment_for, log=self._server_log
        )

    def connect(self, stream: asyncio.Transport, target: str) -> asyncio.Protocol:
        """Answer a stream that began `CONNECT target` and return its protocol.

        The caller makes that the stream's protocol at once and gives it what it read behind the head, if anything.
        """
        return begin_stream(stream, self._open, lambda: self._protocol_for(stream, target))

    async def close(self) -> None:
        """End every stream now, and wait until no process of a session is left; one that hangs is killed by then."""
        for stream in tuple(self._open):
            stream.abort()
        await self._stdio.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                while self._open:  # noqa: ASYNC110  each tells by itself; together they are waited for only here
                    await asyncio.sleep(0.01)

    def _protocol_for(self, stream: asyncio.Transport, target: str) -> asyncio.Protocol:
        match target.split("/"):
            case ["endpoint", client_id, endpoint_key]:
                return self._dial(stream, self._endpoint_url(client_id, endpoint_key))
            case ["mcp", server_id]:
                return self._mcp(stream, server_id)
            case ["setup", revision]:
                return DocumentStream(stream, self._setup, revision, lambda: self.ended(stream))
        raise StreamRefused(not_found("this is not the name of anything in a sandbox"))

    # What is declared ----------------------------------------------------------------------------------------------

    def _endpoint_url(self, client_id: str, endpoint_key: str) -> str:
        document = self._setup.document
        for client in document.runtime_clients if document is not None else ():
            for endpoint in client.endpoints if client.client_id == client_id else ():
                if endpoint.endpoint_key == endpoint_key:
                    return endpoint.transport.url
        raise StreamRefused(not_found("no such endpoint is declared"))

    def _mcp(self, stream: asyncio.Transport, server_id: str) -> asyncio.Protocol:
        declared = [server for server in self._declared_servers() if server.server_id == server_id]
        if not declared:
            raise StreamRefused(not_found("no such MCP server is declared"))
        if len(declared) > 1:
            # Two bindings of one integration; which of them is meant cannot be said by this name.
            raise StreamRefused(not_found("more than one MCP server is declared by this id"))
        transport = declared[0].transport
        if isinstance(transport, StdioMcpTransport):
            return self._stdio.serve(stream, declared[0], lambda: self.ended(stream))
        return self._dial(stream, transport.url)

    def _declared_servers(self) -> Sequence[McpServer]:
        return () if self._setup.document is None else self._setup.document.mcp_servers

    def _server_log(self, server: McpServer) -> ProcessLog:
        return ProcessLog(self._setup.parts.logs / "mcp" / f"{server.server_id}.log")

    # Endpoints and HTTP ---------------------------------------------------------------------------------------------

    def _dial(self, stream: asyncio.Transport, url: str) -> asyncio.Protocol:
        scheme, host, port, _ = split_url(url)
        try:
            loopback_addresses(host)
        except LoopbackError as error:
            raise StreamRefused(problem(Code.ADDRESS_REFUSED, str(error))) from None
        if scheme not in ("http", "ws"):
            raise StreamRefused(problem(Code.ADDRESS_REFUSED, "TLS to a program of this machine is not spoken here"))
        return _LocalStream(self, stream, host, port)

    async def dial(self, local: "_LocalStream") -> None:
        """Connect to the declared port, answer, and carry bytes from then on."""
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                transport, first = await connect_loopback(_FirstBytes, local.host, local.port)
        except (OSError, TimeoutError):
            local.stream.write(problem(Code.UPSTREAM_UNREACHABLE, "the program does not accept at present"))
            local.stream.close()
            return
        if local.stream.is_closing():
            transport.abort()
            return
        local.stream.write(ESTABLISHED)
        relay = Relay(
            self._clock,
            local.stream,
            transport,
            idle_seconds=IDLE_SECONDS,
            on_end=lambda up, down: self.ended(local.stream),
        )
        relay.start(up=local.early, down=first.received)

    def spawn_dial(self, local: "_LocalStream") -> asyncio.Task[None]:
        """Begin to connect."""
        return self._tasks.spawn(self.dial(local), name=f"local stream to port {local.port}")

    def ended(self, stream: asyncio.Transport) -> None:
        """A stream is gone, and what stood behind it."""
        self._open.discard(stream)

    def __repr__(self) -> str:
        return f"<LocalStreams: {len(self._open)} open, {self._stdio}>"


class _FirstBytes(asyncio.Protocol):
    """Keeps what the program says before the relay has taken over."""

    def __init__(self) -> None:
        self.received = b""

    def data_received(self, data: bytes) -> None:
        self.received += data


class _LocalStream(asyncio.Protocol):
    """A stream whose local end is being dialled; then a Relay has it."""

    def __init__(self, streams: LocalStreams, stream: asyncio.Transport, host: str, port: int) -> None:
        self.stream = stream
        self.host = host
        self.port = port
        self.early = b""
        self._streams = streams
        stream.pause_reading()  # which holds its end back as well
        self._task = streams.spawn_dial(self)

    def data_received(self, data: bytes) -> None:
        """Reading is paused, so this is what came together with the head."""
        self.early += data

    def connection_lost(self, error: Exception | None) -> None:
        """The stream has ended before there was anything at its other end."""
        self._task.cancel()
        self._streams.ended(self.stream)
