"""Where a request says it goes (egress cases H1 to H5, A1, A3, P6, P7)."""

from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.authority import (
    Refused,
    TargetReader,
    check_connect_host,
    check_host,
    invalid,
    mismatch,
    read_connect_destination,
    read_destination,
    split_absolute_form,
)
from sallyport.destination import Destination
from sallyport.problem import Code
from sallyport.wire.http1.codec import parse_request

API = Destination("https", "api.example.com", 443)


def refused(call: Callable[[], object]) -> Code:
    with pytest.raises(Refused) as caught:
        call()
    assert str(caught.value) == caught.value.deny.detail
    return caught.value.deny.code


@pytest.mark.parametrize(
    ("target", "parts"),
    [
        (b"http://a.example/x?y", ("http", b"a.example", b"/x?y")),
        (b"HTTPS://a.example:8443/", ("https", b"a.example:8443", b"/")),
        (b"http://a.example", ("http", b"a.example", b"/")),
        (b"http://a.example?y=/", ("http", b"a.example", b"/?y=/")),
        (b"http://a.example//x", ("http", b"a.example", b"//x")),
        (b"http://a.example/http://b.example/", ("http", b"a.example", b"/http://b.example/")),
        (b"http://a.example?y=/z?/", ("http", b"a.example", b"/?y=/z?/")),
        (b"http:///x", ("http", b"", b"/x")),
        (b"http://u@a.example/", ("http", b"u@a.example", b"/")),
        (b"http://a.example\\@b.example/", ("http", b"a.example\\@b.example", b"/")),
    ],
)
def test_p7_absolute_form(target: bytes, parts: tuple[str, bytes, bytes]) -> None:
    assert split_absolute_form(target) == parts


@pytest.mark.parametrize(
    "target", [b"*", b"a.example:443", b"ftp://a.example/", b"http:/a.example", b"//a.example/x", b"x", b"://a/"]
)
def test_p7_neither_a_url_nor_a_path(target: bytes) -> None:
    assert refused(lambda: split_absolute_form(target)) is Code.INVALID_REQUEST


@pytest.mark.parametrize(
    "authority",
    [
        b"api.example.com",
        b"API.Example.COM",
        b"api.example.com.",
        b"api.example.com:443",
        b"api.example.com:0443",
    ],
)
def test_h1_one_host_in_many_spellings(authority: bytes) -> None:
    assert read_destination("https", authority) == API


def test_the_default_port_is_the_scheme_s() -> None:
    assert read_destination("http", b"a.example").port == 80
    assert read_destination("https", b"[::1]:8443") == Destination("https", "::1", 8443)


HOSTILE = [
    b"",
    b"api.example.com..",
    b"u@api.example.com",
    b"u:p@api.example.com",
    b"api.example.com:",
    b"api.example.com:0",
    b"api.example.com:65536",
    b"api.example.com:+443",
    b"api.example.com:4\xb23",
    b"api.example.com, b.example",
    b"api.example.com b.example",
    b"api.example.com\\b",
    b"api.example.com%00",
    b"api.example.com/",
    b"a" * 64 + b".example",
    b"0x7f.1",
    b"2130706433",
    b"127.1",
    b"::1",
    b"[::1",
    b"[fe80::1%eth0]",
    b"\xff.example.com",
    b"api.ex\xc3\xa4mple.com",
    b"\xef\xbd\x81pi.example.com",  # a fullwidth a: folded, it would be the managed host
    b"api\xe3\x80\x82example\xe3\x80\x82com",
]


@pytest.mark.parametrize("authority", HOSTILE, ids=repr)
def test_a3_h3_h4_h5_h6_p6_a_hostile_authority_is_refused(authority: bytes) -> None:
    assert refused(lambda: read_destination("https", authority)) is Code.INVALID_REQUEST
    assert refused(lambda: check_host(authority, API)) is Code.INVALID_REQUEST


@pytest.mark.parametrize("target", [host + b":443" for host in HOSTILE if b":" not in host] + [b"api.example.com"])
def test_h4_h5_h6_a_hostile_connect_target_is_refused(target: bytes) -> None:
    assert refused(lambda: read_connect_destination(target)) is Code.INVALID_REQUEST


def test_a_connect_target() -> None:
    assert read_connect_destination(b"API.example.com.:443") == API
    assert read_connect_destination(b"[2001:DB8::1]:22") == Destination("https", "2001:db8::1", 22)


@pytest.mark.parametrize("host", [b"api.example.com", b"API.EXAMPLE.COM.:443"])
def test_a1_a_host_that_agrees(host: bytes) -> None:
    check_host(host, API)


@pytest.mark.parametrize("host", [b"b.example.com", b"api.example.com:8443", b"api.example.com:80", b"example.com"])
def test_a1_a_host_that_disagrees_is_421(host: bytes) -> None:
    assert refused(lambda: check_host(host, API)) is Code.AUTHORITY_MISMATCH


def test_a3_a_missing_host_is_refused() -> None:
    assert refused(lambda: check_host(None, API)) is Code.INVALID_REQUEST


