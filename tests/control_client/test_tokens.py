"""Tokens for tunnels."""

import json
from pathlib import Path

import pytest

from control_client.errors import ControlError
from control_client.tokens import issue_tokens
from tests.support.control_sessions import control_session
from tests.support.fake_control import answer, refusal

PATH = "/internal/sandboxes/sbx_1/tokens"


async def test_tokens_are_issued(tmp_path: Path) -> None:
    async with control_session(tmp_path) as (fake, session, counts):
        issued = await issue_tokens(session, "sbx_1", "req_1", None, None)
        assert issued == ("token-of-sbx_1", 2_000_000_000, "renewal-token", 2_000_086_400)
        assert "token-of" not in repr(issued)
        await issue_tokens(session, "sbx_1", "req_2", "old-renewal-token", "sid_1")
        assert fake.bodies(PATH) == [
            {"requestId": "req_1"},
            {"requestId": "req_2", "renewalToken": "old-renewal-token", "sid": "sid_1"},
        ]
        assert counts == [("tokens", "ok"), ("tokens", "ok")]


@pytest.mark.parametrize("change", [{"requestId": "req_2"}, {"token": "a\nb"}, {"expiresAt": None}, {"more": 1}])
async def test_another_answer_is_none(tmp_path: Path, change: dict[str, object]) -> None:
    good = {"requestId": "req_1", "token": "t", "expiresAt": 1, "renewalToken": "r", "renewalExpiresAt": 2}
    async with control_session(tmp_path) as (fake, session, _):
        fake.misbehave(PATH, answer(200, json.dumps(good | change).encode()))
        with pytest.raises(ControlError):
            await issue_tokens(session, "sbx_1", "req_1", None, None)


async def test_a_refused_renewal_is_permanent(tmp_path: Path) -> None:
    async with control_session(tmp_path) as (fake, session, _):
        fake.misbehave(PATH, refusal(403, "renewal_refused"))
        with pytest.raises(ControlError) as caught:
            await issue_tokens(session, "sbx_1", "req_1", "used-before", None)
        assert (caught.value.code, caught.value.temporary) == ("renewal_refused", False)
