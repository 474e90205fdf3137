"""Counting right answers in the bytes of one link or stream, for the loads that poll by themselves."""

_OK = b"HTTP/1.1 200 "
_HEAD_END = b"\r\n\r\n"


class LoadError(Exception):
    """What came is not what must come; ends the measurement, which then has no figures."""


class Answers:
    """The answers of one link: each is 200 with the Content-Length expected, one at a time; all else is LoadError."""

    __slots__ = ("_body_bytes", "_held", "_whole_bytes")

    def __init__(self, body_bytes: int) -> None:
        self._body_bytes = body_bytes
        self._held = b""
        self._whole_bytes = 0  # of the first answer, which was looked at closely; the others are as long

    def feed(self, data: bytes) -> bool:
        """Take bytes; say whether they complete the answer."""
        if self._held:
            data = self._held + data
        if len(data) == self._whole_bytes and data.startswith(_OK):
            self._held = b""
            return True
        end = data.find(_HEAD_END)
        if end >= 0:
            is_right = (
                data.startswith(_OK) and b"\r\ncontent-length: %d\r\n" % self._body_bytes in data[: end + 2].lower()
            )
            whole = end + len(_HEAD_END) + self._body_bytes
            if not is_right or len(data) > whole:
                raise LoadError(f"unexpected answer: {data[:300]!r}")
            if len(data) == whole:
                self._whole_bytes = whole
                self._held = b""
                return True
        self._held = data
        return False
