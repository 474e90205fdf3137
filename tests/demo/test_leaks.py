"""The search for secrets finds what it claims to find, wherever in a text it stands."""

import base64
from pathlib import Path

import pytest

from demo.leaks import leaks, leaks_of_a_process

SECRET = "sk-canary-1234/5678+90"


@pytest.mark.parametrize("before", [b"", b"a", b"ab", b"abc"])
@pytest.mark.parametrize("after", [b"", b"z", b"zz", b"zzz"])
def test_base64_is_found_at_every_offset(before: bytes, after: bytes) -> None:
    whole = before + SECRET.encode() + after
    assert leaks(b"{" + base64.b64encode(whole) + b"}", [SECRET])
    assert leaks(b"{" + base64.urlsafe_b64encode(whole) + b"}", [SECRET])


@pytest.mark.parametrize(
    ("content", "spelling"),
    [
        (SECRET.encode(), "raw"),
        (SECRET.encode().hex().encode(), "hex"),
        (SECRET.encode().hex().upper().encode(), "HEX"),
        (b"?key=sk-canary-1234%2F5678%2B90", "percent"),
    ],
)
def test_other_spellings_are_named(content: bytes, spelling: str) -> None:
    assert leaks(b"...." + content + b"....", [SECRET]) == [spelling]


def test_innocent_content_is_clean() -> None:
    assert leaks(b"sk-canary-1234/5678+9", [SECRET]) == []


def test_a_process_is_searched_everywhere(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "cache").write_text(f"token={SECRET}")
    found = leaks_of_a_process({"KEY": SECRET}, [b"clean", SECRET.encode()], [tmp_path], (SECRET,))
    assert found == ["environment: raw", "output 1: raw", "cache: raw"]
