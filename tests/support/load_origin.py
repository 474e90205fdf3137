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

ROOT: Final = Path(__file__).resolve().parents[2]
BLOCK = bytes(range(256)) * 256  # 64 KiB
_HEAD_BYTES = 64 * 1024


class LoadOrigin:
    """The running origin.

    GET /            the label of the credential
    GET /slow        the same, once `gate` is set
    GET /bytes/N     N bytes
    POST /upload     how many bytes arrived, read only while `gate` is set
    """

    def __init__(self, labels: Mapping[str, str]) -> None:
        self.port = 0
        self.gate = asyncio.Event()
        self.waiting = 0  # requests that stand at the gate
        self.asked = 0  # with a good credential or without
        self.answered = 0
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
        if target.startswith("/bytes/"):
            await self._send_bytes(int(target.removeprefix("/bytes/")), writer)
        else:
            if target == "/slow":
                await self._stand_at_gate()
            if target == "/upload":
                label = str(await self._take(int(fields["content-length"]), reader))
            body = label.encode()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        await writer.drain()
        self.answered += 1

    async def _send_bytes(self, count: int, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % count)
        while count:
            block = BLOCK[:count]
            writer.write(block)
            count -= len(block)
            await writer.drain()

    async def _take(self, count: int, reader: asyncio.StreamReader) -> int:
        await self._stand_at_gate()
        taken = 0
        while taken < count:
            taken += len(await reader.read(min(len(BLOCK), count - taken)))
            self.uploaded_bytes = taken
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
def load_origin_process(labels: Mapping[str, str]) -> Iterator[int]:
    """Serve, in the clear, from a process of its own until the block ends; yields the port. Its gate stays shut."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.load_origin"],
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


async def _serve_for_ever(labels: Mapping[str, str]) -> None:
    async with load_origin(labels) as origin:
        print(origin.port, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve_for_ever(json.loads(sys.stdin.readline())))
