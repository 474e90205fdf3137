import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.api.parts import decode_cursor, encode_cursor, page
from control_plane.refusals import Refused


@given(st.text(alphabet="abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.", max_size=128))
def test_a_cursor_comes_back_as_the_id_it_stands_for(last_id: str) -> None:
    assert decode_cursor(encode_cursor(last_id)) == last_id


@given(st.text(max_size=50))
def test_a_cursor_of_somebody_else_s_is_refused_or_harmless(cursor: str) -> None:
    with contextlib.suppress(Refused):
        assert decode_cursor(cursor).isprintable()


def test_a_page_has_a_cursor_only_when_more_comes() -> None:
    items = [{"id": "a"}, {"id": "b"}, {"id": "c"}]
    assert page(items, "id", 3) == {"items": items}
    first = page(items, "id", 2)
    assert first["items"] == items[:2]
    assert decode_cursor(str(first["nextCursor"])) == "b"
    assert page([], "id", 3) == {"items": []}


def test_a_control_character_is_no_cursor() -> None:
    with pytest.raises(Refused):
        decode_cursor("AAA")
