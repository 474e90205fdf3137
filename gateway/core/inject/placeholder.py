"""A credential that is written where the sandbox put a placeholder, in the parts the route names."""

import re
from collections.abc import Sequence
from urllib.parse import quote

from sallyport.secret import Secret


class Replacement:
    """One placeholder value and what takes its place; never printed.

    A target is written by programs that percent-encode as they see fit, so there every spelling of the value is it.
    """

    __slots__ = ("_encoded", "_parts", "_raw", "_spelled", "_value")

    def __init__(self, value: bytes, parts: frozenset[str], secret: Secret) -> None:
        self._value = value
        self._spelled = re.compile(b"".join(map(_spellings, value)))
        self._parts = parts
        self._raw = secret.reveal()
        self._encoded = quote(self._raw, safe="").encode("ascii")

    def in_lines(self, lines: Sequence[bytes]) -> Sequence[bytes]:
        """Replace in header values."""
        if "header" not in self._parts:
            return lines
        return [self._in_line(line) if self._value in line else line for line in lines]

    def _in_line(self, line: bytes) -> bytes:
        name, colon, value = line.partition(b":")
        return name + colon + value.replace(self._value, self._raw)

    def in_path(self, path: bytes) -> bytes:
        """Replace in the path, percent-encoded."""
        return self._replace(path) if "path" in self._parts else path

    def in_query(self, query: bytes | None) -> bytes | None:
        """Replace in the query, percent-encoded."""
        if query is None or "query" not in self._parts:
            return query
        return self._replace(query)

    def _replace(self, text: bytes) -> bytes:
        return self._spelled.sub(lambda _: self._encoded, text)

    def __repr__(self) -> str:
        return "<Replacement>"


def _spellings(byte: int) -> bytes:
    return b"(?:%b|%%(?i:%02x))" % (re.escape(bytes((byte,))), byte)
