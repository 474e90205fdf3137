"""What a server sends after a 101, searched for a secret, however it is cut.

The input is a byte for the number of cuts, so many cut positions (two bytes each), and pieces, each told by its first
byte: bytes as they are, or a frame (opcode and final bit from that byte) whose payload is bytes, or a part of the
secret or of its hex. Allowed outcomes, whole, cut and byte by byte alike:
- every byte comes out, in order, and changed are those alone that a second way of scrubbing, with all of it at hand,
  changes (tests.support.second_scrub).
"""

from itertools import pairwise

from gateway.core.frame_scrub import FrameScrubber
from gateway.core.scrub import Needles, Scrubber
from sallyport.secret import Secret
from sallyport.wire.websocket import message
from tests.support.fuzzing import run
from tests.support.second_scrub import scrub_frames

SECRET = b"canary-5e81c0ffee+/=Zq"
HEX = SECRET.hex().encode()
NEEDLES = Needles.of(Secret(SECRET))
AS_IT_IS, BYTES, OF_SECRET, OF_HEX = (number << 6 for number in range(4))
FINAL, CONTINUED, TEXT, PING = 0x10, 0, 1, 9
SEEDS = (
    b"\x00" + bytes([OF_SECRET | FINAL | TEXT, 0, 22]),
    b"\x02\x00\x03\x00\x09" + bytes([OF_SECRET | TEXT, 0, 7, OF_SECRET, 7, 9, OF_SECRET | FINAL, 9, 22]),
    b"\x01\x00\x05" + bytes([OF_HEX | TEXT, 0, 20, OF_HEX, 20, 20, OF_HEX | FINAL, 20, 44]),
    b"\x00" + bytes([OF_SECRET | TEXT, 0, 7, BYTES | FINAL | PING, 1]) + b"p" + bytes([OF_SECRET | FINAL, 7, 22]),
    b"\x01\x00\x08" + bytes([BYTES | FINAL | TEXT, 130]) + bytes(130) + bytes([AS_IT_IS | 15]) + b"HTTP/1.1 200 OK",
    b"\x00" + bytes([OF_SECRET | TEXT, 0, 12, AS_IT_IS | 22]) + SECRET[12:] + SECRET[:12],
    b"\x00" + bytes([AS_IT_IS | 5]) + b"\x81\x7f\x00\x00\x01",
)


def check(data: bytes) -> None:
    """Check one input."""
    count = data[0] % 8 if data else 0
    sent = build(data[1 + 2 * count :])
    cuts = [int.from_bytes(data[1 + 2 * number : 3 + 2 * number]) % (len(sent) + 1) for number in range(count)]
    check_sent(sent, cuts)


def check_sent(sent: bytes, cuts: list[int]) -> None:
    """Check what a server has sent, and one way to cut it."""
    whole = scrub([sent])
    assert scrub([sent[start:end] for start, end in pairwise(sorted({0, len(sent), *cuts}))]) == whole
    assert scrub([sent[at : at + 1] for at in range(len(sent))]) == whole
    assert whole[0] == scrub_frames(sent, NEEDLES)


def scrub(pieces: list[bytes]) -> tuple[bytes, int]:
    """Return what goes on, and how many needles were found."""
    scrubber = Scrubber(NEEDLES)
    frames = FrameScrubber(scrubber)
    out = fed = 0
    parts: list[bytes] = []
    for piece in pieces:
        parts.append(frames.feed(piece))
        fed, out = fed + len(piece), out + len(parts[-1])
        assert out <= fed
    parts.append(frames.finish())
    assert out + len(parts[-1]) == fed
    return b"".join(parts), scrubber.matches


def build(told: bytes) -> bytes:
    """Make of an input what a server sends."""
    sent, at = b"", 0
    while at < len(told):
        kind, first, second = told[at], *told[at + 1 : at + 3].ljust(2, b"\0")
        at += 1
        if kind & 0xC0 == AS_IT_IS:
            size = kind & 0x3F
            sent += told[at : at + size]
            at += size
            continue
        if kind & 0xC0 == BYTES:
            payload = told[at + 1 : at + 1 + first]
            at += 1 + first
        else:
            form = SECRET if kind & 0xC0 == OF_SECRET else HEX
            payload = form[first % (len(form) + 1) : second % (len(form) + 1)]
            at += 2
        frame = message(kind & 0x0F, payload, None)
        sent += frame if kind & FINAL else bytes([frame[0] & 0x7F]) + frame[1:]
    return sent


if __name__ == "__main__":
    run(check, SEEDS)