# --- the requests of one stream ---------------------------------------------------------------------------------------

PLAIN = Destination("http", "a.example", 80)


@pytest.mark.parametrize(
    "line", [b"Host: api.example.com", b"Host: API.example.com.:443", b"Host: api.example.com:443"]
)
def test_a1_the_host_of_a_connect_that_agrees(line: bytes) -> None:
    check_connect_host(parse_request(b"CONNECT api.example.com:443 HTTP/1.1\r\n" + line), API)


def test_s4_a_connect_of_http_1_0_may_do_without_host() -> None:
    check_connect_host(parse_request(b"CONNECT api.example.com:443 HTTP/1.0"), API)
    head = parse_request(b"CONNECT api.example.com:443 HTTP/1.1")
    assert refused(lambda: check_connect_host(head, API)) is Code.INVALID_REQUEST


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"Host: api.example.com:8443", Code.AUTHORITY_MISMATCH),
        (b"Host: evilapi.example.com", Code.AUTHORITY_MISMATCH),
        (b"Host: api.example.com..", Code.INVALID_REQUEST),
        (b"Host: u@api.example.com", Code.INVALID_REQUEST),
    ],
)
def test_a1_a3_the_host_of_a_connect_that_disagrees(line: bytes, code: Code) -> None:
    head = parse_request(b"CONNECT api.example.com:443 HTTP/1.1\r\n" + line)
    assert refused(lambda: check_connect_host(head, API)) is code


def test_a_stream_to_one_host() -> None:
    reader = TargetReader(API)
    assert reader.read(b"/v1?x", b"api.example.com") == (API, b"/v1", b"?", b"x")
    assert reader.read(b"/v1", b"API.example.com:443") == (API, b"/v1", b"", b"")
    assert reader.read(b"https://api.example.com./v1", b"api.example.com") == (API, b"/v1", b"", b"")
    assert reader.read(b"https://api.example.com./v2?", b"api.example.com") == (API, b"/v2", b"?", b"")
    assert reader.read(b"/v3", b"api.example.com") == (API, b"/v3", b"", b"")


def test_a_proxy_stream_goes_where_each_request_says() -> None:
    reader = TargetReader(None)
    other = Destination("http", "b.example", 8080)
    assert reader.read(b"http://a.example/x", b"a.example") == (PLAIN, b"/x", b"", b"")
    assert reader.read(b"http://a.example/y?z", b"a.example") == (PLAIN, b"/y", b"?", b"z")
    assert reader.read(b"http://a.example?z", b"a.example") == (PLAIN, b"/", b"?", b"z")
    assert reader.read(b"HTTP://b.example:8080", b"b.example:8080") == (other, b"/", b"", b"")
    assert reader.read(b"http://a.example/x", b"a.example") == (PLAIN, b"/x", b"", b"")


@pytest.mark.parametrize(
    ("target", "parts"),
    [
        (b"/v1", (b"/v1", b"", b"")),
        (b"/v1?", (b"/v1", b"?", b"")),
        (b"/v1??", (b"/v1", b"?", b"?")),
        (b"/v1?a=/..&b=%3F?c", (b"/v1", b"?", b"a=/..&b=%3F?c")),
        (b"/v1%3Fa", (b"/v1%3Fa", b"", b"")),
        (b"//v1?x", (b"//v1", b"?", b"x")),
    ],
)
def test_p10_the_query_begins_at_the_first_question_mark(target: bytes, parts: tuple[bytes, bytes, bytes]) -> None:
    assert TargetReader(API).read(target, b"api.example.com")[1:] == parts
    proxy = TargetReader(None)
    # Read in full the first time, by what is remembered the second.
    for _ in range(2):
        assert proxy.read(b"http://a.example" + target, b"a.example")[1:] == parts


@pytest.mark.parametrize(
    "target", [b"http://a.example.evil.example/", b"http://a.examplevil/", b"http://a.example:81/"]
)
def test_a2_h2_what_begins_like_the_last_destination_is_another(target: bytes) -> None:
    reader = TargetReader(None)
    reader.read(b"http://a.example/", b"a.example")
    assert refused(lambda: reader.read(target, b"a.example")) is Code.AUTHORITY_MISMATCH
    assert refused(lambda: reader.read(b"http://a.example@evil.example/", b"a.example")) is Code.INVALID_REQUEST


@pytest.mark.parametrize("host", [b"b.example", b"a.example:81", b""])
def test_a1_a2_every_request_of_a_stream_is_checked(host: bytes) -> None:
    fixed = TargetReader(API)
    proxy = TargetReader(None)
    for _ in range(2):
        assert fixed.read(b"/", b"api.example.com") == (API, b"/", b"", b"")
        assert proxy.read(b"http://a.example/", b"a.example") == (PLAIN, b"/", b"", b"")
        refused(lambda: fixed.read(b"/", host))
        refused(lambda: proxy.read(b"http://a.example/", host))
        # What was refused is remembered neither as the host nor as the destination.
        refused(lambda: proxy.read(b"http://c.example/", b"a.example"))
        refused(lambda: proxy.read(b"http://a.example/", b"c.example"))
        refused(lambda: fixed.read(b"https://c.example/", b"c.example"))


