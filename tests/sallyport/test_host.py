import pytest
from hypothesis import given
from hypothesis import strategies as st

from sallyport.host import (
    HostError,
    HostPattern,
    HostPatternKind,
    is_loopback,
    normalize_host,
    parse_host_pattern,
    split_authority,
)


@pytest.mark.parametrize(
    ("text", "host"),
    [
        pytest.param("api.example.com", "api.example.com", id="plain"),
        pytest.param("API.Example.COM", "api.example.com", id="H1-case"),
        pytest.param("api.example.com.", "api.example.com", id="H1-trailing-dot"),
        pytest.param("xn--bcher-kva.example", "xn--bcher-kva.example", id="H3-a-label"),
        pytest.param("my_service.local", "my_service.local", id="underscore"),
        pytest.param("a-.example", "a-.example", id="label-ends-in-hyphen"),
        pytest.param("1password.com", "1password.com", id="label-begins-with-digit"),
        pytest.param("4chan", "4chan", id="one-label-beginning-with-digit"),
        pytest.param("localhost", "localhost", id="one-label"),
        pytest.param("x" * 63 + ".com", "x" * 63 + ".com", id="H5-label-of-63"),
        pytest.param("x." * 125 + "com", "x." * 125 + "com", id="H5-name-of-253"),
        pytest.param("x." * 125 + "com.", "x." * 125 + "com", id="H5-name-of-253-and-a-dot"),
        pytest.param("192.0.2.1", "192.0.2.1", id="ipv4"),
        pytest.param("::1", "::1", id="ipv6-bare"),
        pytest.param("[::1]", "::1", id="ipv6-in-brackets"),
        pytest.param("[2001:DB8:0:0:0:0:0:1]", "2001:db8::1", id="ipv6-compressed"),
        pytest.param("[::ffff:192.0.2.1]", "::ffff:192.0.2.1", id="H6-ipv4-mapped"),
    ],
)
def test_a_host_has_one_spelling(text: str, host: str) -> None:
    assert normalize_host(text) == host
    assert normalize_host(host) == host


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param(".", id="only-a-dot"),
        pytest.param("api.example.com..", id="H1-two-dots"),
        pytest.param("api..example.com", id="H5-empty-label"),
        pytest.param(".example.com", id="H5-leading-dot"),
        pytest.param("x" * 64 + ".com", id="H5-label-of-64"),
        pytest.param("x." * 126 + "co", id="H5-name-of-254"),
        pytest.param("bücher.example", id="H3-non-ascii"),
        pytest.param("ａpi.example.com", id="H3-fullwidth"),
        pytest.param("api。example.com", id="H3-ideographic-dot"),
        pytest.param("1২7.0.0.1", id="H3-foreign-digits"),
        pytest.param("api.example.com\0.evil.test", id="H4-nul"),
        pytest.param("api%00.example.com", id="H4-percent"),
        pytest.param("api example.com", id="H4-space"),
        pytest.param("api.example.com\n", id="H4-newline"),
        pytest.param("api.example.com/x", id="H4-slash"),
        pytest.param("user@api.example.com", id="H4-at"),
        pytest.param("api.example.com,evil.test", id="H4-comma"),
        pytest.param("api.example.com\\x", id="H4-backslash"),
        pytest.param("*.example.com", id="star"),
        pytest.param("-oproxy.example", id="label-begins-with-hyphen"),
        pytest.param("0x7f.1", id="H6-hex-and-short"),
        pytest.param("0x7f000001", id="H6-one-hex-number"),
        pytest.param("2130706433", id="H6-one-number"),
        pytest.param("0177.0.0.1", id="H6-octal"),
        pytest.param("127.1", id="H6-short"),
        pytest.param("1.2.3.4.5", id="H6-five-parts"),
        pytest.param("256.0.0.1", id="H6-out-of-range"),
        pytest.param("127.0.0.1.", id="H6-address-with-dot"),
        pytest.param("example.0x", id="H6-hex-label-without-digits"),
        pytest.param("[fe80::1%eth0]", id="H6-zone"),
        pytest.param("fe80::1%251", id="H6-zone-encoded"),
        pytest.param("[::1", id="open-bracket"),
        pytest.param("::1]", id="closing-bracket"),
        pytest.param("[127.0.0.1]", id="ipv4-in-brackets"),
        pytest.param("[api.example.com]", id="name-in-brackets"),
        pytest.param("::12345", id="ipv6-part-too-long"),
    ],
)
def test_an_ambiguous_host_is_refused(text: str) -> None:
    with pytest.raises(HostError):
        normalize_host(text)


