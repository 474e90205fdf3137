"""Echo scrubbing, egress case C3: every form is found, nothing else changes, cuts do not matter."""

import base64
import json
import re
import time
from collections.abc import Callable
from itertools import combinations, combinations_with_replacement, pairwise
from urllib.parse import parse_qsl, quote, quote_plus, unquote_to_bytes, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.scrub import MAX_COMPARISONS, MIN_SECRET_BYTES, Needles, Scrubber, _find_all
from sallyport.secret import Secret
from sallyport.wire.http1.scan import LONG_PATTERN
from tests.support.figures import InTime

PLAIN = b"sk-live-51/Ab+cd=Zz9"
ODD = "pä\"s/s\\w <&>'`~=+%é".encode()


def scrub(secret: bytes, data: bytes) -> tuple[bytes, int]:
    scrubber = Scrubber(Needles.of(Secret(secret)))
    return scrubber.feed(data) + scrubber.finish(), scrubber.matches


def scrub_in_pieces(needles: Needles, data: bytes, cuts: list[int]) -> tuple[bytes, int]:
    scrubber = Scrubber(needles)
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    out = b"".join(scrubber.feed(data[start:end]) for start, end in pairwise(edges))
    return out + scrubber.finish(), scrubber.matches


def lower_escapes(text: bytes) -> bytes:
    return re.sub(rb"%..", lambda escape: escape[0].lower(), text)


def dotnet(text: str) -> str:
    escaped = text.replace("\\", "\\\\")
    return "".join(f"\\u{ord(c):04X}" if c in "\"&'+<>`" or ord(c) > 126 else c for c in escaped)


FORMS: dict[str, Callable[[bytes], bytes]] = {
    "raw": lambda s: s,
    "latin1_as_utf8": lambda s: s.decode("latin-1").encode(),
    "hex": lambda s: s.hex().encode(),
    "hex_upper": lambda s: s.hex().upper().encode(),
    "percent": lambda s: quote(s, safe="").encode(),
    "percent_lower": lambda s: lower_escapes(quote(s, safe="").encode()),
    "percent_python": lambda s: quote(s).encode(),
    "encode_uri_component": lambda s: quote(s, safe="!'()*").encode(),
    "encode_uri": lambda s: quote(s, safe=";,/?:@&=+$#!'()*").encode(),
    "form": lambda s: quote_plus(s).encode(),
    "json": lambda s: json.dumps(s.decode())[1:-1].encode(),
    "json_utf8": lambda s: json.dumps(s.decode(), ensure_ascii=False)[1:-1].encode(),
    "json_php": lambda s: json.dumps(s.decode())[1:-1].replace("/", r"\/").encode(),
    "json_go": lambda s: re.sub(
        "[<>&]", lambda c: f"\\u{ord(c[0]):04x}", json.dumps(s.decode(), ensure_ascii=False)[1:-1]
    ).encode(),
    "json_dotnet": lambda s: dotnet(s.decode()).encode(),
}


@pytest.mark.parametrize("secret", [PLAIN, ODD], ids=["plain", "odd"])
@pytest.mark.parametrize("form", FORMS)
def test_c3_every_form_is_overwritten_in_place(form: str, secret: bytes) -> None:
    echoed = FORMS[form](secret)
    out, matches = scrub(secret, b"before " + echoed + b" after")
    assert len(out) == len(b"before " + echoed + b" after")
    assert out.startswith(b"before ")
    assert out.endswith(b" after")
    assert len(set(out[7:-6])) == 1
    assert matches == 1


@pytest.mark.parametrize("alphabet", [base64.b64encode, base64.urlsafe_b64encode])
@pytest.mark.parametrize("before", [b"", b"u", b"u:", b"us:", b"user:"])
@pytest.mark.parametrize("after", [b"", b"\n", b"xy"])
def test_c3_base64_at_every_offset_loses_all_but_the_shared_bits(
    alphabet: Callable[[bytes], bytes], before: bytes, after: bytes
) -> None:
    out, matches = scrub(PLAIN, alphabet(before + PLAIN + after))
    decoded = base64.b64decode(out.replace(b"-", b"+").replace(b"_", b"/"), validate=True)
    assert matches == 1
    assert len(decoded) == len(before + PLAIN + after)
    assert PLAIN[1:-1] not in decoded
    assert not any(PLAIN[at : at + 3] in decoded for at in range(1, len(PLAIN) - 3))
    assert decoded.startswith(before)
    assert decoded.endswith(after)