@pytest.mark.parametrize("target", [b"http://a.example/", b"http://a.example"])
def test_a3_a_missing_host_is_refused_on_every_request(target: bytes) -> None:
    reader = TargetReader(None)
    assert refused(lambda: reader.read(target, None)) is Code.INVALID_REQUEST
    assert refused(lambda: reader.read(target, None)) is Code.INVALID_REQUEST
    reader.read(target, b"a.example")
    assert refused(lambda: reader.read(target, None)) is Code.INVALID_REQUEST
    fixed = TargetReader(API)
    assert refused(lambda: fixed.read(b"/", None)) is Code.INVALID_REQUEST
    assert refused(lambda: fixed.read(b"https://api.example.com/", None)) is Code.INVALID_REQUEST


def test_a3_a_request_without_host_after_another_authority_is_refused() -> None:
    # The Host that was good for one destination, or none at all, is never good for the next one by memory.
    reader = TargetReader(None)
    for authority in (b"a.example", b"b.example", b"a.example"):
        target = b"http://" + authority + b"/"
        assert refused(partial(reader.read, target, None)) is Code.INVALID_REQUEST
        assert refused(partial(reader.read, target, b"c.example")) is Code.AUTHORITY_MISMATCH
        assert reader.read(target, authority)[0].host == authority.decode()
        assert refused(partial(reader.read, target, None)) is Code.INVALID_REQUEST
    fixed = TargetReader(API)
    assert fixed.read(b"/", b"api.example.com")[0] == API
    assert refused(lambda: fixed.read(b"https://b.example/", b"b.example")) is Code.AUTHORITY_MISMATCH
    assert refused(lambda: fixed.read(b"/", None)) is Code.INVALID_REQUEST


@pytest.mark.parametrize(
    ("destination", "target", "code"),
    [
        (None, b"/v1", Code.INVALID_REQUEST),
        (None, b"*", Code.INVALID_REQUEST),
        (None, b"https://a.example/", Code.INVALID_REQUEST),
        (None, b"http://a.example/x#y", Code.INVALID_REQUEST),
        (None, b"http://a.example#/x", Code.INVALID_REQUEST),
        (None, b"http://a.example#", Code.INVALID_REQUEST),
        (None, b"http://u@a.example/", Code.INVALID_REQUEST),
        (API, b"/v1#x", Code.INVALID_REQUEST),
        (API, b"/v1?a=b#", Code.INVALID_REQUEST),
        (API, b"v1", Code.INVALID_REQUEST),
        (API, b"*", Code.INVALID_REQUEST),
        (API, b"https://b.example/", Code.AUTHORITY_MISMATCH),
        (API, b"http://api.example.com/", Code.AUTHORITY_MISMATCH),
        (API, b"https://api.example.com:8443/", Code.AUTHORITY_MISMATCH),
        (API, b"https://api.example.com@b.example/", Code.INVALID_REQUEST),
    ],
)
def test_a1_p6_p7_a_target_that_says_two_things_is_refused(
    destination: Destination | None, target: bytes, code: Code
) -> None:
    host = b"a.example" if destination is None else b"api.example.com"
    reader = TargetReader(destination)
    assert refused(lambda: reader.read(target, host)) is code
    assert refused(lambda: reader.read(target, host)) is code


TARGETS = [b"http://a.example/x", b"http://a.example?x", b"http://b.example/", b"http://A.example./", b"/x", b"http://"]
HOSTS = [b"a.example", b"b.example", b"A.EXAMPLE", b"", None]


@given(st.lists(st.tuples(st.sampled_from(TARGETS), st.sampled_from(HOSTS)), max_size=8))
def test_a2_what_a_stream_remembers_changes_no_answer(requests: list[tuple[bytes, bytes | None]]) -> None:
    def answer(reader: TargetReader, target: bytes, host: bytes | None) -> object:
        try:
            return reader.read(target, host)
        except Refused as error:
            return error.deny.code

    reader = TargetReader(None)
    for target, host in requests:
        assert answer(reader, target, host) == answer(TargetReader(None), target, host)


def test_refusals_carry_their_hint_and_never_the_input() -> None:
    assert invalid("d", "h").deny.hint == "h"
    assert invalid("d").deny.hint is None
    assert mismatch("d").deny.hint
    with pytest.raises(Refused) as caught:
        read_destination("https", b"secret secret")
    assert "secret" not in repr(caught.value.deny)


@given(st.binary(max_size=30) | st.sampled_from(HOSTILE), st.binary(max_size=5))
def test_any_bytes_are_a_destination_or_refused(authority: bytes, more: bytes) -> None:
    calls: tuple[Callable[[], object], ...] = (
        lambda: read_destination("http", authority + more),
        lambda: read_connect_destination(authority + more),
        lambda: check_host(authority + more, API),
        lambda: split_absolute_form(authority + more),
    )
    for call in calls:
        try:
            call()
        except Refused:
            pass