@given(st.text())
def test_any_text_is_a_host_of_its_own_spelling_or_refused(text: str) -> None:
    try:
        host = normalize_host(text)
    except HostError:
        return
    assert normalize_host(host) == host
    assert host.isascii()
    assert host == host.lower()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("api.example.com", ("api.example.com", 443), id="default-port"),
        pytest.param("API.example.com.:8443", ("api.example.com", 8443), id="H1-normalized"),
        pytest.param("api.example.com:0443", ("api.example.com", 443), id="H1-leading-zeros"),
        pytest.param("[::1]", ("::1", 443), id="ipv6"),
        pytest.param("[::1]:65535", ("::1", 65535), id="ipv6-with-port"),
        pytest.param("192.0.2.1:1", ("192.0.2.1", 1), id="ipv4-with-port"),
    ],
)
def test_an_authority_is_a_host_and_a_port(text: str, expected: tuple[str, int]) -> None:
    assert split_authority(text, 443) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":443",
        "api.example.com:",
        "api.example.com:0",
        "api.example.com:65536",
        "api.example.com:" + "9" * 5000,
        "api.example.com:+443",
        "api.example.com: 443",
        "api.example.com:４４３",
        "api.example.com:443:443",
        "::1:443",
        "[::1",
        "[::1]443",
        "[::1]:",
        "[::1]:x:1",
        pytest.param("user@api.example.com", id="P6-userinfo"),
        pytest.param("user:secret@api.example.com:443", id="P6-password"),
        pytest.param("[::1]@evil.test", id="P6-after-bracket"),
        pytest.param("@", id="P6-empty"),
    ],
)
def test_an_unclear_authority_is_refused(text: str) -> None:
    with pytest.raises(HostError):
        split_authority(text, 443)


def test_a_port_is_demanded_where_there_is_no_default() -> None:
    assert split_authority("api.example.com:443", None) == ("api.example.com", 443)
    with pytest.raises(HostError, match="port is required"):
        split_authority("api.example.com", None)


def test_a_refusal_does_not_repeat_its_input() -> None:
    with pytest.raises(HostError) as refused:
        split_authority("user:hunter2@api.example.com", 443)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    ("pattern", "host", "matches"),
    [
        ("api.example.com", "api.example.com", True),
        ("api.example.com", "evilapi.example.com", False),
        pytest.param("api.example.com", "api.example.com.evil.test", False, id="H2-suffix-of-ours"),
        ("*.example.com", "api.example.com", True),
        ("*.example.com", "a.b.example.com", True),
        ("*.example.com", "example.com", False),
        pytest.param("*.example.com", "evilexample.com", False, id="H2-without-dot"),
        pytest.param("*.example.com", "api.example.com.evil.test", False, id="H2-beyond"),
        ("*", "anything.at.all", True),
        ("*", "::1", True),
        ("::1", "::1", True),
    ],
)
def test_a_pattern_matches_whole_labels(pattern: str, host: str, matches: bool) -> None:
    assert parse_host_pattern(pattern).matches(host) is matches


@pytest.mark.parametrize("text", ["api.example.com", "*.example.com", "*", "2001:db8::1"])
def test_a_pattern_gives_its_text_back(text: str) -> None:
    assert str(parse_host_pattern(text)) == text


def test_a_pattern_is_normalized() -> None:
    assert parse_host_pattern("*.Example.COM.") == HostPattern(kind=HostPatternKind.WILDCARD, value="example.com")
    assert parse_host_pattern("API.example.com") == HostPattern(kind=HostPatternKind.EXACT, value="api.example.com")


@pytest.mark.parametrize(
    "text", ["", "**", "*.", "*.*.example.com", "a.*.example.com", "*example.com", "*.192.0.2.1", "*.0.0.1", "*.::1"]
)
def test_other_patterns_are_refused(text: str) -> None:
    with pytest.raises(HostError):
        parse_host_pattern(text)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.9.9.9", "::1"])
def test_loopback(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.1.2.3", "localhost.example.com", "example.com", "128.0.0.1"])
def test_not_loopback(host: str) -> None:
    assert not is_loopback(host)