def test_c3_secret_that_is_not_utf8_is_found_as_latin1_json() -> None:
    out, matches = scrub(b"\xe9\xff-not-utf8", b'{"k": "\\u00e9\\u00ff-not-utf8"}')
    assert matches == 1
    assert b"not-utf8" not in out


def test_c3_two_secrets_of_one_request_are_both_scrubbed() -> None:
    merged = Needles.merge([Needles.of(Secret(b"first-secret")), Needles.of(Secret(b"second-secret"))])
    for needles in (merged, Needles.of(Secret(b"first-secret"), Secret(b"second-secret"))):
        out, matches = scrub_in_pieces(needles, b"first-secret, second-secret", [])
        assert matches == 2
        assert out[12:14] == b", "
        assert b"secret" not in out


@pytest.mark.parametrize("secret", [PLAIN, ODD], ids=["plain", "odd"])
@pytest.mark.parametrize("form", FORMS)
def test_c3_what_holds_a_needle_is_not_clean(form: str, secret: bytes) -> None:
    needles = Needles.of(Secret(b"another-secret"), Secret(secret))
    echoed = FORMS[form](secret)
    for data in (echoed, b"before " + echoed, echoed + b" after", b"x" * 70_000 + echoed):
        assert not needles.is_clean(data)


def test_c3_what_holds_only_part_of_a_needle_is_clean() -> None:
    needles = Needles.of(Secret(PLAIN))
    # Nothing comes after an answer that is here whole, so what could have begun a match is none.
    for data in (b"", PLAIN[:-1], PLAIN[1:], PLAIN[:-1] + b" " + PLAIN[-1:], PLAIN.swapcase()):
        assert needles.is_clean(data)


def test_no_needles_find_everything_clean() -> None:
    assert Needles.of(Secret(b"short")).is_clean(b"short")
    assert Needles.merge([]).is_clean(b"")


@given(st.lists(st.sampled_from([PLAIN, PLAIN[:4], PLAIN[4:], PLAIN.hex().encode(), b"x"]), max_size=6).map(b"".join))
def test_c3_clean_is_what_the_scrubber_finds_nothing_in(data: bytes) -> None:
    assert Needles.of(Secret(PLAIN)).is_clean(data) == (scrub(PLAIN, data) == (data, 0))


def test_overlapping_matches_are_overwritten_as_one_run() -> None:
    needles = Needles.of(Secret(b"AAAAAAAA-BBBBBBBB"), Secret(b"BBBBBBBB-CCCCCCCC"))
    out, matches = scrub_in_pieces(needles, b"<AAAAAAAA-BBBBBBBB-CCCCCCCC>", [])
    assert matches == 2
    assert out == b"<" + needles.fill * 26 + b">"


def test_matches_that_overlap_themselves_are_all_overwritten() -> None:
    out, matches = scrub(b"abcabcab", b"-abcabcabcab-")
    assert matches == 2
    assert len(set(out[1:-1])) == 1
    assert out[:1] + out[-1:] == b"--"


# ---- lengths


def test_c3_short_secrets_make_no_needles_and_say_so() -> None:
    short = Needles.of(Secret(b"1234567"))
    assert short.too_short
    assert short.patterns == ()
    assert Scrubber(short).feed(b"1234567") == b"1234567"
    assert not Needles.of(Secret(b"12345678")).too_short
    assert Needles.merge([short, Needles.of(Secret(b"long-enough"))]).too_short
    assert not Needles.merge([]).too_short


def test_no_form_is_shorter_than_the_least_secret() -> None:
    assert min(map(len, Needles.of(Secret(b"12345678")).patterns)) >= MIN_SECRET_BYTES


# ---- what is held back


def test_bytes_without_a_match_come_out_at_once_as_the_same_object() -> None:
    scrubber = Scrubber(Needles.of(Secret(PLAIN)))
    for data in (b'{"id": 1}\n', b"", b"\n", b"data: tick\n\n", b"x" * 5000, b"live-"):
        assert scrubber.feed(data) is data
    assert scrubber.finish() == b""
    assert scrubber.matches == 0


def test_only_the_end_that_may_begin_a_match_is_held() -> None:
    scrubber = Scrubber(Needles.of(Secret(PLAIN)))
    assert scrubber.feed(b"data: sk-live") == b"data: "
    assert repr(scrubber) == "<Scrubber: 0 matches, 7 bytes held>"
    assert scrubber.feed(b"stock\n\n") == b"sk-livestock\n\n"
    assert scrubber.feed(b"s") == b""
    assert scrubber.finish() == b"s"
    assert scrubber.finish() == b""


