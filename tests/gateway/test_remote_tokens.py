"""Tunnel tokens of the control plane."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.remote_tokens import RemoteTokenIssuer
from gateway.renewal import RenewedTokens, TokenIssuer, TokenRenewalError
from tests.support.control_stage import ControlStage, control_stage
from tests.support.fake_control import refusal

PATH = "/internal/sandboxes/sbx_1/tokens"


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[ControlStage]:
    async with control_stage(tmp_path) as stage:
        yield stage


async def test_tokens_are_renewed(stage: ControlStage) -> None:
    issuer: TokenIssuer = RemoteTokenIssuer(stage.session)
    assert await issuer.renew("sbx_1", "req_1", "renewal", "sid_1") == RenewedTokens(
        token="token-of-sbx_1",
        expires_at=2_000_000_000,
        renewal_token="renewal-token",
        renewal_expires_at=2_000_086_400,
    )
    assert stage.control.bodies(PATH) == [{"requestId": "req_1", "renewalToken": "renewal", "sid": "sid_1"}]


@pytest.mark.parametrize(("status", "code", "temporary"), [(403, "renewal_refused", False), (503, "away", True)])
async def test_a_refusal_says_whether_to_ask_again(
    stage: ControlStage, status: int, code: str, temporary: bool
) -> None:
    stage.control.misbehave(PATH, refusal(status, code))
    with pytest.raises(TokenRenewalError) as caught:
        await RemoteTokenIssuer(stage.session).renew("sbx_1", "req_1", None, None)
    assert (caught.value.code, caught.value.temporary) == (code, temporary)
