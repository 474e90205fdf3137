"""JSON objects, read strictly."""

import pytest

from sallyport.json_object import json_object


def test_an_object_is_read() -> None:
    assert json_object(b'{"a": 1, "b": 1.5e3}') == {"a": 1, "b": 1500.0}


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (b"", "Expecting value"),
        (b"[]", "not an object"),
        (b"1", "not an object"),
        (b'{"a":1,"a":1}', "twice"),
        (b'{"a":NaN}', "not JSON"),
        (b'{"a":1e999}', "too large"),
        (b'{"a":-1e999}', "too large"),
        (b"[" * 200_000, "nested"),
        (b"\xff", "decode"),
    ],
)
def test_anything_else_is_a_value_error(document: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        json_object(document)
