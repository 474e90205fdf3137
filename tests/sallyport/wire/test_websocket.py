"""WebSocket frames: the examples of RFC 6455 by hand, every refusal, and that chunking never matters."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sallyport.wire import websocket
from sallyport.wire.errors import RemoteProtocolError
from sallyport.wire.websocket import (
    BINARY,
    CLOSE,
    MAX_MESSAGE_BYTES,
    PING,
    PONG,
    TEXT,
    MessageReader,
    close_payload,
    is_close_code,
    masked,
    message,
    message_start,
)

MASK = bytes.fromhex("37fa213d")


class Transcript:
    """A sink that writes down what it hears."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def binary_received(self, data: bytes) -> None:
        self.lines.append(f"binary {_short(data)}")

    def text_received(self, data: bytes) -> None:
        self.lines.append(f"text {_short(data)}")

    def ping_received(self, payload: bytes) -> None:
        self.lines.append(f"ping {_short(payload)}")

    def close_received(self, code: int | None, reason: str) -> None:
        self.lines.append(f"close {code} {reason!r}")


def _short(data: bytes) -> str:
    return repr(data) if len(data) <= 32 else f"{len(data)} bytes"


def read(data: bytes, *, is_client: bool = True, chunk: int = 0) -> list[str]:
    """Read as a client does (frames of a server), or as a server; in one piece or in pieces of chunk bytes."""
    sink = Transcript()
    reader = MessageReader(sink, is_client=is_client)
    size = chunk or max(1, len(data))
    for start in range(0, len(data), size):
        reader.feed(data[start : start + size])
    return sink.lines


@pytest.mark.parametrize("chunk", [0, 1, 2, 3])
@pytest.mark.parametrize(
    ("wire", "is_client", "lines"),
    [
        # RFC 6455 section 5.7, example by example.
        ("81 05 48 65 6c 6c 6f", True, ["text b'Hello'"]),
        ("81 85 37 fa 21 3d 7f 9f 4d 51 58", False, ["text b'Hello'"]),
        ("01 03 48 65 6c 80 02 6c 6f", True, ["text b'Hello'"]),
        ("89 05 48 65 6c 6c 6f", True, ["ping b'Hello'"]),
        ("8a 85 37 fa 21 3d 7f 9f 4d 51 58", False, []),
        ("82 7e 01 00" + "00" * 256, True, ["binary 256 bytes"]),
        ("82 7f 00 00 00 00 00 01 00 00" + "00" * 65536, True, ["binary 65536 bytes"]),
        # What the RFC allows and its examples do not show.
        ("82 00 81 00", True, ["binary b''", "text b''"]),
        ("02 01 61 89 01 70 00 01 62 80 01 63", True, ["ping b'p'", "binary b'abc'"]),
        ("88 00", True, ["close None ''"]),
        ("88 02 03 e8", True, ["close 1000 ''"]),
        ("88 04 0f a1 c3 a9", True, ["close 4001 'é'"]),
        ("88 02 03 e8 82 01 61", True, ["close 1000 ''"]),  # nothing is read after a close
    ],
)
def test_what_is_read(wire: str, is_client: bool, lines: list[str], chunk: int) -> None:
    data = bytes.fromhex(wire)
    assert read(data, is_client=is_client, chunk=chunk if len(data) < 1000 or not chunk else 999) == lines


@pytest.mark.parametrize("chunk", [0, 1])
@pytest.mark.parametrize(
    ("wire", "is_client", "reason"),
    [
        ("82 00", False, "unmasked"),
        ("82 80 00 00 00 00", True, "masked"),
        ("c2 00", True, "reserved bit"),
        ("a2 00", True, "reserved bit"),
        ("92 00", True, "reserved bit"),
        ("83 00", True, "opcode"),
        ("8f 00", True, "opcode"),
        ("8b 00", True, "opcode"),
        ("09 00", True, "fragmented control"),
        ("89 7e 00 7e", True, "more than 125"),
        ("80 00", True, "continuation of nothing"),
        ("02 00 82 00", True, "message inside"),
        ("02 00 01 00", True, "message inside"),
        ("82 7e 00 7d" + "00" * 125, True, "minimally"),
        ("82 7f 00 00 00 00 00 00 ff ff", True, "minimally"),
        ("82 7f 00 00 00 00 00 01 00 01", True, "too long"),
        ("82 7f 80 00 00 00 00 00 00 00", True, "too long"),
        ("02 7e ff ff" + "00" * 65535 + "80 02 00 00", True, "too long"),
        ("02 7f 00 00 00 00 00 01 00 00" + "00" * 65536 + "00 7e 01 00", True, "too long"),
        ("81 01 ff", True, "UTF-8"),
        ("81 02 c3 28", True, "UTF-8"),
        ("81 03 ed a0 80", True, "UTF-8"),  # a surrogate
        ("01 01 c3 80 01 28", True, "UTF-8"),
        ("88 01 03", True, "one byte"),
        ("88 02 03 ed", True, "close code"),  # 1005
        ("88 02 03 e7", True, "close code"),
        ("88 02 13 88", True, "close code"),  # 5000
        ("88 03 03 e8 ff", True, "UTF-8"),
    ],
)
def test_what_is_refused(wire: str, is_client: bool, reason: str, chunk: int) -> None:
    data = bytes.fromhex(wire)
    with pytest.raises(RemoteProtocolError, match=reason):
        read(data, is_client=is_client, chunk=chunk if len(data) < 1000 or not chunk else 999)


