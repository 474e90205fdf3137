"""The origin: answers each workload's path, and 401 to whatever lacks the exact credential.

Run by `python -m benchmarks`, which writes one line of JSON (`{"credential", "ca_file"}`) to standard input and reads
one (`{"port", "tls_port"}`) back; the CA that vouches for it is in the file then. It ends when standard input does, so
it cannot outlive the run.
"""

import asyncio
import gc
import json
import ssl
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter_ns
from typing import NamedTuple, cast

import uvloop

from benchmarks.lines import open_stdin
from benchmarks.workloads.registry import WORKLOADS
from benchmarks.workloads.workload import HOST, page_of
from sallyport.net.interception import InterceptionContexts, MemoryCa

_HEAD_END = b"\r\n\r\n"
_HEAD_LIMIT_BYTES = 65_536
_UNAUTHORIZED = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"
_NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"


class Page(NamedTuple):
    answer: bytes
    request_body_bytes: int
    tick_seconds: float = 0.0


class OriginLink(asyncio.Protocol):
    """One accepted socket. Requests come one at a time: none of the subjects pipelines upstream."""

    __slots__ = ("_answer", "_body_left", "_credential", "_held", "_pages", "_tick_seconds", "_transport", "_write")

    def __init__(self, credential: bytes, pages: Mapping[bytes, Page]) -> None:
        # The end of the field's name, so that its spelling ("Authorization", "authorization") does not matter.
        self._credential = b"uthorization: Bearer " + credential + b"\r\n"
        self._pages = pages
        self._held = b""
        self._body_left = 0
        self._answer = b""
        self._tick_seconds = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
        self._write = self._transport.write

    def data_received(self, data: bytes) -> None:
        if self._body_left:
            self._read_body(len(data))
            return
        if self._held:
            data = self._held + data
            self._held = b""
        end = data.find(_HEAD_END)
        if end >= 0:
            self._read_head(data, end + 4)
        elif len(data) < _HEAD_LIMIT_BYTES:
            self._held = data
        else:
            self._transport.abort()

    def _read_head(self, data: bytes, head_bytes: int) -> None:
        # Exactly one, and the right one: what the client sent instead must be gone, its proxy token too.
        authorized = self._credential in data and data.count(b"uthorization:", 0, head_bytes) == 1
        target = data.split(b" ", 2)[1]
        page = self._pages.get(target) or self._pages.get(page_of(target))
        if page is None:
            self._write(_NOT_FOUND)
            return
        self._answer = page.answer if authorized else _UNAUTHORIZED
        self._tick_seconds = page.tick_seconds if authorized else 0.0
        self._body_left = page.request_body_bytes
        self._read_body(len(data) - head_bytes)

    def _read_body(self, received: int) -> None:
        self._body_left -= received
        if self._body_left == 0:
            self._write(self._answer)
            if self._tick_seconds:
                self._tick(asyncio.get_running_loop().time())
        elif self._body_left < 0:
            self._transport.abort()

    def _tick(self, due_at: float) -> None:
        """Send an event that says when, as a chunk. The next is due a tick after this one was, not after it went."""
        if self._transport.is_closing():
            return
        event = b"data: %d\n\n" % perf_counter_ns()
        self._write(b"%x\r\n%b\r\n" % (len(event), event))
        next_at = due_at + self._tick_seconds
        asyncio.get_running_loop().call_at(next_at, self._tick, next_at)


async def serve() -> None:
    stdin = await open_stdin()
    told = json.loads(await stdin.readline())
    credential = told["credential"].encode("ascii")
    answered = [*WORKLOADS.values(), *(each.beside for each in WORKLOADS.values() if each.beside is not None)]
    pages = {page_of(w.path.encode("ascii")): Page(w.answer(), len(w.request_body), w.tick_seconds) for w in answered}
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: OriginLink(credential, pages), "127.0.0.1", 0, backlog=1024)
    context = _tls(Path(told["ca_file"]))
    secure = await loop.create_server(lambda: OriginLink(credential, pages), "127.0.0.1", 0, backlog=1024, ssl=context)
    ports = {"port": server.sockets[0].getsockname()[1], "tls_port": secure.sockets[0].getsockname()[1]}
    sys.stdout.write(json.dumps(ports) + "\n")
    sys.stdout.flush()
    # Nothing made per request is cyclic; a collection in the middle of a window would be noise.
    gc.freeze()
    gc.disable()
    await stdin.read()
    server.close()
    secure.close()


def _tls(ca_file: Path) -> ssl.SSLContext:
    """Make an authority, write its certificate to `ca_file`, and return a context with a leaf for the host."""
    ca, now = MemoryCa(), datetime.now(UTC).timestamp()
    context = InterceptionContexts(ca).server_context("", HOST, now)
    ca_file.write_bytes(ca.authority("", now).certificate_pem)
    return context


if __name__ == "__main__":
    uvloop.run(serve())
