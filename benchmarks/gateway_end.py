"""Stands in for the gateway where sandboxd alone is measured: admits every stream, answers the one request it knows.

Run by the benchmark, which writes one line of JSON (`{"host", "request", "answer"}`, Latin-1 texts of raw bytes) and
reads one (`{"port": ...}`) back. It ends when standard input does. A request that differs is answered 400, which the
load refuses: so sandboxd is seen to have changed nothing.
"""

import asyncio
import gc
import json
import sys
from typing import NamedTuple, cast

import uvloop

from benchmarks.lines import open_stdin
from sallyport.net.websocket_upgrade import accept_upgrade
from sallyport.wire.http1.answers import ESTABLISHED
from sallyport.wire.http1.codec import parse_request
from sallyport.wire.http1.scan import HEAD_END
from sallyport.wire.websocket import BINARY, TEXT, MessageReader, message, message_start
from sallyport.wire.yamux.frames import (
    ACK,
    DATA,
    FIN,
    HEADER_BYTES,
    INITIAL_WINDOW_BYTES,
    PING,
    RST,
    SYN,
    WINDOW_UPDATE,
    frame_header,
    read_header,
)

_WRONG = b"HTTP/1.1 400 Not What Was Sent\r\nContent-Length: 0\r\n\r\n"


class Script(NamedTuple):
    """What is said, and the one request that is expected."""

    managed_set: bytes
    request: bytes
    answer: bytes


class GatewayEnd(asyncio.Protocol):
    """One tunnel. sandboxd sends whole frames in each message, and each small request in one frame."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._head = b""
        self._taken: dict[int, int] = {}
        self._out: list[bytes] = []
        self._reader: MessageReader | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance

    def data_received(self, data: bytes) -> None:
        if self._reader is None:
            self._head += data
            if HEAD_END not in self._head:
                return
            head, _, data = self._head.partition(HEAD_END)
            self._transport.write(accept_upgrade(parse_request(head)))
            self._transport.write(message(TEXT, self._script.managed_set, None))
            self._reader = MessageReader(self, is_client=False)
        self._reader.feed(data)
        if self._out:
            payload = b"".join(self._out)
            self._out.clear()
            self._transport.write(message_start(BINARY, len(payload)) + payload)

    # What the reader calls

    def binary_received(self, data: bytes) -> None:
        at = 0
        while at < len(data):
            kind, flags, stream_id, length = read_header(data, at)
            at += HEADER_BYTES
            if kind == DATA:
                self._data(flags, stream_id, data[at : at + length])
                at += length
            elif kind == PING and flags & SYN:
                self._out.append(frame_header(PING, ACK, 0, length))
            elif flags & RST:
                self._taken.pop(stream_id, None)

    def _data(self, flags: int, stream_id: int, payload: bytes) -> None:
        if payload == self._script.request:
            answer = self._script.answer
            self._out.append(frame_header(DATA, 0, stream_id, len(answer)) + answer)
            self._credit(stream_id, len(payload))
        elif flags & SYN:
            self._taken[stream_id] = 0
            self._out.append(frame_header(DATA, ACK, stream_id, len(ESTABLISHED)) + ESTABLISHED)
        elif flags & FIN:
            self._taken.pop(stream_id, None)
            self._out.append(frame_header(DATA, FIN, stream_id, 0))
        else:
            self._out.append(frame_header(DATA, 0, stream_id, len(_WRONG)) + _WRONG)

    def _credit(self, stream_id: int, count: int) -> None:
        self._taken[stream_id] += count
        if self._taken[stream_id] * 2 >= INITIAL_WINDOW_BYTES:
            self._out.append(frame_header(WINDOW_UPDATE, 0, stream_id, self._taken[stream_id]))
            self._taken[stream_id] = 0

    def text_received(self, data: bytes) -> None:
        """`ready` and the like: nothing here depends on it."""

    def ping_received(self, payload: bytes) -> None:
        """sandboxd sends none."""

    def close_received(self, code: int | None, reason: str) -> None:
        self._transport.close()


async def serve() -> None:
    stdin = await open_stdin()
    told = json.loads(await stdin.readline())
    managed = {"type": "interception.set", "revision": 1, "hosts": [{"pattern": told["host"], "ports": [443]}]}
    script = Script(
        managed_set=json.dumps(managed).encode("ascii"),
        request=told["request"].encode("latin-1"),
        answer=told["answer"].encode("latin-1"),
    )
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: GatewayEnd(script), "127.0.0.1", 0)
    sys.stdout.write(json.dumps({"port": server.sockets[0].getsockname()[1]}) + "\n")
    sys.stdout.flush()
    gc.freeze()
    gc.disable()
    await stdin.read()
    server.close()


if __name__ == "__main__":
    uvloop.run(serve())