def test_a_refusal_comes_before_the_payload() -> None:
    with pytest.raises(RemoteProtocolError, match="too long"):
        read(b"\x82\x7f" + (2**40).to_bytes(8))


def test_a_text_may_be_cut_inside_a_character() -> None:
    assert read(b"\x01\x01\xc3\x80\x01\xa9") == ["text b'\\xc3\\xa9'"]


def test_a_control_frame_does_not_count_to_the_message_around_it() -> None:
    start = b"\x02\x7f" + (MAX_MESSAGE_BYTES).to_bytes(8) + bytes(MAX_MESSAGE_BYTES)
    assert read(start + b"\x89\x02hi" + b"\x80\x00") == ["ping b'hi'", f"binary {MAX_MESSAGE_BYTES} bytes"]


def test_empty_fragments_hold_nothing() -> None:
    reader = MessageReader(Transcript(), is_client=True)
    reader.feed(b"\x02\x00" + b"\x00\x00" * 10_000)
    assert reader._fragments == b""
    assert reader._pieces == []


@pytest.mark.parametrize("size", [0, 1, 3, 4, 5, 125, 126, 4095, 4096, 4097, 8192, 10_001, 65_535, 65_536])
def test_masking_twice_is_nothing(size: int) -> None:
    data = (bytes(range(256)) * 257)[:size]
    once = masked(data, MASK)
    assert once == bytes(byte ^ MASK[index & 3] for index, byte in enumerate(data))
    assert masked(once, MASK) == data


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536])
def test_what_is_written_is_read(size: int) -> None:
    payload = (b"0123456789" * 6554)[:size]
    for opcode, word in ((BINARY, "binary"), (TEXT, "text")):
        lines = [f"{word} {_short(payload)}"]
        assert read(message(opcode, payload, None)) == lines
        assert read(message_start(opcode, size) + payload) == lines
        assert read(message(opcode, payload, MASK), is_client=False) == lines


def test_control_frames_are_written_as_the_rfc_shows_them() -> None:
    assert message(PING, b"Hello", None) == bytes.fromhex("89 05 48 65 6c 6c 6f")
    assert message(PONG, b"Hello", MASK) == bytes.fromhex("8a 85 37 fa 21 3d 7f 9f 4d 51 58")
    assert message(CLOSE, close_payload(websocket.DRAINING, "é"), None) == bytes.fromhex("88 04 0f a1 c3 a9")


def test_a_long_reason_is_cut_between_characters() -> None:
    payload = close_payload(websocket.PROTOCOL, "é" * 100)
    assert len(payload) == 2 + 122
    assert read(message(CLOSE, payload, None)) == [f"close 1008 '{'é' * 61}'"]


def test_every_close_code_of_the_tunnel_may_be_sent() -> None:
    codes = (websocket.PROTOCOL, websocket.INTERNAL, websocket.DRAINING, websocket.REPLACED)
    assert all(is_close_code(code) for code in (*codes, websocket.REVOKED, websocket.EXPIRED))
    assert not any(is_close_code(code) for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535))


frames = st.tuples(st.sampled_from([TEXT, BINARY, PING, CLOSE]), st.binary(max_size=200))


@given(
    messages=st.lists(frames, max_size=6),
    mask=st.binary(min_size=4, max_size=4),
    cuts=st.lists(st.integers(1, 50), min_size=1),
)
def test_chunking_never_matters(messages: list[tuple[int, bytes]], mask: bytes, cuts: list[int]) -> None:
    data = b"".join(
        message(opcode, payload[:125] if opcode >= CLOSE else payload, mask) for opcode, payload in messages
    )
    whole, cut = Transcript(), Transcript()
    outcomes = []
    for sink, sizes in ((whole, [len(data) or 1]), (cut, cuts)):
        reader = MessageReader(sink, is_client=False)
        at = turn = 0
        refused = ""
        while at < len(data) and not refused:
            size = sizes[turn % len(sizes)]
            try:
                reader.feed(data[at : at + size])
            except RemoteProtocolError as error:
                refused = error.reason
            at += size
            turn += 1
        outcomes.append((sink.lines, refused))
    assert outcomes[0] == outcomes[1]


@given(data=st.binary(max_size=300), is_client=st.booleans())
def test_any_bytes_are_messages_or_refused(data: bytes, is_client: bool) -> None:
    with contextlib.suppress(RemoteProtocolError):
        read(data, is_client=is_client)
