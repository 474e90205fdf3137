"""Scrub what a server sends by WebSocket (C3): the payload of its frames, message by message. Pure.

Frames of a server are not masked (RFC 6455 section 5.1), and none is compressed: no extension was offered. So a
payload can be overwritten where it stands, and frames keep their heads.

A server may speak something else after its 101 (some do, by agreement with their client): from what is no frame on,
bytes are searched as they come.
"""

from typing import Final

from gateway.core.scrub import Scrubber

_FINAL: Final = 0x80
_RESERVED: Final = 0x70
_CONTROL: Final = 0x08
_MASKED: Final = 0x80
_LENGTH: Final = 0x7F
_HEAD_BYTES: Final = {126: 4, 127: 10}  # by the second byte's length; others are 2
_LONGEST: Final = 1 << 63


class FrameScrubber:
    """A Filter for one way of a WebSocket.

    Always: between two messages nothing is held, so whoever waits for one gets it whole. Within a message an end that
    may begin a secret waits for the next fragment, whose head waits behind it.
    """

    __slots__ = ("_before", "_behind", "_head", "_is_final", "_is_foreign", "_left", "_scrubber")

    def __init__(self, scrubber: Scrubber) -> None:
        self._scrubber = scrubber
        self._head = b""  # of a frame, while it is not whole
        self._left = 0  # of a frame's payload
        self._is_final = False
        self._is_foreign = False  # what came is no WebSocket
        self._behind = b""  # the head of a fragment that stands behind held bytes, and how many those are
        self._before = 0

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
            else:
                at += self._read_head(data[at : at + 10], out)
        return b"".join(out)

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
        if head[0] & _RESERVED or head[1] & _MASKED or self._left >= _LONGEST:
            # No server may send that (RFC 6455 sections 5.1, 5.2).
            self._is_foreign = True
            self._left = 0
            out.append(self._place(self._scrubber.feed(head)))
            return
        self._is_final = bool(head[0] & _FINAL)
        if head[0] & _CONTROL or self._behind:
            # A ping is answered now, and one head is as many as wait.
            out.append(self._place(self._scrubber.finish()))
        if self._scrubber.held_bytes:
            self._behind, self._before = head, self._scrubber.held_bytes
        else:
            out.append(head)
        self._end_frame(out)

    def _end_frame(self, out: list[bytes]) -> None:
        if self._is_final and not self._left:
            out.append(self._place(self._scrubber.finish()))

    def _place(self, clean: bytes) -> bytes:
        """Put the head that waits between the bytes that stand before and behind it."""
        if not self._behind:
            return clean
        if len(clean) < self._before:
            self._before -= len(clean)
            return clean
        behind, self._behind = self._behind, b""
        return clean[: self._before] + behind + clean[self._before :]

    def __repr__(self) -> str:
        return f"<FrameScrubber: {self._left} bytes of a frame to come, {self._scrubber!r}>"
