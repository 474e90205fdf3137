"""The one type that may hold a raw secret.

Everything that formats, logs, pickles or copies an object meets a refusal or the word
`<Secret>` here, so a value can only leave through `reveal()`. Which modules may call that
is listed in docs/architecture.md, and a test counts the places.
"""

import hashlib
import hmac
from typing import NoReturn, final


@final
class Secret:
    """Hold the bytes of one secret; unhashable, unsized, immutable, never printed."""

    __slots__ = ("__value",)
    __value: bytes
    __hash__ = None  # type: ignore[assignment]  # a hash would be a fingerprint of the value, and sets compare in variable time

    def __init__(self, value: bytes) -> None:
        if type(value) is not bytes:
            raise TypeError(f"a secret is bytes, not {type(value).__name__}")
        object.__setattr__(self, "_Secret__value", value)

    def reveal(self) -> bytes:
        """Return the raw bytes; only for code that writes them into a request or looks for them."""
        return self.__value

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        # Digests, because compare_digest tells the length of unequal inputs by its time.
        mine = hashlib.sha256(self.__value).digest()
        return hmac.compare_digest(mine, hashlib.sha256(other.__value).digest())

    def __repr__(self) -> str:
        return "<Secret>"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return "<Secret>"

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError("a secret cannot be changed")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError("a secret cannot be changed")

    def __getstate__(self) -> NoReturn:
        raise TypeError("a secret cannot be pickled or copied")

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a secret cannot be pickled or copied")


def why_unusable(text: str) -> str | None:
    """Say why text cannot be a secret in a header field, or None if it can (C4). Never quotes it.

    CR, LF and NUL would let a secret write header lines of its own; RFC 9110 section 5.5 allows no other
    control characters either, and receivers strip spaces at the ends, so neither could ever be the real one.
    """
    if not text:
        return "it is empty"
    for character, name in (("\r", "a carriage return"), ("\n", "a line feed"), ("\0", "a NUL")):
        if character in text:
            return f"it contains {name}"
    if any(ord(character) > 0xFF for character in text):
        return "it contains a character beyond latin-1"
    if any(ord(character) < 0x20 or ord(character) == 0x7F for character in text):
        return "it contains a control character"
    if text != text.strip(" "):
        return "it begins or ends with a space"
    return None
