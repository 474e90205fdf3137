"""What becomes of a connection: the managed set, the decision, the heads."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sallyport.host import parse_host_pattern
from sallyport.problem import Code
from sallyport.wire.errors import RemoteProtocolError
from sallyport.wire.http1.codec import parse_request
from sallyport.wire.http1.scan import CRLF, HEAD_END
from sandboxd.core.intake import (
    Choice,
    ManagedSet,
    ManagedSetReader,
    Mode,
    Refused,
    choose_connect,
    choose_plain,
    connect_head,
    plain_head,
    read_asked,
    redirected,
)

HOSTS = [
    {"pattern": "api.test", "ports": [443, 80]},
    {"pattern": "*.wild.test", "ports": [443]},
    {"pattern": "every.test", "ports": [0]},
    {"pattern": "API.Case.Test", "ports": [443]},
]


def managed(*hosts: object, revision: object = 3) -> ManagedSet:
    whole = ManagedSetReader().take({"type": "interception.set", "revision": revision, "hosts": list(hosts)})
    assert whole is not None
    return whole


def choice(host: str, port: int, opaque: str | None = None) -> Choice:
    patterns = () if opaque is None else (parse_host_pattern(opaque),)
    return choose_connect(managed(*HOSTS), patterns, host, port)


@pytest.mark.parametrize(
    ("host", "port", "expected"),
    [
        ("api.test", 443, Choice.INTERCEPT),
        ("api.test", 80, Choice.INTERCEPT),
        ("api.test", 8443, Choice.PASSTHROUGH),
        ("a.api.test", 443, Choice.PASSTHROUGH),
        ("evilapi.test", 443, Choice.PASSTHROUGH),
        ("a.b.wild.test", 443, Choice.INTERCEPT),
        ("wild.test", 443, Choice.PASSTHROUGH),
        ("every.test", 1, Choice.INTERCEPT),
        ("every.test", 65535, Choice.INTERCEPT),
        ("api.case.test", 443, Choice.INTERCEPT),
    ],
)
def test_the_set_decides(host: str, port: int, expected: Choice) -> None:
    assert choice(host, port) is expected


def test_a_host_the_operator_leaves_opaque_is_not_read() -> None:
    assert choice("api.test", 443, "api.test") is Choice.PASSTHROUGH
    assert choice("a.wild.test", 443, "*.wild.test") is Choice.PASSTHROUGH
    assert choice("a.wild.test", 443, "api.test") is Choice.INTERCEPT


@given(st.text(), st.integers(1, 65535))
def test_without_a_set_nothing_is_guessed(host: str, port: int) -> None:
    assert choose_connect(None, (parse_host_pattern("*"),), host, port) is Choice.WAIT
    assert choose_plain(None) is Choice.WAIT


def test_an_empty_set_manages_nothing() -> None:
    assert choose_connect(managed(revision=0), (), "api.test", 443) is Choice.PASSTHROUGH
    assert choose_plain(managed()) is Choice.PLAIN
    assert repr(managed()) == "<ManagedSet revision 3, 0 entries>"


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"type": "interception.set", "revision": 1},
        {"type": "interception.set", "revision": 1, "hosts": [], "more": 1},
        {"type": "interception.set", "revision": True, "hosts": []},
        {"type": "interception.set", "revision": -1, "hosts": []},
        {"type": "interception.set", "revision": 1.0, "hosts": []},
        {"type": "interception.set", "revision": 2**53, "hosts": []},
        {"type": "interception.set", "revision": 1, "hosts": {}},
        {"type": "interception.set", "revision": 1, "hosts": ["api.test"]},
        {"type": "interception.set", "revision": 1, "hosts": [{"pattern": "api.test"}]},
        {"type": "interception.set", "revision": 1, "hosts": [{"pattern": "api.test", "ports": [443], "x": 1}]},
        {"type": "interception.set", "revision": 1, "hosts": [{"pattern": "api.test", "ports": []}]},
        {"type": "interception.set", "revision": 1, "hosts": [{"pattern": "api.test", "ports": ["443"]}]},
        {"type": "interception.set", "revision": 1, "hosts": [{"pattern": "api.test", "ports": [True]}]},
        {"type": "interception.set", "revision": 1, "hosts": [{"pattern": "api.test", "ports": [65536]}]},
        {"type": "interception.set", "revision": 1, "hosts": [{"pattern": "a*.test", "ports": [443]}]},
        {"type": "interception.set", "revision": 1, "hosts": [{"pattern": None, "ports": 5}]},
        {"type": "interception.set", "revision": 1, "hosts": [{"pattern": "api.test", "ports": [443]}] * 65_537},
    ],
)
def test_a_set_that_is_none(document: dict[str, object]) -> None:
    with pytest.raises(RemoteProtocolError, match=r"interception\.set"):
        ManagedSetReader().take(document)


def page(*patterns: str, revision: int = 3, more: bool = False) -> dict[str, object]:
    hosts = [{"pattern": pattern, "ports": [443]} for pattern in patterns]
    document: dict[str, object] = {"type": "interception.set", "revision": revision, "hosts": hosts}
    return document | {"more": True} if more else document


def test_a_set_in_several_messages_is_in_force_once_it_is_whole() -> None:
    reader = ManagedSetReader()
    assert reader.take(page("a.test", more=True)) is None
    whole = reader.take(page("b.test"))
    assert whole is not None
    assert [whole.covers(host, 443) for host in ("a.test", "b.test")] == [True, True]
    again = reader.take(page("c.test"))
    assert again is not None
    assert not again.covers("a.test", 443)


def test_a_newer_set_overtakes_what_had_begun() -> None:
    reader = ManagedSetReader()
    assert reader.take(page("a.test", more=True)) is None
    newer = reader.take(page("b.test", revision=4))
    assert newer is not None
    assert (newer.revision, len(newer.hosts)) == (4, 1)


def test_pages_together_have_a_limit() -> None:
    reader = ManagedSetReader()
    hosts = [f"h{number}.test" for number in range(32_000)]
    for _ in range(2):
        assert reader.take(page(*hosts, more=True)) is None
    with pytest.raises(RemoteProtocolError, match="possible length"):
        reader.take(page(*hosts))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(JSON, JSON, JSON)
def test_nothing_the_gateway_says_raises_anything_else(revision: object, pattern: object, ports: object) -> None:
    for hosts in (pattern, [pattern], [{"pattern": pattern, "ports": ports}]):
        try:
            ManagedSetReader().take({"type": "interception.set", "revision": revision, "hosts": hosts})
        except RemoteProtocolError:
            pass


# ---- heads of programs


@pytest.mark.parametrize(
    ("head", "host", "port"),
    [
        (b"CONNECT api.test:443 HTTP/1.1\r\nHost: api.test:443", "api.test", 443),
        (b"CONNECT API.test.:0443 HTTP/1.1\r\nHost: api.test", "api.test", 443),
        (b"CONNECT [::1]:22 HTTP/1.1\r\nHost: [::1]:22", "::1", 22),
        (b"CONNECT api.test:443 HTTP/1.0", "api.test", 443),
    ],
)
def test_a_connect(head: bytes, host: str, port: int) -> None:
    asked = read_asked(head)
    assert (asked.is_connect, asked.host, asked.port) == (True, host, port)


@pytest.mark.parametrize(
    ("head", "code"),
    [
        (b"CONNECT api.test HTTP/1.1\r\nHost: api.test", Code.INVALID_REQUEST),
        (b"CONNECT 127.1:80 HTTP/1.1\r\nHost: 127.1", Code.INVALID_REQUEST),
        (b"CONNECT a%00.test:80 HTTP/1.1\r\nHost: a", Code.INVALID_REQUEST),
        (b"CONNECT api.test:443 HTTP/1.1", Code.INVALID_REQUEST),
        (b"CONNECT api.test:443 HTTP/1.1\r\nHost: u@api.test", Code.INVALID_REQUEST),
        (b"CONNECT api.test:443 HTTP/1.1\r\nHost: api.test:80", Code.AUTHORITY_MISMATCH),
        (b"CONNECT api.test:443 HTTP/1.1\r\nHost: api.test\r\nContent-Length: 1", Code.INVALID_REQUEST),
        (b"GET api.test HTTP/1.1\r\nHost: api.test", Code.INVALID_REQUEST),
        (b"GET http://api.test/ HTTP/1.1\nHost: api.test", Code.INVALID_REQUEST),
        (b"GET http://api.test/ HTTP/1.1\r\nHost: api.test\r\nSallyport-Stream: x\r\n y", Code.INVALID_REQUEST),
        (b"CONNECT api.test:443 HTTP/1.1\r\nHost: api.test\r\nSallyport-Hop: 1", Code.INVALID_REQUEST),
        (b"CONNECT api.test:443 HTTP/1.1\r\nHost: api.test\r\nsallyport_hop: 2", Code.INVALID_REQUEST),
        (b"GET http://api.test/ HTTP/1.1\r\nHost: api.test\r\nSallyport-Hop: 1", Code.INVALID_REQUEST),
        (b"PRI * HTTP/2.0", Code.HTTP_VERSION),
        (b"GET http://api.test/ HTTP/1.0\r\nHost: api.test", Code.HTTP_VERSION),
    ],
)
def test_a_head_that_is_refused(head: bytes, code: Code) -> None:
    with pytest.raises(Refused) as refused:
        read_asked(head)
    assert refused.value.code is code


@given(st.binary(max_size=200))
def test_no_head_raises_anything_else(head: bytes) -> None:
    for begin in (b"", b"GET http://api.test/ HTTP/1.1\r\n", b"CONNECT "):
        try:
            read_asked(begin + head)
        except Refused:
            pass


# ---- what was redirected


@pytest.mark.parametrize(
    ("host", "port", "authority"),
    [("api.test", 80, b"api.test:80"), ("192.0.2.1", 443, b"192.0.2.1:443"), ("2001:db8::1", 22, b"[2001:db8::1]:22")],
)
def test_a_redirected_connection_is_a_connect_that_waits_for_nothing(host: str, port: int, authority: bytes) -> None:
    asked = redirected(host, port)
    assert (asked.host, asked.port, asked.is_connect, asked.is_for_us) == (host, port, True, False)
    assert not asked.waits_for_200
    explicit = read_asked(b"CONNECT %b HTTP/1.1\r\nHost: %b" % (authority, authority))
    assert explicit.waits_for_200
    assert (asked.head, asked.host, asked.port) == (explicit.head, explicit.host, explicit.port)


def test_h5_a_redirected_connection_to_what_is_no_host() -> None:
    with pytest.raises(Refused):
        redirected("a..test", 443)


# ---- heads for the gateway


@pytest.mark.parametrize(
    ("mode", "announced"),
    [
        (Mode.INTERCEPTED, b"intercepted; revision=9"),
        (Mode.CLEARTEXT, b"intercepted; revision=9; cleartext"),
        (Mode.PASSTHROUGH, b"passthrough; revision=9"),
    ],
)
def test_the_head_of_a_connect_stream(mode: Mode, announced: bytes) -> None:
    assert connect_head("::1", 443, mode, 9) == (
        b"CONNECT [::1]:443 HTTP/1.1\r\nHost: [::1]:443\r\nSallyport-Stream: " + announced + b"\r\n\r\n"
    )


NAMES = st.sampled_from(
    [b"Sallyport-Stream", b"sallyport-x", b"SALLYPORT_STREAM", b"Sallyport-", b"X-Sallyport", b"Accept", b"Via"]
)


@given(st.lists(st.tuples(NAMES, st.sampled_from([b"", b"plain", b"a, b", b"Sallyport-Stream: x"])), max_size=8))
def test_a_program_cannot_speak_for_sandboxd(fields: list[tuple[bytes, bytes]]) -> None:
    lines = [b"GET http://api.test/ HTTP/1.1", b"Host: api.test", *(b"%b: %b" % field for field in fields)]
    head = plain_head(read_asked(CRLF.join(lines)), 4)
    assert head.endswith(HEAD_END)
    kept = head.removesuffix(HEAD_END).split(CRLF)
    assert kept[1] == b"Sallyport-Stream: plain; revision=4"
    assert [line for line in kept if line.lower().replace(b"_", b"-").startswith(b"sallyport-")] == kept[1:2]
    theirs = [line for line in lines if not line.lower().replace(b"_", b"-").startswith(b"sallyport-")]
    assert kept[:1] + kept[2:] == theirs, "everything else goes on untouched and in order"


def test_a_plain_head_reads_as_what_it_was() -> None:
    head = plain_head(read_asked(b"GET http://api.test/ HTTP/1.1\r\nHost: api.test\r\nX: y"), 4)
    without = head.removesuffix(HEAD_END).replace(b"Sallyport-Stream: plain; revision=4\r\n", b"")
    assert parse_request(without).host == b"api.test"
