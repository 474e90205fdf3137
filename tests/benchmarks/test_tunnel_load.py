"""What the tunnel's load writes is what a WebSocket reader takes, and how it finds messages."""

import os

import pytest

from benchmarks.tunnel_load import _length, _masked_start, _payload_start
from sallyport.wire import websocket
from sallyport.wire.websocket import MessageReader


class _Sink:
    def __init__(self) -> None:
        self.messages: list[bytes] = []

    def binary_received(self, data: bytes) -> None:
        self.messages.append(data)

    def text_received(self, data: bytes) -> None:
        raise AssertionError

    def ping_received(self, payload: bytes) -> None:
        raise AssertionError

    def close_received(self, code: int | None, reason: str) -> None:
        raise AssertionError


_SIZES = pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536])


@_SIZES
def test_a_message_is_read_as_it_was_written(size: int) -> None:
    sink, payload = _Sink(), os.urandom(size)
    MessageReader(sink, is_client=False).feed(_masked_start(size) + payload)
    assert sink.messages == [payload]


@_SIZES
def test_a_gateways_message_is_found_once_its_length_is_there(size: int) -> None:
    message = websocket.message(websocket.BINARY, bytes(size), None)
    start = len(message) - size
    assert _payload_start(message, 0, len(message)) == start
    assert _length(message, 0) == size
    assert _payload_start(message, 0, start - 1) == 0
