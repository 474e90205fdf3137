"""The key set, as bytes."""

import json
from pathlib import Path

import pytest

from control_client.errors import ControlError
from control_client.keys import MAX_JWKS_BYTES, fetch_jwks
from tests.support.control_sessions import control_session
from tests.support.fake_control import answer


async def test_the_document_comes_as_it_is(tmp_path: Path) -> None:
    async with control_session(tmp_path) as (fake, session, counts):
        assert json.loads(await fetch_jwks(session)) == {"keys": fake.keys}
        assert counts == [("keys", "ok")]


async def test_a_huge_one_is_not_read(tmp_path: Path) -> None:
    async with control_session(tmp_path) as (fake, session, _):
        fake.misbehave("/.well-known/jwks.json", answer(200, b" " * (MAX_JWKS_BYTES + 1)))
        with pytest.raises(ControlError, match="more than"):
            await fetch_jwks(session)
