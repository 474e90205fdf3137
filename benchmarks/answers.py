"""Counting right answers in the bytes of one link or stream, for the loads that poll by themselves."""

_OK = b"HTTP/1.1 200 "
_HEAD_END = b"\r\n\r\n"


class LoadError(Exception):
    """What came is not what must come; ends the measurement, which then has no figures."""


class Answers:
    """The answers of one link: each is 200 with the Content-Length expected, one at a time; all else is LoadError."""

    __slots__ = ("_body_bytes", "_held", "_left", "_whole_bytes")

    def __init__(self, body_bytes: int) -> None:
        self._body_bytes = body_bytes
        self._held = b""
        self._left = 0  # of a body whose head has been looked at
        self._whole_bytes = 0  # of the first answer, which was looked at closely; the others are as long

    def feed(self, data: bytes) -> bool:
        """Take bytes; say whether they complete the answer."""
        if self._left:
            return self._take(data, len(data))
        if self._held:
            data = self._held + data
        if len(data) == self._whole_bytes and data.startswith(_OK):
            self._held = b""
            return True
        end = data.find(_HEAD_END)
        if end < 0:
            self._held = data
            return False
        if not data.startswith(_OK) or not self._frames_as_expected(data[: end + 2]):
            raise LoadError(f"unexpected answer: {data[:300]!r}")
        self._held = b""
        head_bytes = end + len(_HEAD_END)
        self._whole_bytes = head_bytes + self._body_bytes
        self._left = self._body_bytes
        return self._take(data, len(data) - head_bytes)

    def _frames_as_expected(self, head: bytes) -> bool:
        return b"\r\ncontent-length: %d\r\n" % self._body_bytes in head.lower()

    def _take(self, data: bytes, count: int) -> bool:
        self._left -= count
        if self._left < 0:
            raise LoadError(f"more than the answer: {data[self._left :][:300]!r}")
        return self._left == 0
