"""DNS messages as a resolver writes and reads them, written apart from what is tested."""

import struct
from typing import NamedTuple

A, AAAA, TXT, HTTPS, ANY = 1, 28, 16, 65, 255


def question(name: str, kind: int = A, *, number: int = 7, space: int = 1, flags: int = 0x0100) -> bytes:
    """Write a question."""
    labels = b"".join(bytes((len(label.encode()),)) + label.encode() for label in name.split(".") if label)
    return struct.pack(">6H", number, flags, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">2H", kind, space)


class Answered(NamedTuple):
    """An answer's number, its code, its one question as it came back, and its addresses with their TTL."""

    number: int
    code: int
    question: bytes
    addresses: tuple[tuple[bytes, int], ...]


def answered(message: bytes) -> Answered:
    """Read an answer whose records all name the question."""
    number, flags, questions, answers, authority, additional = struct.unpack(">6H", message[:12])
    assert flags & 0x8000
    assert (authority, additional) == (0, 0)
    end = 12
    if questions:
        while message[end]:  # a label's length: there may be zeros within it
            end += 1 + message[end]
        end += 5
    asked, rest = message[12:end], message[end:]
    addresses = []
    for _ in range(answers):
        pointer, kind, space, ttl, length = struct.unpack(">HHHIH", rest[:12])
        assert (pointer, struct.pack(">2H", kind, space)) == (0xC00C, asked[-4:])
        addresses.append((rest[12 : 12 + length], ttl))
        rest = rest[12 + length :]
    assert rest == b""
    return Answered(number, flags & 0xF, asked, tuple(addresses))
