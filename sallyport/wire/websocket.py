"""WebSocket frames, both directions (RFC 6455 section 5), read strictly and without extensions.

Bytes are pushed into a `MessageReader`, which calls a sink for every whole message; nothing is queued and nothing is
repaired. Frames out are made by functions. Randomness is an argument: a client gives each frame a mask of its own.
"""

from typing import Final, Protocol

from sallyport.wire.errors import RemoteProtocolError

CONTINUATION: Final = 0x0
TEXT: Final = 0x1
BINARY: Final = 0x2
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA

# What one message may hold, in either direction: what a reader must hold before it can pass anything on.
MAX_MESSAGE_BYTES: Final = 64 * 1024
# RFC 6455 section 5.5.
MAX_CONTROL_BYTES: Final = 125
MAX_REASON_BYTES: Final = MAX_CONTROL_BYTES - 2

# Close codes of the tunnel (docs/tunnel-protocol.md).
PROTOCOL: Final = 1008
INTERNAL: Final = 1011
DRAINING: Final = 4001
REPLACED: Final = 4002
REVOKED: Final = 4003
EXPIRED: Final = 4004

_FINAL: Final = 0x80
_RESERVED: Final = 0x70
_OPCODE: Final = 0x0F
_CONTROL: Final = 0x08
_MASKED: Final = 0x80
_LENGTH: Final = 0x7F
_LENGTH_OF_2: Final = 126
_LENGTH_OF_8: Final = 127
# Of the XOR in masked(); a multiple of 4.
_BLOCK_BYTES: Final = 4096
_WHOLE_BINARY: Final = _FINAL | BINARY
_OPCODES: Final = frozenset({CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG})


class MessageSink(Protocol):
    """What a MessageReader calls, in the order of the wire."""

    def binary_received(self, data: bytes) -> None:
        """One whole binary message."""

    def text_received(self, data: bytes) -> None:
        """One whole text message; data is valid UTF-8."""

    def ping_received(self, payload: bytes) -> None:
        """A ping, to be answered by a pong with the same payload."""

    def close_received(self, code: int | None, reason: str) -> None:
        """The peer closes; nothing is read after this."""


class MessageReader:
    """The frames of one peer. Holds at most one message and the frame that is under way."""

    __slots__ = ("_fragments", "_have", "_is_closed", "_is_masked", "_need", "_opcode", "_pieces", "_sink")

    def __init__(self, sink: MessageSink, *, is_client: bool) -> None:
        """is_client says which side WE are: a client's peer never masks, a server's always does."""
        self._sink = sink
        self._is_masked = not is_client
        self._pieces: list[bytes] = []  # an incomplete frame
        self._have = 0  # bytes in _pieces
        self._need = 2  # bytes that must be there before looking again
        self._opcode = CONTINUATION  # of the fragmented message under way; CONTINUATION: there is none
        self._fragments = bytearray()
        self._is_closed = False

    def feed(self, data: bytes) -> None:
        """Take bytes of the peer; raises RemoteProtocolError, after which nothing more may be fed."""
        if self._pieces:
            self._pieces.append(data)
            self._have += len(data)
            if self._have < self._need:
                return
            data = b"".join(self._pieces)
            self._pieces.clear()
        at, end = 0, len(data)
        while end - at >= 2 and not self._is_closed:
            size = self._frame(data, at, end)
            if size > end - at:
                break
            at += size
        else:
            size = 2
        if at < end and not self._is_closed:
            self._pieces.append(data[at:] if at else data)
            self._have = end - at
            self._need = size

    def _frame(self, data: bytes, at: int, end: int) -> int:
        """Read the frame at `at` if it is whole; return its size, or how much is needed to know more."""
        first, second = data[at], data[at + 1]
        length = second & _LENGTH
        # A whole binary message is what a tunnel is made of; it needs no closer look.
        if first != _WHOLE_BINARY or self._opcode or (second >= _MASKED) is not self._is_masked:
            self._check_start(first, second, length)
        start = at + 2
        if length >= _LENGTH_OF_2:
            start += 2 if length == _LENGTH_OF_2 else 8
            if start > end:
                return start - at
            length = _extended_length(data, at + 2, start)
        # A control frame between two fragments is not part of their message.
        if length > MAX_CONTROL_BYTES and length + len(self._fragments) > MAX_MESSAGE_BYTES:
            raise RemoteProtocolError("a WebSocket message that is too long")
        if self._is_masked:
            stop = start + 4 + length
            if stop > end:
                return stop - at
            payload = masked(data[start + 4 : stop], data[start : start + 4])
        else:
            stop = start + length
            if stop > end:
                return stop - at
            payload = data[start:stop]
        if first == _WHOLE_BINARY:
            self._sink.binary_received(payload)
        else:
            self._dispatch(first, payload)
        return stop - at

    def _check_start(self, first: int, second: int, length: int) -> None:
        """Refuse what the first two bytes already show to be wrong."""
        if (second >= _MASKED) is not self._is_masked:
            raise RemoteProtocolError("an unmasked frame" if self._is_masked else "a masked frame from a server")
        if first & _RESERVED:
            raise RemoteProtocolError("a reserved bit is set")
        opcode = first & _OPCODE
        if opcode not in _OPCODES:
            raise RemoteProtocolError("an unknown opcode")
        if opcode & _CONTROL:
            if not first & _FINAL:
                raise RemoteProtocolError("a fragmented control frame")
            if length > MAX_CONTROL_BYTES:
                raise RemoteProtocolError("a control frame of more than 125 bytes")
        elif (opcode == CONTINUATION) is (self._opcode == CONTINUATION):
            raise RemoteProtocolError("a message inside a message" if opcode else "a continuation of nothing")

    def _dispatch(self, first: int, payload: bytes) -> None:
        opcode = first & _OPCODE
        if opcode & _CONTROL:
            self._control(opcode, payload)
        elif first & _FINAL and opcode:
            self._message(opcode, payload)
        else:
            self._fragments += payload
            if len(self._fragments) > MAX_MESSAGE_BYTES:
                raise RemoteProtocolError("a WebSocket message that is too long")
            if opcode:
                self._opcode = opcode
            if first & _FINAL:
                whole, self._fragments = bytes(self._fragments), bytearray()
                opcode, self._opcode = self._opcode, CONTINUATION
                self._message(opcode, whole)

    def _message(self, opcode: int, payload: bytes) -> None:
        if opcode == BINARY:
            self._sink.binary_received(payload)
            return
        _utf8(payload, "a text message that is not UTF-8")
        self._sink.text_received(payload)

    def _control(self, opcode: int, payload: bytes) -> None:
        if opcode == PING:
            self._sink.ping_received(payload)
        elif opcode == CLOSE:
            self._is_closed = True
            self._sink.close_received(*_read_close(payload))


