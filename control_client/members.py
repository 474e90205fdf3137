"""One JSON object of the control plane, taken apart strictly: every member once, of its type, and none left over.

Errors name pointers, never values: a value may be a secret.
"""

import json
import re
from collections.abc import Mapping
from typing import Final

from control_client.errors import unexpected
from sallyport.json_object import unique_members

# Ids, words and digests; whoever needs more says so.
MAX_TEXT: Final = 256
# Unix seconds up to the year 2286: milliseconds, the usual slip, are beyond it.
LAST_INSTANT: Final = 10_000_000_000
_HALF_A_PAIR: Final = re.compile("[\ud800-\udfff]")


def read_object(document: bytes) -> "Members":
    """Parse one JSON object; raises ControlError."""
    try:
        value = json.loads(
            document.decode("utf-8"),
            object_pairs_hook=unique_members,
            parse_float=_refuse_number,
            parse_constant=_refuse_number,
            parse_int=_integer,
        )
    except (ValueError, RecursionError):
        raise unexpected("not a JSON object with each member once") from None
    return Members(value, "")


class Members:
    """The members of one object; each is taken once, and end() refuses what nobody took."""

    __slots__ = ("_left", "_where")

    def __init__(self, value: object, where: str) -> None:
        """Raises ControlError where value is no object."""
        if not isinstance(value, Mapping):
            raise unexpected(f"{where or '/'} is not an object")
        self._left: dict[str, object] = dict(value)
        self._where = where

    def text(self, name: str, *, most: int = MAX_TEXT) -> str:
        """Take a non-empty text without control characters."""
        found = self.optional_text(name, most=most)
        if found is None:
            raise self._wrong(name, "is missing")
        return found

    def optional_text(self, name: str, *, most: int = MAX_TEXT) -> str | None:
        """Take a text that may be absent or null."""
        value = self._left.pop(name, None)
        if value is None:
            return None
        if not isinstance(value, str) or not 0 < len(value) <= most or not value.isprintable():
            raise self._wrong(name, f"is not a printable text of 1 to {most} characters")
        return value

    def raw_text(self, name: str, *, most: int) -> str:
        """Take a text of any characters, empty ones too: its taker judges it. Half a surrogate pair is no character."""
        value = self._left.pop(name, None)
        if not isinstance(value, str) or len(value) > most or _HALF_A_PAIR.search(value):
            raise self._wrong(name, f"is not a text of up to {most} characters")
        return value

    def word(self, name: str, words: frozenset[str]) -> str:
        """Take one of these words."""
        value = self.text(name)
        if value not in words:
            raise self._wrong(name, f"is none of {', '.join(sorted(words))}")
        return value

    def integer(self, name: str, *, least: int = 0, most: int = 2**53 - 1) -> int:
        """Take a whole number."""
        found = self.optional_integer(name, least=least, most=most)
        if found is None:
            raise self._wrong(name, "is missing")
        return found

    def optional_integer(self, name: str, *, least: int = 0, most: int = 2**53 - 1) -> int | None:
        """Take a whole number that may be absent or null."""
        value = self._left.pop(name, None)
        if value is None:
            return None
        if type(value) is not int or not least <= value <= most:
            raise self._wrong(name, f"is not a whole number from {least} to {most}")
        return value

    def instant(self, name: str) -> int:
        """Take an instant in unix seconds."""
        return self.integer(name, most=LAST_INSTANT)

    def optional_instant(self, name: str) -> int | None:
        """Take an instant that may be absent or null."""
        return self.optional_integer(name, most=LAST_INSTANT)

    def objects(self, name: str, *, most: int) -> list["Members"]:
        """Take a list of objects."""
        value = self._list(name, most)
        return [Members(item, f"{self._where}/{name}/{index}") for index, item in enumerate(value)]

    def named(self, name: str, *, most: int) -> dict[str, "Members"]:
        """Take an object of objects whose names are anybody's: texts as text() takes them."""
        value = self._left.pop(name, None)
        if not isinstance(value, dict) or len(value) > most:
            raise self._wrong(name, f"is not an object of up to {most}")
        if not all(0 < len(key) <= MAX_TEXT and key.isprintable() for key in value):
            raise self._wrong(name, f"has a name that is not a printable text of 1 to {MAX_TEXT} characters")
        return {key: Members(item, f"{self._where}/{name}/{key}") for key, item in value.items()}

    def optional_object(self, name: str) -> "Members | None":
        """Take an object that may be absent or null."""
        value = self._left.pop(name, None)
        return None if value is None else Members(value, f"{self._where}/{name}")

    def free_object(self, name: str) -> Mapping[str, object]:
        """Take an object that may be absent or null and hold anything."""
        value = self._left.pop(name, None)
        if value is not None and not isinstance(value, dict):
            raise self._wrong(name, "is not an object")
        return value or {}

    def free_objects(self, name: str, *, most: int) -> list[Mapping[str, object]]:
        """Take a list of objects that may hold anything."""
        value = self._list(name, most)
        if not all(isinstance(item, dict) for item in value):
            raise self._wrong(name, "is not a list of objects")
        return [item for item in value if isinstance(item, dict)]

    def texts(self, name: str, *, most: int) -> list[str]:
        """Take a list of texts."""
        value = self._list(name, most)
        if not all(isinstance(item, str) and 0 < len(item) <= MAX_TEXT for item in value):
            raise self._wrong(name, "is not a list of texts")
        return [str(item) for item in value]

    def end(self) -> None:
        """Raise ControlError for members nobody knows."""
        if self._left:
            # Names only, and only so many: both come from the other side.
            names = ", ".join(f"{self._where}/{name[:64]}" for name in sorted(self._left)[:8])
            raise unexpected(f"unknown: {names!a}")

    def _list(self, name: str, most: int) -> list[object]:
        value = self._left.pop(name, None)
        if not isinstance(value, list) or len(value) > most:
            raise self._wrong(name, f"is not a list of up to {most}")
        return value

    def _wrong(self, name: str, what: str) -> Exception:
        return unexpected(f"{self._where}/{name} {what}")


def _integer(digits: str) -> int:
    # Bounded before int(), which is quadratic.
    if len(digits) > 17:
        raise ValueError("a number is too long")
    return int(digits)


def _refuse_number(_: str) -> object:
    raise ValueError("numbers are whole")