def test_a_match_over_many_feeds_is_found_and_the_scrubber_goes_on() -> None:
    scrubber = Scrubber(Needles.of(Secret(PLAIN)))
    out = b"".join(scrubber.feed(bytes([byte])) for byte in b"-" + PLAIN + b"-")
    assert PLAIN not in out
    assert scrubber.matches == 1
    assert out[:1] + out[-1:] == b"--"
    assert scrubber.finish() == b""


def test_every_form_is_found_wherever_it_is_cut() -> None:
    needles = Needles.of(Secret(PLAIN))
    for pattern in needles.patterns:
        for cut in range(1, len(pattern)):
            scrubber = Scrubber(needles)
            assert scrubber.feed(b"\n" + pattern[:cut]) == b"\n"
            assert scrubber.feed(pattern[cut:] + b"\n") == needles.fill * len(pattern) + b"\n"


def test_a_match_at_the_end_is_not_counted_again_while_a_longer_one_is_possible() -> None:
    # The first secret is the beginning of the second: after it, the second may still come.
    needles = Needles.of(Secret(b"abcdefgh"), Secret(b"abcdefghijklmnop"))
    for tail, matches in ((b"ijkl-", 1), (b"ijklmnop", 2)):
        out, count = scrub_in_pieces(needles, b"abcdefgh" + tail, [8, 10])
        assert count == matches
        assert out.startswith(needles.fill * 8)


# ---- the replacement


def test_replacement_decodes_wherever_the_match_was() -> None:
    secret = b'se"cret/+ &x'
    document = json.dumps({"token": secret.decode(), "b": base64.b64encode(b"k:" + secret).decode(), "h": secret.hex()})
    parsed = json.loads(scrub(secret, document.encode())[0])
    assert len(base64.b64decode(parsed["b"], validate=True)) == len(secret) + 2
    assert len(bytes.fromhex(parsed["h"])) == len(secret)
    query = scrub(secret, urlencode({"a": "1", "key": secret, "z": "2"}).encode())[0].decode()
    assert [name for name, _ in parse_qsl(query, strict_parsing=True)] == ["a", "key", "z"]
    assert secret not in unquote_to_bytes(query)


def test_replacement_of_digits_stays_a_json_number() -> None:
    out, matches = scrub(b"8234567890", b'{"account": 8234567890}')
    assert matches == 1
    assert len(str(json.loads(out)["account"])) == 10


def test_replacement_survives_a_backslash_before_the_match() -> None:
    # In the text `\newsecret12` the escape is `\n`, and the raw secret begins with that n.
    out, _ = scrub(b"newsecret12", rb'"line\newsecret12"')
    assert b"secret12" not in out
    assert isinstance(json.loads(out), str)


def test_fill_is_one_that_cannot_complete_another_needle() -> None:
    needles = Needles.of(Secret(b"bbbbbbbbbb"), Secret(b"x" + b"f" * 8 + b"x"))
    assert needles.fill not in (b"b", b"f")
    out, _ = scrub_in_pieces(needles, b"bbbbbbbbbb", [])
    assert out == needles.fill * 10


@pytest.mark.parametrize("edges", [(b"bbcdefghij", b"", b"cdefghij"), (b"cdefghijbb", b"cdefghij", b"")])
def test_fill_and_the_bytes_beside_it_make_no_other_needle(edges: tuple[bytes, bytes, bytes]) -> None:
    other, before, after = edges
    needles = Needles.of(Secret(b"xyzxyzxyz"), Secret(other))
    out, matches = scrub_in_pieces(needles, before + b"xyzxyzxyz" + after, [])
    assert matches == 1
    assert other not in out


def test_fill_falls_back_when_every_letter_and_digit_begins_a_needle() -> None:
    letters = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
    needles = Needles.of(*(Secret(bytes([letter]) + b"-------") for letter in letters))
    assert needles.fill == b"b"
    assert scrub_in_pieces(needles, b"q-------", [])[0] == b"b" * 8


# ---- heads


def test_c3_head_is_scrubbed_in_names_values_and_reason() -> None:
    scrubber = Scrubber(Needles.of(Secret(PLAIN)))
    head = b"HTTP/1.1 200 " + PLAIN + b"\r\nX-" + PLAIN + b": 1\r\nX-Echo: Bearer " + PLAIN + b"\r\n\r\n"
    out = scrubber.scrub_head(head)
    assert PLAIN not in out
    assert scrubber.matches == 3
    assert len(out) == len(head)
    assert [line[:2] for line in out.split(b"\r\n")] == [b"HT", b"X-", b"X-", b"", b""]


