"""The service token: read when it changes, and when it is refused."""

import base64
import json
import os
from pathlib import Path

import pytest

from control_client.errors import TOKEN_UNREADABLE, ControlError
from control_client.service_token import ServiceToken
from sallyport.wire.compact_token import MAX_TOKEN_BYTES


async def test_a_replaced_file_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("one\n")
    token = ServiceToken(path)
    assert await token.current() == "one"
    (tmp_path / "new").write_text("two\n")
    os.replace(tmp_path / "new", path)
    assert await token.current() == "two"
    assert "two" not in repr(token)


async def test_a_refused_token_is_read_again_whatever_the_file_says(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("one")
    token = ServiceToken(path)
    assert await token.current() == "one"
    status = path.stat()
    path.write_text("two")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))  # the same inode, time and size
    assert await token.current(again=True) == "two"
    assert await token.current() == "two"


def jwt(payload: object) -> str:
    parts = (json.dumps(part).encode() for part in ({"alg": "EdDSA"}, payload))
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in (*parts, b"signature"))


@pytest.mark.parametrize(
    ("content", "ends_at"),
    [
        (jwt({"exp": 1_800_000_000}), 1_800_000_000.0),
        (jwt({}), None),
        (jwt({"exp": True}), None),
        (jwt({"exp": "soon"}), None),
        (jwt([1]), None),
        ("opaque", None),
    ],
)
async def test_when_it_ends_is_what_it_says(tmp_path: Path, content: str, ends_at: float | None) -> None:
    (tmp_path / "token").write_text(content)
    token = ServiceToken(tmp_path / "token")
    assert token.ends_at is None
    await token.current()
    assert token.ends_at == ends_at


@pytest.mark.parametrize("content", [b"", b"\n", b"a b", b"a\nb", b"\xff", b"a\x00", b"x" * (MAX_TOKEN_BYTES + 1)])
async def test_what_is_no_token(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "token").write_bytes(content)
    with pytest.raises(ControlError, match="holds no token") as caught:
        await ServiceToken(tmp_path / "token").current()
    assert (caught.value.code, caught.value.temporary) == (TOKEN_UNREADABLE, True)


async def test_a_file_that_is_away_may_come_back(tmp_path: Path) -> None:
    token = ServiceToken(tmp_path / "token")
    with pytest.raises(ControlError, match="cannot be read"):
        await token.current()
    (tmp_path / "token").write_text("one")
    assert await token.current() == "one"
