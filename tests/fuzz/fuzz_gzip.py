"""Gzip of an answer, however it is cut.

The input is a byte whose low bits are the number of cuts and whose highest says that the rest is still to be
compressed, so many cut positions (two bytes each), and the body. Allowed outcomes, whole, cut and byte by byte alike:
- the content of every member, one after the other, as a second reader (tests.support.second_gzip) has it;
- RemoteProtocolError, because it is no gzip or is cut short, where that reader says so; what was given out until then
  is the content's beginning.
No step gives more than STEP_BYTES, each gives or takes something, and nothing is held once there is no more to do.
"""

import gzip
from itertools import pairwise

from gateway.core.content_coding import STEP_BYTES, GzipReader
from sallyport.wire.errors import RemoteProtocolError
from tests.support.fuzzing import run
from tests.support.second_gzip import CutShort, NoGzip, undo

ONE = gzip.compress(b"an answer, " * 3 + bytes(range(64)), mtime=0)
ALL_FIELDS = ONE[:3] + b"\x1d" + ONE[4:10] + b"\x02\x00abname\x00comment\x00" + ONE[10:]
SEEDS = (
    b"\x00" + ONE,
    b"\x02\x00\x05\x00\x20" + ONE + gzip.compress(b"", mtime=0) + ONE,
    b"\x01\x00\x0f" + ALL_FIELDS,
    b"\x00" + ONE[:-8] + bytes(8),
    b"\x00" + ONE + bytes(4),
    b"\x01\x00\x30" + gzip.compress(bytes(3 * STEP_BYTES), mtime=0) + ONE[:20],
    b"\x82\x00\x05\x00\x09" + b"to be compressed, to be compressed",
)


class Undone:
    """What became of a body that came in pieces: what was given out, and why it went no further."""

    def __init__(self, pieces: list[bytes]) -> None:
        self.given = b""
        self.reason = ""
        reader = GzipReader()
        size, steps = sum(map(len, pieces)), 0
        try:
            for piece in pieces:
                reader.feed(piece)
                while reader.has_more:
                    given = reader.step()
                    assert len(given) <= STEP_BYTES
                    self.given += given
                    steps += 1
                    assert steps <= size + len(self.given) // STEP_BYTES + len(pieces), "a step that does nothing"
                assert repr(reader).endswith(" 0 bytes held>")
            reader.finish()
        except RemoteProtocolError as error:
            self.reason = error.reason


def check(data: bytes) -> None:
    """Check one input."""
    first = data[0] if data else 0
    count = first % 8
    body = data[1 + 2 * count :]
    if first & 0x80:
        body = gzip.compress(body, mtime=0)
    cuts = [int.from_bytes(data[1 + 2 * number : 3 + 2 * number]) % (len(body) + 1) for number in range(count)]
    check_body(body, cuts)


def check_body(body: bytes, cuts: list[int]) -> None:
    """Check one body and one way to cut it."""
    whole = Undone([body])
    bytewise = Undone([body[at : at + 1] for at in range(len(body))])
    cut = Undone([body[start:end] for start, end in pairwise(sorted({0, len(body), *cuts}))])
    assert whole.reason == cut.reason == bytewise.reason
    assert bytewise.given.startswith(cut.given)
    assert bytewise.given.startswith(whole.given)
    try:
        content = b"".join(undo(body))
    except NoGzip:
        assert whole.reason == "the answer says gzip and is not"
    except CutShort:
        assert whole.reason == "the answer's gzip is cut short"
        assert whole.given == bytewise.given
    else:
        assert (whole.reason, whole.given, cut.given, bytewise.given) == ("", content, content, content)


if __name__ == "__main__":
    run(check, SEEDS)
