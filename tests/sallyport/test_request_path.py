from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sallyport.request_path import (
    MAX_ESCAPES,
    PathError,
    PathFault,
    canonical_path,
    split_target,
    without_needless_escapes,
)


@pytest.mark.parametrize(
    ("path", "canonical"),
    [
        pytest.param(b"/", "/", id="root"),
        pytest.param(b"/v1/x", "/v1/x", id="plain"),
        pytest.param(b"/v1/%61bc", "/v1/abc", id="unreserved-decoded"),
        pytest.param(b"/%7euser/%2D%5F%2Ex", "/~user/-_.x", id="every-unreserved-mark-decoded"),
        pytest.param(b"/a%c3%bc%3f%20", "/a%C3%BC%3F%20", id="hex-upper-cased"),
        pytest.param(b"//v1//x/", "//v1//x/", id="P2-empty-segments-literal"),
        pytest.param(b"/a%2fb", "/a%2Fb", id="P3-encoded-slash-literal"),
        pytest.param(b"/v1;a=1/x;b", "/v1;a=1/x;b", id="P4-parameters-literal"),
        pytest.param(b"/%252e%252e/x", "/%252e%252e/x", id="P1-double-encoding-literal"),
        pytest.param(b"/.well-known/..x/...", "/.well-known/..x/...", id="dots-in-names"),
        pytest.param(b'/{a}|"<>^`[]', '/{a}|"<>^`[]', id="what-clients-leave-raw"),
    ],
)
def test_a_path_has_one_canonical_form(path: bytes, canonical: str) -> None:
    assert canonical_path(path) == canonical
    assert canonical_path(canonical.encode()) == canonical


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        pytest.param(b"/v1/../admin", PathFault.DOT_SEGMENT, id="P1-plain"),
        pytest.param(b"/v1/%2e%2e/admin", PathFault.DOT_SEGMENT, id="P1-encoded"),
        pytest.param(b"/v1/.%2E/admin", PathFault.DOT_SEGMENT, id="P1-half-encoded"),
        pytest.param(b"/v1/%2e.", PathFault.DOT_SEGMENT, id="P1-at-the-end"),
        pytest.param(b"/v1/.", PathFault.DOT_SEGMENT, id="P1-one-dot-at-the-end"),
        pytest.param(b"/./v1", PathFault.DOT_SEGMENT, id="P2-one-dot"),
        pytest.param(b"/v1/..%2fadmin", PathFault.DOT_SEGMENT, id="P1-before-an-encoded-slash"),
        pytest.param(b"/v1/x%2F..%2Fy", PathFault.DOT_SEGMENT, id="P1-between-encoded-slashes"),
        pytest.param(b"/v1/..;x/admin", PathFault.DOT_SEGMENT, id="P1-with-parameters"),
        pytest.param(b"/v1/..%3bx/admin", PathFault.DOT_SEGMENT, id="P1-with-encoded-parameters"),
        pytest.param(b"/v1/x\\y", PathFault.BACKSLASH, id="P3-backslash"),
        pytest.param(b"/v1/x%5cy", PathFault.BACKSLASH, id="P3-encoded-backslash"),
        pytest.param(b"/v1/%00", PathFault.CONTROL, id="P5-encoded-nul"),
        pytest.param(b"/v1/%1f", PathFault.CONTROL, id="P5-encoded-control"),
        pytest.param(b"/v1/%7F", PathFault.CONTROL, id="P5-encoded-delete"),
        pytest.param(b"/v1/\r\nx", PathFault.RAW_BYTE, id="P5-line-break"),
        pytest.param(b"/v1/\t", PathFault.RAW_BYTE, id="P5-tab"),
        pytest.param(b"/v1/ x", PathFault.RAW_BYTE, id="P5-space"),
        pytest.param(b"/v1/x\n", PathFault.RAW_BYTE, id="P5-newline-at-the-end"),
        pytest.param("/v1/ü".encode(), PathFault.RAW_BYTE, id="P5-non-ascii"),
        pytest.param(b"/v1#x", PathFault.FRAGMENT, id="P7-fragment"),
        pytest.param(b"v1/x", PathFault.NO_SLASH, id="P7-missing-slash"),
        pytest.param(b"*", PathFault.NO_SLASH, id="P7-asterisk"),
        pytest.param(b"", PathFault.EMPTY, id="P7-empty"),
        pytest.param(b"/v1?x", PathFault.QUERY, id="query"),
        pytest.param(b"/v1/%", PathFault.ESCAPE, id="escape-cut-short"),
        pytest.param(b"/v1/%4", PathFault.ESCAPE, id="escape-of-one-digit"),
        pytest.param(b"/v1/%zz", PathFault.ESCAPE, id="escape-without-hex"),
        pytest.param(b"/v1/%%34%31", PathFault.ESCAPE, id="escape-made-of-escapes"),
        pytest.param(b"/v1/%u0041", PathFault.ESCAPE, id="escape-of-another-kind"),
    ],
)
def test_a_path_with_two_readings_is_refused(path: bytes, reason: PathFault) -> None:
    with pytest.raises(PathError) as refused:
        canonical_path(path)
    assert refused.value.reason is reason
    assert str(refused.value) == refused.value.hint != ""


