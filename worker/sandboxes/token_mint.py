"""The tokens of a new sandboxd, asked of the control plane."""

from collections.abc import Mapping
from typing import Protocol

from worker.apply_plan import NotYet, StepFailed
from worker.sandboxes.errors import failed
from worker.sandboxes.provider import TunnelTokens


class Mints(Protocol):
    """Who asks the control plane (worker.far_side)."""

    async def tunnel_tokens(self, sandbox_id: str) -> Mapping[str, object]:
        """Return `{token, renewalToken, ...}`; raises NotYet, StepFailed."""


class TokenMint:
    """Asks for a sandbox's tokens. That sandbox has to be known to the control plane."""

    def __init__(self, far_side: Mints) -> None:
        self._far_side = far_side

    async def mint(self, sandbox_id: str) -> TunnelTokens:
        """Return fresh tokens; raises SandboxError."""
        try:
            document = await self._far_side.tunnel_tokens(sandbox_id)
        except (NotYet, StepFailed) as error:
            raise failed(f"no token for {sandbox_id}: {error}") from None
        match document:
            case {"token": str(token), "renewalToken": str(renewal_token)}:
                return TunnelTokens(token=token, renewal_token=renewal_token)
            case _:
                raise failed(f"no token for {sandbox_id}: the control plane's tokens cannot be read")
