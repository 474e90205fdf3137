"""Keep an injected secret from coming back in the answer (egress case C3). Pure.

`Needles` are the forms in which a careless upstream may echo a secret: raw, base64 at its
three offsets, base64url, hex, percent-encoded, JSON-escaped. A `Scrubber` looks for them in
one answer as it streams and overwrites every byte of every match, overlaps included.

Nothing but those bytes changes. The replacement is one letter or digit repeated, exactly as
long as the match, and valid wherever the match was: in hex, base64, a URL, a JSON string
(`b` and `f` even after a backslash), a header; so no length, chunk or encoding breaks. It is
chosen so that it cannot complete another needle together with its neighbours.

This is a net against accidents. An upstream that splits or transforms the secret on purpose
is outside the threat model; so are the up to six bits of its first and last byte that a
base64 group shares with the bytes around it.
"""

import base64
import json
import re
from collections.abc import Iterable, Iterator
from typing import Final
from urllib.parse import quote, quote_plus

from sallyport.secret import Secret
from sallyport.wire.http1.scan import find_room, holds_any, scan_table

# Shorter values turn up by chance: scrubbing them would damage answers, so it is refused and reported.
MIN_SECRET_BYTES: Final = 8

# By so many last bytes an end is looked up in a needle: every form has them, and few have them twice.
_TAIL_BYTES: Final = MIN_SECRET_BYTES
# A needle that repeats itself may have a tail at thousands of places. Each costs a comparison of all that stands before
# it, so after so many in vain the next is held unseen. No needle without repetitions has as many.
MAX_COMPARISONS: Final = 64

# Hex letters first: they decode in every alphabet here. A secret of digits may stand as a bare
# JSON number, which a letter would break and a leading zero too.
_FILLS: Final = b"bfacdeBFACDE1234567890grtnhijklmopqsuvwxyz"
_DIGIT_FILLS: Final = b"123456789" + _FILLS

# Fields that say where the answer ends or what follows it: parsed before scrubbing, never rewritten by it.
_FRAMING_FIELDS: Final = frozenset({b"content-length", b"transfer-encoding", b"connection", b"upgrade"})
_STATUS_CODE_END: Final = len(b"HTTP/1.1 200")

_BASE64_TO_URL: Final = bytes.maketrans(b"+/", b"-_")
# By offset in a group of three: how many leading characters also hold bits of the bytes before.
_BASE64_SHARED: Final = (0, 2, 3)
_PERCENT_SAFE: Final = ("", "/", "!'()*", ";,/?:@&=+$#!'()*")  # RFC 3986, Python, encodeURIComponent, encodeURI
_JSON_EXTRA: Final = ("", "<>&", "<>&='", "\"&'+<>`")  # RFC 8259, Go, Gson, System.Text.Json


# Matches of one needle, each overlapping the next: where the first begins, where the last ends, how many there are.
type _Run = tuple[int, int, int]


class Needles:
    """The forms of one or several secrets, built once per credential version.

    `too_short` says that a secret was left out for its length; the caller raises the alert.
    """

    __slots__ = ("_table", "beginnings", "fill", "pairs", "patterns", "room", "too_short")

    def __init__(self, patterns: Iterable[bytes], *, too_short: bool) -> None:
        """For `of` and `merge`; patterns are at least MIN_SECRET_BYTES long."""
        self.patterns: tuple[bytes, ...] = tuple(sorted(set(patterns)))
        self._table = scan_table(self.patterns)
        self.room = find_room(self.patterns)
        self.too_short = too_short
        self.fill = _choose_fill(self.patterns)
        # The ends that begin a match, as far as they are shorter than a tail.
        self.beginnings = frozenset(pattern[:size] for pattern in self.patterns for size in range(1, _TAIL_BYTES))
        # What the last two bytes of some data must be for a match to begin before the last.
        self.pairs = frozenset(pattern[at : at + 2] for pattern in self.patterns for at in range(len(pattern) - 2))

    @classmethod
    def of(cls, *secrets: Secret) -> "Needles":
        """Return the needles of these secrets; the values are revealed here and stay in the needles."""
        values = [secret.reveal() for secret in secrets]
        long_enough = [value for value in values if len(value) >= MIN_SECRET_BYTES]
        forms = (form for value in long_enough for form in _forms(value))
        return cls(forms, too_short=len(long_enough) < len(values))

    @classmethod
    def merge(cls, parts: Iterable["Needles"]) -> "Needles":
        """Return one set for a request that carries several credentials."""
        known = list(parts)
        patterns = (pattern for part in known for pattern in part.patterns)
        return cls(patterns, too_short=any(part.too_short for part in known))

    def is_clean(self, data: bytes) -> bool:
        """Whether no needle stands in data: all there is to ask about an answer that is here whole."""
        return not holds_any(data, self.patterns, self._table)

    def held_suffix(self, data: bytes) -> int:
        """Return the length of the longest end of `data` that is the beginning of a needle, but not all of it.

        It may be more, and still less than a needle, where a needle repeats itself many times (MAX_COMPARISONS). To
        hold more is safe; to look at every end of repeated bytes takes a time that grows with their square.
        """
        longest = min(_TAIL_BYTES - 1, len(data))
        while longest and data[-longest:] not in self.beginnings:
            longest -= 1
        if len(data) < _TAIL_BYTES:
            return longest
        tail = data[-_TAIL_BYTES:]
        for pattern in self.patterns:
            # From the longest down, and none that is not longer than what is known.
            shortest = max(longest + 1 - _TAIL_BYTES, 0)
            at = pattern.rfind(tail, shortest, min(len(pattern) - 1, len(data)))
            left = MAX_COMPARISONS
            while at >= 0:
                if left == 0 or data.endswith(pattern[: at + _TAIL_BYTES]):
                    longest = at + _TAIL_BYTES
                    break
                left -= 1
                at = pattern.rfind(tail, shortest, at + _TAIL_BYTES - 1)
        return longest

    def __repr__(self) -> str:
        return f"<Needles: {len(self.patterns)} forms>"


