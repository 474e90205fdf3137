"""The place of a serving process, as text and back."""

from pathlib import Path

import pytest

from gateway.processes.place import Place

PLACE = Place(
    number=2,
    proxy=(7, 8),
    tunnel=(),
    admin_socket=Path("/run/one/2-1.sock"),
    audit_lock=Path("/run/one/lock"),
    settings_folder=Path("/etc/sallyport"),
    parent_addresses=(("127.0.0.1", 9900), ("::1", 9900)),
)


def test_it_comes_back_as_it_was() -> None:
    assert Place.from_text(PLACE.to_text()) == PLACE


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"number": "two"}'])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  it is the parent's own text; nobody reads the reason
        Place.from_text(text)