def test_head_without_a_match_is_the_same_object() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
    assert Scrubber(Needles.of(Secret(PLAIN))).scrub_head(head) is head


def test_head_keeps_what_frames_the_message() -> None:
    # Secrets that are also a length, a coding, the start of a status line: absurd, and harmless.
    needles = Needles.of(Secret(b"1234567890"), Secret(b"HTTP/1.1"), Secret(b"chunked, gzip"), Secret(b"keep-alive"))
    head = (
        b"HTTP/1.1 200 OK\r\ncontent-LENGTH: 1234567890\r\nTransfer-Encoding: chunked, gzip\r\n"
        b"Connection: keep-alive\r\nX-Account: 1234567890\r\n\r\n"
    )
    scrubber = Scrubber(needles)
    assert scrubber.scrub_head(head) == head.replace(b"Account: 1234567890", b"Account: " + needles.fill * 10)
    assert scrubber.matches == 1


def test_head_may_come_without_its_status_line() -> None:
    out = Scrubber(Needles.of(Secret(PLAIN))).scrub_head(b"X-Echo: " + PLAIN + b"\r\nA: b\r\n")
    assert PLAIN not in out
    assert out.endswith(b"\r\nA: b\r\n")


# ---- properties

# Few letters and repeats, so that needles overlap themselves and one another.
SECRETS = st.lists(st.text("abc", min_size=8, max_size=12).map(str.encode), min_size=1, max_size=3, unique=True)


@st.composite
def echoes(draw: st.DrawFn) -> tuple[list[bytes], bytes]:
    secrets = draw(SECRETS)
    forms: list[Callable[[bytes], bytes]] = [bytes, base64.b64encode, lambda s: s.hex().encode(), lambda s: s[:-2]]
    pieces = st.one_of(
        st.binary(max_size=6),
        st.text("abc", max_size=12).map(str.encode),
        st.builds(lambda form, secret: form(secret), st.sampled_from(forms), st.sampled_from(secrets)),
    )
    return secrets, b"".join(draw(st.lists(pieces, max_size=8)))


@given(echoes(), st.lists(st.integers(0, 120), max_size=12))
def test_property_any_split_gives_the_same_answer(case: tuple[list[bytes], bytes], cuts: list[int]) -> None:
    secrets, data = case
    needles = Needles.of(*map(Secret, secrets))
    assert scrub_in_pieces(needles, data, cuts) == scrub_in_pieces(needles, data, [])


@given(echoes(), st.lists(st.integers(0, 120), max_size=12))
def test_property_no_needle_comes_out_and_nothing_else_changes(
    case: tuple[list[bytes], bytes], cuts: list[int]
) -> None:
    secrets, data = case
    needles = Needles.of(*map(Secret, secrets))
    out, matches = scrub_in_pieces(needles, data, cuts)
    covered = [
        any(
            data[start : start + len(p)] == p
            for p in needles.patterns
            for start in range(at - len(p) + 1, at + 1)
            if start >= 0
        )
        for at in range(len(data))
    ]
    expected = bytes(needles.fill[0] if hit else byte for byte, hit in zip(data, covered, strict=True))
    assert out == expected
    assert not any(pattern in out for pattern in needles.patterns)
    assert (matches > 0) == any(covered)


@given(st.binary(min_size=8, max_size=40), st.binary(max_size=40), st.binary(max_size=40))
def test_property_any_secret_is_gone_from_anything(secret: bytes, before: bytes, after: bytes) -> None:
    needles = Needles.of(Secret(secret))
    for form in (secret, secret.hex().encode(), quote(secret, safe="").encode()):
        out, matches = scrub_in_pieces(needles, before + form + after, [len(before) + 3])
        assert matches >= 1
        assert form not in out
        assert len(out) == len(before + form + after)


# ---- needles that repeat themselves


def naive(needles: Needles, data: bytes) -> tuple[bytes, int]:
    """What the scrubber says of this data, by a look at every place."""
    out, matches = bytearray(data), 0
    for pattern in needles.patterns:
        for at in range(len(data) - len(pattern) + 1):
            if data.startswith(pattern, at):
                out[at : at + len(pattern)] = needles.fill * len(pattern)
                matches += 1
    return bytes(out), matches


def naive_held(needles: Needles, data: bytes) -> int:
    return max(
        (
            size
            for pattern in needles.patterns
            for size in range(min(len(pattern) - 1, len(data)) + 1)
            if data.endswith(pattern[:size])
        ),
        default=0,
    )