class Scrubber:
    """Scrub one answer. Bytes go in by `feed`, come out as soon as no match can begin in them.

    Always: bytes returned + bytes held == bytes fed, in order; how they were cut does not matter.
    `matches` counts the needles found, those that overlap each one by one.
    """

    __slots__ = ("_held", "_spans", "matches", "needles")

    def __init__(self, needles: Needles) -> None:
        self.needles = needles
        self._held = b""  # as received: shorter than the longest needle
        self._spans: list[tuple[int, int]] = []  # overwritten bytes of _held, as offsets from its start
        self.matches = 0

    def feed(self, data: bytes) -> bytes:
        """Return what may go out now: `data` itself, the same object, where nothing is found or held."""
        needles = self.needles
        buffer = self._held + data if self._held else data
        if self._spans or not needles.is_clean(buffer):
            return self._scan(buffer)
        # Nothing stands in it whole. What has no beginning of a match at its end is given back as it came.
        if buffer[-2:] not in needles.pairs and buffer[-1:] not in needles.beginnings:
            self._held = b""
            return buffer
        cut = self._hold(buffer)
        return buffer if cut == len(buffer) else buffer[:cut]

    def finish(self) -> bytes:
        """Return what was held, at the end of the answer. The scrubber can be fed anew after that."""
        rest = self._overwrite(self._held, self._spans)
        self._held = b""
        self._spans = []
        return rest

    def scrub_head(self, block: bytes) -> bytes:
        """Return a whole header block scrubbed, with or without its status line.

        Fields that frame the message keep their bytes, and the status line its version and code.
        """
        if self.needles.is_clean(block):
            return block
        return b"\r\n".join(self._scrub_line(line) for line in block.split(b"\r\n"))

    @property
    def held_bytes(self) -> int:
        """How many bytes wait for those behind them."""
        return len(self._held)

    def _scan(self, buffer: bytes) -> bytes:
        """Find every match in what was held and came, overwrite it, keep the end that may begin one."""
        needles = self.needles
        already_scanned = len(self._held)
        spans = self._count(_find_all(needles, buffer, already_scanned), self._spans)
        cut = self._hold(buffer)
        self._spans = [(max(start - cut, 0), end - cut) for start, end in spans if end > cut]
        clean = self._overwrite(buffer, spans)
        return clean if cut == len(clean) else clean[:cut]

    def _count(self, runs: Iterable[_Run], spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
        """Count the matches of these runs, and return what they and `spans` cover: in order, none touching another."""
        covered = list(spans)
        for start, end, matches in runs:
            self.matches += matches
            covered.append((start, end))
        covered.sort()
        merged: list[tuple[int, int]] = []
        for start, end in covered:
            if merged and start <= merged[-1][1]:
                start, last_end = merged.pop()
                end = max(end, last_end)
            merged.append((start, end))
        return merged

    def _hold(self, buffer: bytes) -> int:
        """Keep the end that may begin a match, and return where it begins."""
        cut = len(buffer) - self.needles.held_suffix(buffer)
        self._held = buffer[cut:]
        return cut

    def _scrub_line(self, line: bytes) -> bytes:
        if line[: line.find(b":")].lower() in _FRAMING_FIELDS:
            return line
        keep = _STATUS_CODE_END if line.startswith(b"HTTP/") else 0
        spans = self._count(_find_all(self.needles, line[keep:], 0), [])
        return line[:keep] + self._overwrite(line[keep:], spans)

    def _overwrite(self, buffer: bytes, spans: list[tuple[int, int]]) -> bytes:
        if not spans:
            return buffer
        masked = bytearray(buffer)
        for start, end in spans:
            masked[start:end] = self.needles.fill * (end - start)
        return bytes(masked)

    def __repr__(self) -> str:
        return f"<Scrubber: {self.matches} matches, {len(self._held)} bytes held>"


def _find_all(needles: Needles, data: bytes, already_scanned: int) -> Iterator[_Run]:
    """Yield every match that ends behind `already_scanned`, overlapping ones too.

    A needle that repeats itself may stand in `data` at every byte or two. Two matches next to each other that share
    half of their bytes or more are one shortest period of the needle apart, and so is every further one, for as long as
    the data goes on repeating: they are one run, found without looking at each. All others are more than half a needle
    apart, so the work is in proportion to the data.
    """
    roomy = data + needles.room
    for pattern in needles.patterns:
        size = len(pattern)
        last = len(data) - size
        if last < 0:
            continue
        at = roomy.find(pattern, max(already_scanned - size + 1, 0))
        while 0 <= at <= last:
            behind = roomy.find(pattern, at + 1)
            if not (at < behind <= last and behind - at <= size // 2):
                yield at, at + size, 1
                at = behind
                continue
            period = behind - at
            end = at + size
            # As many periods at once as the needle holds, then fewer and fewer.
            periods = size // period
            while periods:
                repeated = pattern[-periods * period :]
                while data.startswith(repeated, end):
                    end += len(repeated)
                periods //= 2
            yield at, end, 1 + (end - at - size) // period
            at = roomy.find(pattern, end - size + 1)


def _choose_fill(patterns: tuple[bytes, ...]) -> bytes:
    """Return a byte no pattern begins or ends with, nor holds a run of: so an overwritten match cannot make another.

    With dozens of secrets there may be none; then the first fill serves.
    """
    ends = {pattern[0] for pattern in patterns} | {pattern[-1] for pattern in patterns}
    fills = _DIGIT_FILLS if any(pattern.isdigit() for pattern in patterns) else _FILLS
    for code in fills:
        fill = bytes([code])
        if code not in ends and not any(fill * MIN_SECRET_BYTES in pattern for pattern in patterns):
            return fill
    return fills[:1]


# ---- the forms of one secret


def _forms(value: bytes) -> Iterator[bytes]:
    yield value
    yield value.decode("latin-1").encode("utf-8")  # a header's bytes, read as latin-1 and written as UTF-8
    yield from _base64_forms(value)
    yield value.hex().encode("ascii")
    yield value.hex().upper().encode("ascii")
    yield from _percent_forms(value)
    yield from _json_forms(value)


def _base64_forms(value: bytes) -> Iterator[bytes]:
    """Yield the characters that depend on `value` alone, whatever stands before and after it."""
    for offset, shared in enumerate(_BASE64_SHARED):
        padded = bytes(offset) + value
        encoded = base64.b64encode(padded)[shared : len(padded) * 8 // 6]
        yield encoded
        yield encoded.translate(_BASE64_TO_URL)


def _percent_forms(value: bytes) -> Iterator[bytes]:
    spellings = [quote(value, safe=safe) for safe in _PERCENT_SAFE]
    spellings += [quote_plus(value), quote_plus(value, safe="*").replace("~", "%7E")]  # Python's form and the WHATWG's
    for spelling in spellings:
        yield spelling.encode("ascii")
        yield re.sub("%..", lambda escape: escape[0].lower(), spelling).encode("ascii")


def _json_forms(value: bytes) -> Iterator[bytes]:
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError:
        text = value.decode("latin-1")
    for ascii_only in (True, False):
        plain = json.dumps(text, ensure_ascii=ascii_only)[1:-1]
        yield plain.replace("/", r"\/").encode("utf-8")  # PHP
        for extra in _JSON_EXTRA:
            spelling = plain.replace(r"\"", '"') if '"' in extra else plain
            for character in extra:
                spelling = spelling.replace(character, f"\\u{ord(character):04x}")
            yield spelling.encode("utf-8")
            yield re.sub(r"\\u....", lambda escape: r"\u" + escape[0][2:].upper(), spelling).encode("utf-8")
