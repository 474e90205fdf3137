"""Scrub what a server sends by WebSocket (C3): the payload of its frames, message by message. Pure.

Frames of a server are not masked (RFC 6455 section 5.1), and none is compressed: no extension was offered. So a
payload can be overwritten where it stands, and frames keep their heads.

A server may speak something else after its 101 (some do, by agreement with their client): from what is no frame on,
bytes are searched as they come.
"""

import re
from collections import deque
from typing import Final

from gateway.core.scrub import Scrubber

# Heads that wait within what may be a secret: one a byte, where a server writes so, and how many a secret has bytes.
# Fragments without any could be without end. At most ten bytes each.
MAX_WAITING_HEADS: Final = 1024
# What short frames are searched together: enough that a search costs less than a walk over heads, and little to search
# again where something is found.
RUN_BYTES: Final = 4096

# Frames without payload: nothing can stand in them, and the pattern takes a sixteenth of the time of a walk.
_EMPTY_FRAMES: Final = re.compile(rb"(?:[\x00-\x0f\x80-\x8f]\x00)+")
_MANY_BYTES: Final = RUN_BYTES // 4  # of such; fewer are walked with those beside them
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
        "_run_bytes",
        "_scrubber",
        "_waiting",
    )

    def __init__(self, scrubber: Scrubber) -> None:
        self._scrubber = scrubber
        self._head = b""  # of a frame, while it is not whole
        self._left = 0  # of a frame's payload
        self._is_final = False
        self._is_foreign = False  # what came is no WebSocket
        # Heads behind held bytes, each with how many bytes have been placed once it may go: as _placed counts them.
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._placed = 0
        self._run_bytes = RUN_BYTES

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
            elif (run := self._clean_run(data, at)) > at:
                out.append(data[at:run])
                at = run
            else:
                at += self._read_head(data[at : at + 10], out)
        return b"".join(out)

    def _clean_run(self, data: bytes, at: int) -> int:
        """Return where the whole short frames end that begin here and can go on as they are; `at` where none can.

        Frame by frame, two bytes each, a server would keep everybody waiting who is served beside it.
        """
        if self._head or self._waiting or self._scrubber.held_bytes:
            return at
        empty = _EMPTY_FRAMES.match(data, at)
        if empty is not None and empty.end() - at >= _MANY_BYTES:
            return empty.end()
        parts: list[bytes] = []
        here, stop = at, min(len(data), at + self._run_bytes)
        while here + 2 <= stop:
            first, size = data[here], data[here + 1]
            begins, here = here + 2, here + 2 + size
            if first & _RESERVED or size > _SHORT_BYTES or here > stop:
                here = begins - 2
                break
            parts.append(data[begins:here])
        if not parts:
            self._run_bytes = min(self._run_bytes * 2, RUN_BYTES)
            return at
        payload = b"".join(parts)
        if not self._scrubber.needles.is_clean(payload):
            # A frame by itself, then fewer together. What stands across two messages is no secret and costs no more.
            self._run_bytes = max(self._run_bytes // 2, 1)
            return at
        self._run_bytes = min(self._run_bytes * 2, RUN_BYTES)
        is_message_whole = data[here - len(parts[-1]) - 2] & _FINAL
        held = 0 if is_message_whole else self._scrubber.needles.held_suffix(payload)
        while held > 0:
            held -= len(parts[-1])
            here -= 2 + len(parts.pop())
        return here

    def finish(self) -> bytes:
        """Return what was held: nothing follows."""
        rest = self._place(self._scrubber.finish()) + self._head
        self._head = b""
        return rest

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
        if len(self._waiting) == MAX_WAITING_HEADS:
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
