"""What follows from the names of a head, and that remembering it stays within bounds (egress cases S1, S6, A3, C1)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sallyport.wire.errors import RemoteProtocolError
from sallyport.wire.http1.head import FRAMING_NAMES, FieldKind
from sallyport.wire.http1.shape import (
    MAX_REMOVALS,
    MAX_SHAPE_BYTES,
    MAX_SHAPE_FIELDS,
    MAX_SHAPES,
    TOKEN,
    HeadShape,
    ShapeTable,
    field_kind,
    field_name,
)

REQUEST = False
ANSWER = True


def shape_of(*names: bytes, is_answer: bool = REQUEST) -> HeadShape:
    return HeadShape(tuple(name + b":" for name in names), is_answer=is_answer)


def refusal(*names: bytes, is_answer: bool = REQUEST) -> str:
    with pytest.raises(RemoteProtocolError) as caught:
        shape_of(*names, is_answer=is_answer)
    return caught.value.reason


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        (b"X-A", FieldKind.PLAIN),
        (b"!#$%&'*+-.^_`|~", FieldKind.PLAIN),
        (b"HOST", FieldKind.HOST),
        (b"content-Length", FieldKind.CONTENT_LENGTH),
        (b"Transfer-Encoding", FieldKind.TRANSFER_ENCODING),
        (b"Connection", FieldKind.CONNECTION),
        (b"Upgrade", FieldKind.UPGRADE),
        (b"Expect", FieldKind.EXPECT),
        (b"TE", FieldKind.HOP),
        (b"Keep_Alive", FieldKind.HOP),
        (b"Proxy-Anything", FieldKind.HOP),
        (b"proxy_anything", FieldKind.HOP),
        (b"Proxy-Authorization", FieldKind.PROXY_AUTHORIZATION),
        (b"Proxy", FieldKind.PLAIN),
        (b"Sallyport-Stream", FieldKind.OURS),
        (b"SALLYPORT_X", FieldKind.OURS),
        (b"Sallyport", FieldKind.PLAIN),
    ],
)
def test_s6_what_a_name_means(name: bytes, kind: FieldKind) -> None:
    assert field_kind(name) is kind


@pytest.mark.parametrize("name", [b"", b"X A", b"X-A ", b" X-A", b"X-A\t", b"X\xe9", b"X\x00", b"(X)", b'"X"', b"X@"])
def test_s1_a_name_that_is_no_token_is_refused(name: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        field_kind(name)
    refusal(name)
    refusal(name, is_answer=ANSWER)


def test_s1_the_bytes_of_a_token_are_these() -> None:
    # RFC 9110 section 5.6.2: visible ASCII without delimiters.
    delimiters = b'"(),/:;<=>?@[\\]{}'
    assert set(TOKEN) == set(range(0x21, 0x7F)) - set(delimiters)
    assert len(TOKEN) == len(set(TOKEN))


@pytest.mark.parametrize("name", sorted(name for name in FRAMING_NAMES if b"-" in name))
def test_s1_an_underscore_twin_of_what_frames_is_refused(name: bytes) -> None:
    twin = name.replace(b"-", b"_").title()
    assert refusal(twin) == refusal(twin, is_answer=ANSWER) == "an underscore twin of a framing field"
    assert field_kind(name.title()) is field_kind(name)


def test_c1_names_are_compared_in_one_spelling() -> None:
    assert field_name(b"X_Api-KEY") == b"x-api-key"
    assert shape_of(b"X_Api-KEY", b"x-api-key").names == (b"x-api-key", b"x-api-key")


# --- shapes -----------------------------------------------------------------------------------------------------------


def test_a_shape_says_where_everything_stands() -> None:
    shape = shape_of(b"Host", b"X-A", b"TE", b"Content-Length", b"X_B", b"Connection", b"Connection")
    assert shape.names == (b"x-a", b"x-b")
    assert shape.hop == ((0, FieldKind.HOST), (3, FieldKind.CONTENT_LENGTH), (5, FieldKind.CONNECTIONS))
    assert shape.connections == (5, 6)
    assert list(shape.pick([b"0", b"1", b"2", b"3", b"4", b"5", b"6"])) == [b"1", b"4"]
    assert repr(shape) == "<HeadShape 2 fields passed on, 3 for this hop>"


@pytest.mark.parametrize("names", [[], [b"Host"], [b"X-A"], [b"Host", b"X-A"], [b"X-A", b"X-B"]])
def test_lines_are_picked_one_by_one_whatever_their_number(names: list[bytes]) -> None:
    shape = shape_of(*names)
    assert list(shape.pick(names)) == [name for name in names if name != b"Host"]
    assert list(shape.without(frozenset(), names)) == list(shape.pick(names))


LED_BACK = "the request has come through a gateway already: an upstream proxy has led it back"


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        ([b"Host", b"X-A", b"HOST"], "more than one Host"),
        ([b"Content-Length", b"content-length"], "more than one Content-Length or Transfer-Encoding"),
        ([b"Transfer-Encoding", b"transfer-encoding"], "more than one Content-Length or Transfer-Encoding"),
        ([b"Content-Length", b"Transfer-Encoding"], "more than one Content-Length or Transfer-Encoding"),
        ([b"Transfer-Encoding", b"Content-Length"], "more than one Content-Length or Transfer-Encoding"),
        ([b"Proxy-Authorization", b"proxy-authorization"], "more than one Proxy-Authorization"),
        ([b"Sallyport-Stream"], "a Sallyport-* field from a sandbox"),
        ([b"Sallyport-Hop"], LED_BACK),
        ([b"SALLYPORT_HOP"], LED_BACK),
    ],
)
def test_s1_a3_a_request_s_names_that_say_two_things_are_refused(names: list[bytes], reason: str) -> None:
    assert refusal(*names) == reason


def test_s1_a_line_without_a_colon_is_refused() -> None:
    for is_answer in (REQUEST, ANSWER):
        with pytest.raises(RemoteProtocolError, match="a line without a colon"):
            HeadShape((b"X-A:", b""), is_answer=is_answer)


def test_an_answer_s_names_are_read_by_what_they_mean_in_answers() -> None:
    shape = shape_of(
        b"Host",
        b"host",
        b"Expect",
        b"Sallyport-X",
        b"Proxy-Authorization",
        b"proxy-authorization",
        b"Upgrade",
        is_answer=ANSWER,
    )
    assert shape.names == (b"host", b"host", b"expect", b"sallyport-x")
    assert shape.hop == ((6, FieldKind.UPGRADE),)
    for names in ([b"Content-Length"] * 2, [b"Content-Length", b"Transfer-Encoding"]):
        assert refusal(*names, is_answer=ANSWER) == "more than one Content-Length or Transfer-Encoding"


# --- removal ----------------------------------------------------------------------------------------------------------


@given(
    st.lists(st.sampled_from([b"X-A", b"x_a", b"Cookie", b"Host-X", b"TE"]), max_size=6),
    st.lists(st.frozensets(st.sampled_from([b"x-a", b"cookie", b"other"])), max_size=4),
)
def test_c1_what_is_removed_is_removed_in_every_spelling(names: list[bytes], removals: list[frozenset[bytes]]) -> None:
    shape = shape_of(*names)
    fields = [b"%d" % index for index in range(len(names))]
    lines = shape.pick(fields)
    for removed in removals + removals:
        left = [line for line, name in zip(lines, shape.names, strict=True) if name not in removed]
        assert list(shape.without(removed, fields)) == left


def test_removals_are_remembered_within_bounds() -> None:
    shape = shape_of(b"X-1", b"X-2")
    for number in range(MAX_REMOVALS + 10):
        assert shape.without(frozenset({b"x-1", b"y-%d" % number}), (b"1", b"2")) == (b"2",)
        assert len(shape._removals) <= MAX_REMOVALS


# --- the table --------------------------------------------------------------------------------------------------------


def test_a_shape_is_learnt_once() -> None:
    table = ShapeTable(is_answer=REQUEST)
    names = (b"Host:", b"X-A:")
    assert table.known(names) is None
    shape = table.learn(names)
    assert table.known(names) is shape
    # Another order or spelling is another shape.
    assert table.known((b"X-A:", b"Host:")) is None
    assert table.known((b"Host:", b"x-a:")) is None


def test_s1_what_is_refused_is_refused_every_time() -> None:
    table = ShapeTable(is_answer=REQUEST)
    for _ in range(2):
        with pytest.raises(RemoteProtocolError):
            table.learn((b"Host:", b"Host:"))
        assert table.known((b"Host:", b"Host:")) is None


def test_requests_and_answers_have_tables_of_their_own() -> None:
    names = (b"Expect:",)
    assert ShapeTable(is_answer=ANSWER).learn(names).names == (b"expect",)
    assert ShapeTable(is_answer=REQUEST).learn(names).names == ()


def test_shapes_are_remembered_within_bounds() -> None:
    table = ShapeTable(is_answer=REQUEST)
    for number in range(MAX_SHAPES + 10):
        names = (b"X-%d:" % number,)
        assert table.known(names) is None
        assert table.known(names) is not table.learn(names)
        assert len(table._shapes) <= MAX_SHAPES
    # It started afresh: the last ones are there, the first ones are not, and what is asked sees the same table.
    assert table.known((b"X-%d:" % (MAX_SHAPES + 9),)) is not None
    assert table.known((b"X-0:",)) is None


@pytest.mark.parametrize(
    ("names", "is_remembered"),
    [
        ((b"x" * (MAX_SHAPE_BYTES - 1) + b":",), True),
        ((b"x" * MAX_SHAPE_BYTES + b":",), False),
        ((b"x:",) * MAX_SHAPE_FIELDS, True),
        ((b"x:",) * (MAX_SHAPE_FIELDS + 1), False),
        ((), True),
    ],
    ids=["long", "too long", "many", "too many", "none"],
)
def test_a_shape_that_is_large_is_read_and_not_remembered(names: tuple[bytes, ...], is_remembered: bool) -> None:
    table = ShapeTable(is_answer=REQUEST)
    assert len(table.learn(names).names) == len(names)
    assert (table.known(names) is not None) is is_remembered