@pytest.mark.parametrize("escape", [b"%40", b"%7e", b"%"])
def test_s10_a_path_of_more_escapes_than_clients_send_is_refused(escape: bytes) -> None:
    with pytest.raises(PathError) as refused:
        canonical_path(b"/" + escape * (MAX_ESCAPES + 1))
    assert refused.value.reason is PathFault.TOO_MANY_ESCAPES


def test_a_long_name_in_any_script_is_a_path() -> None:
    assert canonical_path(b"/" + b"%7e" * MAX_ESCAPES) == "/" + "~" * MAX_ESCAPES
    for character in ("ü", "語", "😀"):
        name = quote(character * 1000)
        assert canonical_path(f"/{name.lower()}".encode()) == f"/{name}"


def test_every_escape_has_one_form_or_is_refused() -> None:
    for code in range(256):
        for digits in (f"{code:02x}", f"{code:02X}"):
            path = f"/a%{digits}b".encode()
            if code < 0x20 or code in (0x5C, 0x7F):
                with pytest.raises(PathError):
                    canonical_path(path)
            else:
                # quote leaves the unreserved as they are, and those alone.
                assert canonical_path(path) == f"/a{quote(bytes([code]), safe='')}b"


@given(
    st.lists(
        st.sampled_from(
            [b"/", b".", b"..", b"%2e", b"%2F", b"%2f", b"%5C", b"%", b"a", b";", b"%61", b"%25", b"\\", b"v1"]
        )
    )
)
def test_canonical_paths_are_stable_and_hold_no_dot_segment(pieces: list[bytes]) -> None:
    try:
        canonical = canonical_path(b"".join(pieces))
    except PathError:
        return
    assert canonical_path(canonical.encode()) == canonical
    for reading in (canonical, canonical.replace("%2F", "/")):
        assert not {".", ".."} & {segment.partition(";")[0] for segment in reading.split("/")}


@given(st.binary())
def test_any_bytes_are_a_path_or_refused(path: bytes) -> None:
    try:
        assert canonical_path(path).isascii()
    except PathError:
        pass


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (b"/v1", (b"/v1", None)),
        (b"/v1?", (b"/v1", b"")),
        (b"/v1?a=/..&b=%61?c", (b"/v1", b"a=/..&b=%61?c")),
        pytest.param(b"/v1?sig=%2f%2F\\&a", (b"/v1", b"sig=%2f%2F\\&a"), id="P10-query-byte-for-byte"),
    ],
)
def test_a_target_is_a_path_and_a_query(target: bytes, expected: tuple[bytes, bytes | None]) -> None:
    assert split_target(target) == expected


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        pytest.param(b"", PathFault.EMPTY, id="P7-empty"),
        pytest.param(b"?a=b", PathFault.EMPTY, id="P7-no-path"),
        pytest.param(b"/v1?a#b", PathFault.FRAGMENT, id="P7-fragment-in-query"),
        pytest.param(b"/v1?a b", PathFault.RAW_BYTE, id="P5-space-in-query"),
        pytest.param(b"/v1?a\xffb", PathFault.RAW_BYTE, id="P5-non-ascii-in-query"),
        pytest.param(b"/v1?a\r\nb", PathFault.RAW_BYTE, id="P5-line-break-in-query"),
    ],
)
def test_an_unclear_target_is_refused(target: bytes, reason: PathFault) -> None:
    with pytest.raises(PathError) as refused:
        split_target(target)
    assert refused.value.reason is reason


def test_the_needless_escapes_are_those_of_visible_characters_that_part_nothing() -> None:
    refused = {0x5C, 0x7F}
    codes = [code for code in range(0x20, 0x100) if code not in refused]
    read = without_needless_escapes(canonical_path("".join(f"/a%{code:02X}" for code in codes).encode()))
    needed = {0x20, *b"#%/?", *range(0x80, 0x100)}
    assert read.split("/a")[1:] == [f"%{code:02X}" if code in needed else chr(code) for code in codes]
