"""Objects of the control plane, taken apart strictly."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_client.errors import ControlError
from control_client.members import LAST_INSTANT, read_object

CANARY = "canary-value"


def test_every_member_is_taken_once() -> None:
    members = read_object(b'{"a": "x", "b": 1, "c": ["y"], "d": [{"e": 2}], "f": null, "g": "w"}')
    assert members.text("a") == "x"
    assert members.integer("b") == 1
    assert members.texts("c", most=1) == ["y"]
    [inner] = members.objects("d", most=1)
    assert inner.integer("e") == 2
    inner.end()
    assert members.optional_text("f") is None
    assert members.optional_instant("absent") is None
    assert members.word("g", frozenset({"w"})) == "w"
    members.end()


def test_what_nobody_took_is_refused_by_name_alone() -> None:
    members = read_object(json.dumps({"a": "x", "b\n": CANARY}).encode())
    members.text("a")
    with pytest.raises(ControlError, match=r"unknown: '/b\\n'") as caught:
        members.end()
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize(
    "document",
    [
        *(b"", b"[]", b'"a"', b"{", b'{"a":1,"a":1}', b'{"a":1.0}', b'{"a":NaN}', b'{"a":1e3}', b"\xff"),
        b"[" * 100_000,
        b'{"a":' + b"1" * 5000 + b"}",
    ],
)
def test_what_is_no_object(document: bytes) -> None:
    with pytest.raises(ControlError):
        read_object(document)


@pytest.mark.parametrize("value", [None, "", "x" * 257, 1, True, ["x"], {}, "a\nb", "a\x00"])
def test_what_is_no_text(value: object) -> None:
    with pytest.raises(ControlError, match="/a ") as caught:
        read_object(json.dumps({"a": value}).encode()).text("a")
    assert "x" * 257 not in str(caught.value)


@pytest.mark.parametrize("value", [None, -1, True, "1", LAST_INSTANT + 1, 2**53])
def test_what_is_no_instant(value: object) -> None:
    with pytest.raises(ControlError, match="/a "):
        read_object(json.dumps({"a": value}).encode()).instant("a")


def test_lists_are_bounded() -> None:
    for take in ("objects", "texts"):
        with pytest.raises(ControlError, match="up to 1"):
            getattr(read_object(b'{"a": ["x", "y"]}'), take)("a", most=1)
    with pytest.raises(ControlError, match="/a/0 is not an object"):
        read_object(b'{"a": ["x"]}').objects("a", most=1)
    with pytest.raises(ControlError, match="list of texts"):
        read_object(b'{"a": [1]}').texts("a", most=1)


def test_a_raw_text_is_anything_of_a_length() -> None:
    assert read_object(b'{"a": "\\n"}').raw_text("a", most=1) == "\n"
    with pytest.raises(ControlError):
        read_object(b'{"a": "xx"}').raw_text("a", most=1)


@given(st.binary(max_size=60) | st.text('{}[]",:0123456789.eabnul ', max_size=40).map(str.encode))
def test_property_any_bytes_are_an_object_or_a_control_error(document: bytes) -> None:
    try:
        members = read_object(document)
        members.end()
    except ControlError:
        pass


def test_objects_by_anybody_s_names() -> None:
    members = read_object(b'{"a": {"x y": {"b": 1}}, "c": {"d": [1]}, "e": {"f": 2}}')
    named = members.named("a", most=1)
    assert named["x y"].integer("b") == 1
    named["x y"].end()
    assert members.free_object("c") == {"d": [1]}
    assert members.free_object("absent") == {}
    inner = members.optional_object("e")
    assert inner is not None
    assert inner.integer("f") == 2
    assert members.optional_object("absent") is None
    members.end()


@pytest.mark.parametrize("value", [None, [], "x", {"": {}}, {"a\n": {}}, {"a": 1}, {"x" * 257: {}}, {"a": {}, "b": {}}])
def test_what_is_no_object_of_objects(value: object) -> None:
    with pytest.raises(ControlError, match="/a"):
        read_object(json.dumps({"a": value}).encode()).named("a", most=1)


def test_objects_that_hold_anything() -> None:
    members = read_object(b'{"a": [{"b": [1]}, {}], "c": [1], "d": [{}, {}]}')
    assert members.free_objects("a", most=2) == [{"b": [1]}, {}]
    with pytest.raises(ControlError, match="/c is not a list of objects"):
        members.free_objects("c", most=2)
    with pytest.raises(ControlError, match="/d is not a list of up to 1"):
        members.free_objects("d", most=1)


def test_what_is_no_free_object() -> None:
    with pytest.raises(ControlError, match="/a is not an object"):
        read_object(b'{"a": [1]}').free_object("a")
    with pytest.raises(ControlError, match="/a is not an object"):
        read_object(b'{"a": [1]}').optional_object("a")
