"""An origin for load, cleartext or TLS: cheap per request, streams without end, and can stand still; on a free port.

It says which credential arrived by its label, never by its value, so an answer can be told from another's. In a process
of its own it slows down nobody but who asks it.
"""

import asyncio
import json
import os
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final

from demo.certificates import OriginFiles
from sallyport.wire import websocket

ROOT: Final = Path(__file__).resolve().parents[2]
BLOCK = bytes(range(256)) * 256  # 64 KiB
_HEAD_BYTES = 64 * 1024
SWITCHED: Final = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
# Blocks of whole frames, as many as one read of a gateway takes.
SOCKETS: Final = {
    "frames": websocket.message(websocket.TEXT, b"x", None) * 87_000,
    "fragments": (bytes((websocket.CONTINUATION, 1)) + b"x") * 87_000,
    "pings": websocket.message(websocket.PING, b"", None) * 131_000,
}


class LoadOrigin:
    """The running origin.

    GET /            the label of the credential
    GET /slow        the same, once `gate` is set
    GET /bytes/N     N bytes
    POST /upload     how many bytes arrived, read only while `gate` is set
    GET /socket/...  a 101, and then small frames without end: "frames", "fragments" or "pings"; what comes is dropped
    """

    def __init__(self, labels: Mapping[str, str]) -> None:
        self.port = 0
        self.gate = asyncio.Event()
        self.waiting = 0  # requests that stand at the gate
        self.asked = 0  # with a good credential or without
        self.uploaded_bytes = 0
        # As a bearer, or as the whole field.
        self._labels = {form: label for secret, label in labels.items() for form in (secret, f"Bearer {secret}")}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one link until it ends."""
        try:
            while True:
                await self._answer(await reader.readuntil(b"\r\n\r\n"), reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        except asyncio.CancelledError:
            writer.transport.abort()
        finally:
            writer.close()

    async def _answer(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked += 1
        request_line, *lines = head.decode("latin-1").split("\r\n")
        target = request_line.split(" ")[1]
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        label = self._labels.get(fields.get("authorization", ""))
        if label is None:
            writer.write(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")
            return
        if target.startswith("/socket/"):
            await self._send_frames(SOCKETS[target.removeprefix("/socket/")], reader, writer)
        if target.startswith("/bytes/"):
            await self._send_bytes(int(target.removeprefix("/bytes/")), writer)
        else:
            if target == "/slow":
                await self._stand_at_gate()
            if target == "/upload":
                length = fields.get("content-length")
                taken = await (self._take_chunks(reader) if length is None else self._take(int(length), reader))
                label = str(taken)
            body = label.encode()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        await writer.drain()

    async def _send_bytes(self, count: int, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % count)
        while count:
            block = BLOCK[:count]
            writer.write(block)
            count -= len(block)
            await writer.drain()

    async def _send_frames(self, block: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def drop() -> None:
            while await reader.read(1 << 20):
                pass

        writer.write(SWITCHED)
        async with asyncio.TaskGroup() as tasks:
            dropping = tasks.create_task(drop(), name="drop frames")
            while not dropping.done():
                writer.write(block)
                await writer.drain()
                await asyncio.sleep(0)
        raise ConnectionResetError("the other end has ended it")

    async def _take(self, count: int, reader: asyncio.StreamReader) -> int:
        await self._stand_at_gate()
        taken = 0
        while taken < count:
            taken += len(await reader.read(min(len(BLOCK), count - taken)))
            self.uploaded_bytes = taken
        return taken

    async def _take_chunks(self, reader: asyncio.StreamReader) -> int:
        taken = 0
        while size := int(await reader.readuntil(b"\r\n"), 16):
            await reader.readexactly(size + 2)
            taken += size
        await reader.readuntil(b"\r\n")
        return taken

    async def _stand_at_gate(self) -> None:
        self.waiting += 1
        await self.gate.wait()
        self.waiting -= 1


@asynccontextmanager
async def load_origin(labels: Mapping[str, str], tls: ssl.SSLContext | None = None) -> AsyncIterator[LoadOrigin]:
    """Serve until the block ends; `labels` maps each credential it accepts to what it calls it."""
    origin = LoadOrigin(labels)
    serving: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None, "the streams of asyncio serve each link in a task"
        serving.add(task)
        try:
            await origin.serve(reader, writer)
        finally:
            serving.discard(task)

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=tls, limit=_HEAD_BYTES, backlog=2048)
    origin.port = server.sockets[0].getsockname()[1]
    try:
        yield origin
    finally:
        server.close()
        for task in list(serving):
            task.cancel()
        if serving:
            await asyncio.wait(serving)


@contextmanager
def load_origin_process(labels: Mapping[str, str], files: OriginFiles | None = None) -> Iterator[int]:
    """Serve from a process of its own until the block ends, by TLS where there are files for it; yields the port.

    Its gate stays shut.
    """
    tls = [] if files is None else [str(files.certificate_file), str(files.key_file)]
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.load_origin", *tls],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(dict(labels)).encode() + b"\n")
    process.stdin.flush()
    try:
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.communicate()


async def _serve_for_ever(labels: Mapping[str, str], tls: ssl.SSLContext | None) -> None:
    async with load_origin(labels, tls) as origin:
        print(origin.port, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    context = None
    if sys.argv[1:]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*sys.argv[1:])
        context.set_alpn_protocols(["http/1.1"])
    asyncio.run(_serve_for_ever(json.loads(sys.stdin.readline()), context))
