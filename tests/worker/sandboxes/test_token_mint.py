"""The tokens of a new sandboxd, asked of a control plane."""

from collections.abc import Mapping

import pytest

from worker.apply_plan import NotYet, StepFailed
from worker.sandboxes.errors import SandboxError
from worker.sandboxes.token_mint import TokenMint


class Answering:
    """A far side that answers what the test says."""

    def __init__(self, answer: Mapping[str, object] | Exception) -> None:
        self._answer = answer

    async def tunnel_tokens(self, sandbox_id: str) -> Mapping[str, object]:
        if isinstance(self._answer, Exception):
            raise self._answer
        return {"of": sandbox_id, **self._answer}


async def test_both_tokens() -> None:
    tokens = await TokenMint(Answering({"token": "a", "renewalToken": "b", "expiresAt": 1})).mint("sbx_one")
    assert (tokens.token, tokens.renewal_token) == ("a", "b")


@pytest.mark.parametrize(
    "answer", [{"token": "a"}, {"token": 1, "renewalToken": "b"}, NotYet("away"), StepFailed("404")]
)
async def test_no_tokens(answer: Mapping[str, object] | Exception) -> None:
    with pytest.raises(SandboxError, match="no token for sbx_one"):
        await TokenMint(Answering(answer)).mint("sbx_one")