def units_of(letters: str) -> st.SearchStrategy[bytes]:
    return st.text(letters, min_size=1, max_size=5).map(str.encode)


@st.composite
def repetitions(draw: st.DrawFn) -> tuple[Needles, bytes]:
    """Draw needles that are a few bytes again and again, nearly, and data of pieces of them."""
    units = draw(st.lists(units_of("ab"), min_size=1, max_size=2))
    repeated = st.builds(lambda unit, times: unit * times, st.sampled_from(units), st.integers(1, 14))
    patterns = draw(
        st.lists(
            st.builds(
                lambda first, rest: first * (8 // len(first) + 1) + rest, repeated, units_of("abc") | st.just(b"")
            ),
            min_size=1,
            max_size=3,
        )
    )
    piece = st.one_of(
        repeated,
        units_of("abc"),
        st.sampled_from(patterns),
        st.builds(lambda pattern, cut: pattern[:cut], st.sampled_from(patterns), st.integers(1, 40)),
    )
    return Needles(patterns, too_short=False), b"".join(draw(st.lists(piece, max_size=6)))


@given(repetitions(), st.lists(st.integers(0, 200), max_size=12))
def test_property_every_match_of_a_repetition_is_counted_and_overwritten(
    case: tuple[Needles, bytes], cuts: list[int]
) -> None:
    needles, data = case
    expected = naive(needles, data)
    assert scrub_in_pieces(needles, data, []) == expected
    assert scrub_in_pieces(needles, data, cuts) == expected
    assert scrub_in_pieces(needles, data, [*range(len(data))]) == expected
    assert needles.is_clean(data) == (expected[1] == 0)


@given(repetitions())
def test_property_a_repetition_may_be_cut_at_any_two_places(case: tuple[Needles, bytes]) -> None:
    needles, data = case
    data = data[:36]
    expected = naive(needles, data)
    for cuts in combinations_with_replacement(range(len(data) + 1), 2):
        assert scrub_in_pieces(needles, data, [*cuts]) == expected


@pytest.mark.parametrize(
    ("patterns", "data"),
    [
        ([b"aaaaaaaa"], b"aaaaaaaaaa"),
        ([b"abababab"], b"babababababa"),
        ([b"aabaabaab"], b"aabaabaabaab"),
        ([b"abacabac", b"bacabaca"], b"abacabacabac"),
        ([b"aaaaaaaa", b"aaaaaaaab"], b"aaaaaaaaab"),
        ([b"aaaaaaaaa", b"aaaabaaaa"], b"aaaaabaaaaaa"),
    ],
)
def test_a_repetition_may_be_cut_in_every_way(patterns: list[bytes], data: bytes) -> None:
    needles = Needles(patterns, too_short=False)
    expected = naive(needles, data)
    assert expected[1] > 0
    for count in range(len(data)):
        for cuts in combinations(range(1, len(data)), count):
            assert scrub_in_pieces(needles, data, [*cuts]) == expected


@given(repetitions())
def test_property_the_longest_end_that_begins_a_needle_is_held(case: tuple[Needles, bytes]) -> None:
    needles, data = case
    for end in range(len(data) + 1):
        assert needles.held_suffix(data[:end]) == naive_held(needles, data[:end])


@pytest.mark.parametrize("unit", [b"a", b"ab", b"abcdefghijklm"])
def test_matches_without_end_are_few_runs(unit: bytes) -> None:
    secret = (unit * 8000)[:8000]
    needles = Needles([secret], too_short=False)
    data = (unit * (1 << 16))[: 1 << 16]
    others = data[:20_000] + b"-" + data[:9000] + b"-" + data[:7999]
    assert list(_find_all(needles, data, 0)) == [
        (0, (len(data) - 8000) // len(unit) * len(unit) + 8000, 1 + (len(data) - 8000) // len(unit))
    ]
    assert len(list(_find_all(needles, others, 0))) == 2
    assert scrub_in_pieces(needles, data, [])[1] == 1 + (len(data) - 8000) // len(unit)


@given(repetitions(), st.integers(1, 30))
def test_property_the_work_is_in_proportion_to_the_data(case: tuple[Needles, bytes], times: int) -> None:
    needles, data = case
    data *= times
    for pattern in needles.patterns:
        starts = [start for start, _, _ in _find_all(Needles([pattern], too_short=False), data, 0)]
        assert all(2 * (behind - start) > len(pattern) for start, behind in pairwise(starts))


def test_an_end_of_repeated_bytes_is_compared_so_many_times() -> None:
    needles = Needles([b"a" * 15_980 + b"!"], too_short=False)
    # More than must be, and each in vain before it.
    assert needles.held_suffix(b"-" * 9000 + b"a" * 7000) == 15_980 - MAX_COMPARISONS
    assert needles.held_suffix(b"-" + b"a" * (15_980 - MAX_COMPARISONS)) == 15_980 - MAX_COMPARISONS
    assert needles.held_suffix(b"-" + b"a" * 15_979) == 15_979
    assert needles.held_suffix(b"a" * 16_384) == 15_980
    assert needles.held_suffix(b"a" * 16_384 + b"-") == 0


@pytest.mark.parametrize("piece", [1000, 7000, 16_384])
def test_what_is_held_beyond_need_changes_nothing(piece: int) -> None:
    secret = b"a" * 6000 + b"!" + b"a" * 6000
    needles = Needles([secret, b"a" * 400], too_short=False)
    data = b"-" + b"a" * 399 + b"-" + b"a" * 5000 + b"-" + secret[:-1] + b"-" + secret + b"a" * 10_000
    expected = naive(needles, data)
    assert scrub_in_pieces(needles, data, [*range(0, len(data), piece)]) == expected
    assert scrub_in_pieces(needles, data, []) == expected


@pytest.mark.parametrize("size", [LONG_PATTERN - 1, LONG_PATTERN, 5000])
def test_what_ends_behind_the_data_is_no_match(size: int) -> None:
    # Behind a long needle's data stands room of zeros while it is sought.
    for pattern in (bytes(size), b"a" * (size - 8) + bytes(8)):
        needles = Needles([pattern], too_short=False)
        assert needles.is_clean(pattern[:-1])
        assert not needles.is_clean(b"-" + pattern)
        assert scrub_in_pieces(needles, pattern[:-1], [size // 2]) == (pattern[:-1], 0)
        twice = scrub_in_pieces(needles, pattern + b"-" + pattern[:-1], [])
        assert twice == (needles.fill * size + b"-" + pattern[:-1], 1)
        assert scrub_in_pieces(needles, bytes(1) + pattern, [5]) == naive(needles, bytes(1) + pattern)


_MARKS: bytes = b"!\"#$%&'()*+/<=>~`"
HOSTILE: dict[str, Callable[[int], tuple[bytes, bytes, int]]] = {
    # By a size: a secret, an answer, and how much of it comes at once.
    "all matches": lambda size: (b"a" * (size // 2), b"a" * size * 8, size * 8),
    "all matches in pieces": lambda size: (b"ab" * (size // 4), b"ab" * size * 4, size),
    "matches of a few bytes": lambda size: (b"a" * 8, b"a" * size * 8, size * 8),
    "ends in vain": lambda size: (b"a" * size + _MARKS, (b"-" * (size // 2) + b"a" * (size // 2)) * 8, size),
    "nearly repeated": lambda size: (
        (b"ab" * 16 + b"c") * (size // 33) + _MARKS,
        ((b"ab" * 16 + b"c") * (size // 55) + b"-" + (b"ab" * 16 + b"c") * (size // 83)) * 8,
        size,
    ),
    "one byte unlike": lambda size: (
        b"a" * (size // 2) + _MARKS + b"a" * (size // 2),
        b"a" * size * 8,
        size // 2 + size // 8,
    ),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_what_a_hostile_secret_takes_grows_with_the_answer_alone(case: str, in_time: InTime) -> None:
    def seconds(size: int) -> float:
        secret, data, piece = HOSTILE[case](size)
        needles = Needles.of(Secret(secret))
        tries = []
        for _ in range(3):
            scrubber = Scrubber(needles)
            began_at = time.process_time()
            out = b"".join(scrubber.feed(data[at : at + piece]) for at in range(0, len(data), piece))
            out += scrubber.finish()
            tries.append(time.process_time() - began_at)
            assert len(out) == len(data)
        return min(tries)

    # Squares would be four times as much.
    once, twice = seconds(8_000), seconds(16_000)
    in_time(f"{case}: twice the secret and the answer", twice, 3 * once + 0.005)


# ---- secrecy


def test_c14_repr_shows_no_needle() -> None:
    needles = Needles.of(Secret(PLAIN))
    assert re.fullmatch(r"<Needles: \d+ forms>", repr(needles))
    assert PLAIN.decode() not in repr(Scrubber(needles))
