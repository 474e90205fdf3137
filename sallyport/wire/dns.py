"""Questions to a name server and their answers, as far as a server needs that answers from a table (RFC 1035, 6891).

One question, one section of addresses. Whatever else a question brings along (EDNS, signatures) is not looked at and
not answered: a resolver takes that for a server of the old kind.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from sallyport.wire.errors import RemoteProtocolError

_HEAD: Final = struct.Struct(">HHHHHH")
_IS_ANSWER: Final = 0x8000
_OPERATION: Final = 0x7800
_IS_AUTHORITY: Final = 0x0400
_RECURSION_WANTED: Final = 0x0100
_RECURSION_OFFERED: Final = 0x0080
# RFC 1035 section 4.1.4: the two high bits of a length say that it is none; in the one question nothing is before it.
_LONGEST_LABEL: Final = 63
_LONGEST_NAME: Final = 255
_AT_THE_QUESTION: Final = 0xC00C
INTERNET: Final = 1


class Kind(IntEnum):
    """What is asked for; all others are numbers without a name here."""

    A = 1
    AAAA = 28
    ANY = 255


class Reply(IntEnum):
    """What becomes of a question (RCODE)."""

    DONE = 0
    MALFORMED = 1
    FAILED = 2
    NO_SUCH_NAME = 3
    NOT_IMPLEMENTED = 4
    REFUSED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One question. `name` is as it was written, without the last dot; a byte that is no ASCII stands as U+FFFD."""

    message_id: int
    flags: int
    name: str
    kind: int
    space: int
    written: bytes

    @property
    def is_query(self) -> bool:
        """Whether it asks, and does not order a change of some kind."""
        return not self.flags & _OPERATION


def read_question(message: bytes) -> Question:
    """Read a message; raises RemoteProtocolError for what has no one question in it."""
    if len(message) < _HEAD.size:
        raise RemoteProtocolError("shorter than a head")
    message_id, flags, questions, answers, _, _ = _HEAD.unpack_from(message)
    if flags & _IS_ANSWER or questions != 1 or answers:
        raise RemoteProtocolError("not one question")
    labels, at = [], _HEAD.size
    while True:
        if at >= len(message):
            raise RemoteProtocolError("the name is cut off")
        length = message[at]
        if length == 0:
            break
        if length > _LONGEST_LABEL or at + length - _HEAD.size > _LONGEST_NAME - 2:
            raise RemoteProtocolError("a label or the name is too long, or refers to elsewhere")
        labels.append(message[at + 1 : at + 1 + length])
        at += 1 + length
    if len(message) < at + 5:
        raise RemoteProtocolError("the question is cut off")
    kind, space = struct.unpack_from(">HH", message, at + 1)
    if any(b"." in label for label in labels):
        raise RemoteProtocolError("a label has a dot in it, so it could be read as two")
    name = b".".join(labels).decode("ascii", errors="replace")
    return Question(
        message_id=message_id,
        flags=flags,
        name=name,
        kind=kind,
        space=space,
        written=message[_HEAD.size : at + 5],
    )


def write_reply(question: Question, reply: Reply, addresses: Sequence[bytes] = (), ttl_seconds: int = 0) -> bytes:
    """Answer a question, with addresses of the kind it asks for. It always fits into 512 bytes: there are few."""
    flags = (
        _IS_ANSWER
        | question.flags & (_OPERATION | _RECURSION_WANTED)
        | _IS_AUTHORITY * (reply is Reply.DONE)
        | _RECURSION_OFFERED
        | reply
    )
    head = _HEAD.pack(question.message_id, flags, 1, len(addresses), 0, 0)
    records = [
        struct.pack(">HHHIH", _AT_THE_QUESTION, question.kind, INTERNET, ttl_seconds, len(address)) + address
        for address in addresses
    ]
    return head + question.written + b"".join(records)


def write_malformed(message: bytes) -> bytes | None:
    """Answer what could not be read; None where it has no number to answer by, or is an answer itself."""
    if len(message) < _HEAD.size or message[2] & 0x80:
        return None
    message_id, flags, *_ = _HEAD.unpack_from(message)
    flags = _IS_ANSWER | flags & (_OPERATION | _RECURSION_WANTED) | Reply.MALFORMED
    return _HEAD.pack(message_id, flags, 0, 0, 0, 0)