def _extended_length(data: bytes, start: int, stop: int) -> int:
    length = int.from_bytes(data[start:stop])
    # RFC 6455 section 5.2: the minimal number of bytes, and the most significant bit 0 (which our limit implies).
    if length < _LENGTH_OF_2 or (stop - start == 8 and length <= 0xFFFF):
        raise RemoteProtocolError("a length that is not encoded minimally")
    return length


def _read_close(payload: bytes) -> tuple[int | None, str]:
    if not payload:
        return None, ""
    if len(payload) == 1:
        raise RemoteProtocolError("a close frame of one byte")
    code = int.from_bytes(payload[:2])
    if not is_close_code(code):
        raise RemoteProtocolError("a close code that may not be sent")
    return code, _utf8(payload[2:], "a close reason that is not UTF-8")


def _utf8(data: bytes, otherwise: str) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise RemoteProtocolError(otherwise) from None


def is_close_code(code: int) -> bool:
    """Whether a code may stand in a close frame (RFC 6455 section 7.4 and the registry it founded)."""
    return (1000 <= code <= 1014 and code not in (1004, 1005, 1006)) or 3000 <= code <= 4999


def masked(data: bytes, mask: bytes) -> bytes:
    """Mask or unmask, which is the same: XOR of large numbers, the fastest way that pure Python has.

    In blocks: the numbers of a whole message leave the processor's cache and take twice as long (decision 0008).
    """
    size = len(data)
    if size <= _BLOCK_BYTES:
        return _xor(data, (mask * ((size >> 2) + 1))[:size])
    key = int.from_bytes(mask * (_BLOCK_BYTES >> 2), "little")
    whole = size - size % _BLOCK_BYTES
    blocks = [
        (int.from_bytes(data[at : at + _BLOCK_BYTES], "little") ^ key).to_bytes(_BLOCK_BYTES, "little")
        for at in range(0, whole, _BLOCK_BYTES)
    ]
    blocks.append(masked(data[whole:], mask))
    return b"".join(blocks)


def _xor(data: bytes, key: bytes) -> bytes:
    return (int.from_bytes(data, "little") ^ int.from_bytes(key, "little")).to_bytes(len(data), "little")


def message_start(opcode: int, size: int) -> bytes:
    """Make the bytes before the payload of a whole, unmasked message: a server's."""
    return _start(_FINAL | opcode, size, 0)


def message(opcode: int, payload: bytes, mask: bytes | None) -> bytes:
    """Make a whole message; a client gives a mask of 4 random bytes, a server None."""
    if mask is None:
        return _start(_FINAL | opcode, len(payload), 0) + payload
    return b"".join((_start(_FINAL | opcode, len(payload), _MASKED), mask, masked(payload, mask)))


def close_payload(code: int, reason: str) -> bytes:
    """Make the payload of a close frame; a reason that is too long is cut."""
    return code.to_bytes(2) + reason.encode("utf-8")[:MAX_REASON_BYTES].decode("utf-8", "ignore").encode("utf-8")


def _start(first: int, size: int, mask_bit: int) -> bytes:
    if size < _LENGTH_OF_2:
        return bytes((first, mask_bit | size))
    if size <= 0xFFFF:
        return bytes((first, mask_bit | _LENGTH_OF_2)) + size.to_bytes(2)
    return bytes((first, mask_bit | _LENGTH_OF_8)) + size.to_bytes(8)
