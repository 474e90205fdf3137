"""Scrub what a server sends by WebSocket (C3): the payload of its frames, message by message. Pure.

Frames of a server are not masked (RFC 6455 section 5.1), and none is compressed: no extension was offered. So a
payload can be overwritten where it stands, and frames keep their heads.

A server may speak something else after its 101 (some do, by agreement with their client): from what is no frame on,
bytes are searched as they come.
"""

import re
from collections import deque
from collections.abc import Iterable
from typing import Final

from gateway.core.scrub import Scrubber

# Heads that wait within what may be a secret: one a byte, where a server writes so, and how many a secret has bytes.
# Fragments without any could be without end. At most ten bytes each.
MAX_WAITING_HEADS: Final = 1024
# What short frames are searched together: enough that a search costs less than a walk over heads.
RUN_BYTES: Final = 4096
_WAITING_BYTES: Final = 3  # of a fragment of one byte: behind held bytes it is enough to look at as many as may wait

# Frames without payload: nothing can stand in them, and the pattern takes a sixteenth of the time of a walk.
_MANY_BYTES: Final = RUN_BYTES // 4  # of such; fewer are walked with those beside them
_EMPTY_FRAMES: Final = re.compile(rb"(?:[\x00-\x0f\x80-\x8f]\x00){%d,}" % (_MANY_BYTES // 2))
_SHORT_BYTES: Final = 125  # of a payload whose head has two bytes
_FINAL: Final = 0x80
_RESERVED: Final = 0x70
_MASKED: Final = 0x80
_LENGTH: Final = 0x7F
_HEAD_BYTES: Final = {126: 4, 127: 10}  # by the second byte's length; others are 2


class FrameScrubber:
    """A Filter for one way of a WebSocket.

    Always: behind a message, or a control frame, nothing is held, so whoever waits for one gets it whole. Within a
    message an end that may begin a secret waits for the next fragments, whose heads wait behind it.
    """

    __slots__ = (
        "_head",
        "_is_final",
        "_is_foreign",
        "_left",
        "_placed",
        "_scrubber",
        "_separator",
        "_waiting",
    )

    def __init__(self, scrubber: Scrubber) -> None:
        self._scrubber = scrubber
        self._separator = _byte_in_none(scrubber.needles.patterns)
        self._head = b""  # of a frame, while it is not whole
        self._left = 0  # of a frame's payload
        self._is_final = False
        self._is_foreign = False  # what came is no WebSocket
        # Heads behind held bytes, each with how many bytes have been placed once it may go: as _placed counts them.
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._placed = 0

    def feed(self, data: bytes) -> bytes:
        """Return what may go on."""
        out: list[bytes] = []
        at, end = 0, len(data)
        while at < end:
            if self._is_foreign:
                out.append(self._place(self._scrubber.feed(data[at:])))
                at = end
            elif self._left:
                payload = data[at : at + self._left]
                at += len(payload)
                self._left -= len(payload)
                out.append(self._place(self._scrubber.feed(payload)))
                self._end_frame(out)
            elif (run := self._pass_run(data, at, out)) > at:
                at = run
            else:
                at += self._read_head(data[at : at + 10], out)
        return b"".join(out)

    def _pass_run(self, data: bytes, at: int, out: list[bytes]) -> int:
        """Pass on the whole frames that begin here, as many as are searched at once; return where they end.

        Frame by frame, two bytes each, a server would keep everybody waiting who is served beside it.
        """
        if self._head or not self._separator:
            return at
        scrubber = self._scrubber
        holds = scrubber.held_bytes > 0
        if not holds and len(data) - at >= _MANY_BYTES:
            empty = _EMPTY_FRAMES.match(data, at)
            if empty is not None:
                out.append(empty[0])
                return empty.end()
        payloads, edges = _cut_run(data, at, _WAITING_BYTES * self._room if holds else RUN_BYTES)
        if not payloads:
            return at
        if holds:
            return self._scrub_run(data, payloads, edges, out)
        # What stands across two messages is no secret, but where nothing stands in all of them there is none.
        together = b"".join(payloads)
        if not scrubber.needles.is_clean(together):
            return self._scrub_run(data, payloads, edges, out)
        is_message_whole = data[edges[-2]] & _FINAL
        held = 0 if is_message_whole else scrubber.needles.held_suffix(together)
        if not held:
            out.append(data[at : edges[-1]])
            return edges[-1]
        first, _ = _first_held(payloads, held)
        out.append(data[at : edges[first]])
        return self._scrub_run(data, payloads[first:], edges[first:], out)

    def _scrub_run(self, data: bytes, payloads: list[bytes], edges: list[int], out: list[bytes]) -> int:
        """Search the payloads of frames at once, of as many as may wait; return where these end.

        Behind each message stands a byte that ends every match, and is not sent.
        """
        payloads = payloads[: self._room]
        ends = self._separator
        frames = zip(payloads, edges, strict=False)
        searched = b"".join([payload + ends if data[begins] & _FINAL else payload for payload, begins in frames])
        before = self._scrubber.held_bytes
        # Apart, because more may be held than begins a match (MAX_COMPARISONS), and nothing is behind such a byte.
        ended = searched.rfind(ends) + 1
        clean = self._scrubber.feed(searched[:ended]) if ended else b""
        clean += self._scrubber.feed(searched[ended:])
        out.append(self._place(clean[:before]))
        clean = clean[before:]
        first, placed = _first_held(payloads, self._scrubber.held_bytes)
        if searched.startswith(clean):
            out.append(data[edges[0] : edges[first]])
        else:
            _put_heads(data, payloads[:first], edges, clean, out)
        position = self._placed - placed
        for index in range(first, len(payloads)):
            size = len(payloads[index])
            head = data[edges[index] : edges[index + 1] - size]
            if position > self._placed:
                self._waiting.append((position, head))
            else:
                # Of the first held bytes' frame; what stands before it has gone.
                out += (head, clean[len(clean) - placed :])
            position += size
        return edges[len(payloads)]

    def finish(self) -> bytes:
        """Return what was held: nothing follows."""
        rest = self._place(self._scrubber.finish()) + self._head
        self._head = b""
        return rest

    @property
    def _room(self) -> int:
        """How many more heads may wait."""
        return MAX_WAITING_HEADS - len(self._waiting)

    def _read_head(self, data: bytes, out: list[bytes]) -> int:
        """Read a frame's head, or the part of it that is here; return how many bytes of data are its."""
        known = len(self._head)
        head = self._head + data
        size = 2 if len(head) < 2 else _HEAD_BYTES.get(head[1] & _LENGTH, 2)
        if head[0] & _RESERVED:
            size = 1  # no frame begins so, and whoever waits for a single byte gets it
        if len(head) < size:
            self._head = head
            return len(data)
        self._head = b""
        self._begin_frame(head[:size], out)
        return size - known

    def _begin_frame(self, head: bytes, out: list[bytes]) -> None:
        self._left = head[-1] if len(head) <= 2 else int.from_bytes(head[2:])
        if head[0] & _RESERVED or head[1] & _MASKED:
            # No server may send that (RFC 6455 sections 5.1, 5.2).
            self._is_foreign = True
            self._left = 0
            out.append(self._place(self._scrubber.feed(head)))
            return
        self._is_final = bool(head[0] & _FINAL)
        if not self._room:
            out.append(self._place(self._scrubber.finish()))
        if self._scrubber.held_bytes:
            self._waiting.append((self._placed + self._scrubber.held_bytes, head))
        else:
            out.append(head)
        self._end_frame(out)

    def _end_frame(self, out: list[bytes]) -> None:
        if self._is_final and not self._left:
            out.append(self._place(self._scrubber.finish()))

    def _place(self, clean: bytes) -> bytes:
        """Put the heads that wait between the bytes that stand before and behind them."""
        waiting = self._waiting
        if not waiting:
            return clean
        parts: list[bytes] = []
        at = 0
        while waiting and waiting[0][0] <= self._placed + len(clean):
            position, head = waiting.popleft()
            parts += (clean[at : position - self._placed], head)
            at = position - self._placed
        parts.append(clean[at:])
        self._placed += len(clean)
        return b"".join(parts)

    def __repr__(self) -> str:
        return f"<FrameScrubber: {self._left} bytes of a frame to come, {self._scrubber!r}>"


def _cut_run(data: bytes, at: int, run_bytes: int) -> tuple[list[bytes], list[int]]:
    """Return the payloads of the whole frames in the next run_bytes, and where each begins and the last ends."""
    payloads: list[bytes] = []
    edges = [at]
    stop = min(len(data), at + run_bytes)
    last = stop - 1  # a head has two bytes
    while at < last:
        size = data[at + 1]
        begins = at + 2
        if size > _SHORT_BYTES:
            # A masked frame is none of a server's: nothing is long enough for it.
            begins = at + _HEAD_BYTES.get(size, run_bytes + 1)
            size = int.from_bytes(data[at + 2 : begins])
        ends = begins + size
        if ends > stop or data[at] & _RESERVED:
            break
        payloads.append(data[begins:ends])
        edges.append(ends)
        at = ends
    return payloads, edges


def _put_heads(data: bytes, payloads: list[bytes], edges: list[int], clean: bytes, out: list[bytes]) -> None:
    """Put the heads of frames between their payloads as they were searched: clean, and a byte behind each message."""
    at, sent = 0, edges[0]
    for payload, begins, follows in zip(payloads, edges, edges[1:], strict=False):
        if payload:
            size = len(payload)
            out += (data[sent : follows - size], clean[at : at + size])
            at, sent = at + size, follows
        if data[begins] & _FINAL:
            at += 1
    out.append(data[sent : edges[len(payloads)]])


def _first_held(payloads: list[bytes], held: int) -> tuple[int, int]:
    """Return the first frame that the last so many bytes stand in, and how many of its bytes stand before them.

    These are negative where more are held than that: bytes before all of these frames.
    """
    first = len(payloads)
    while held > 0 and first > 0:
        first -= 1
        held -= len(payloads[first])
    return first, -held


def _byte_in_none(patterns: Iterable[bytes]) -> bytes:
    """Return a byte that is in none of them: secrets have no control characters. Nothing, where all are in some."""
    for code in range(256):
        byte = bytes([code])
        if not any(byte in pattern for pattern in patterns):
            return byte
    return b""
