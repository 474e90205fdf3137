"""What a gateway holds, told to the control plane: a lease that runs out by itself (contracts section 5)."""

from collections.abc import Sequence
from typing import Final, NamedTuple
from urllib.parse import quote

from control_client.members import read_object
from control_client.session import ControlSession

MAX_SUPERSEDED: Final = 100_000
MAX_ANSWER_BYTES: Final = 8 * 1024 * 1024


class HeldSandbox(NamedTuple):
    """A sandbox of a gateway: by a tunnel (tunnel_epoch in unix milliseconds), or by streams alone (None).

    revision is that of the plan in force, None where there is none yet.
    """

    sandbox_id: str
    tunnel_epoch: int | None
    revision: int | None


class LeaseAnswer(NamedTuple):
    """How long the lease holds, and whose tunnels here are outlived by a newer one elsewhere."""

    expires_in_seconds: int
    superseded: tuple[str, ...]


async def put_lease(
    session: ControlSession, gateway_id: str, *, epoch: int, admin_url: str, sandboxes: Sequence[HeldSandbox]
) -> LeaseAnswer:
    """Report what is held; raises ControlError."""
    document = {
        "epoch": epoch,
        "adminUrl": admin_url,
        "sandboxes": [_entry(held) for held in sandboxes],
        "planRevisions": {held.sandbox_id: held.revision for held in sandboxes if held.revision is not None},
    }
    path = f"/internal/gateways/{quote(gateway_id, safe='')}/lease"
    answer = await session.ask("lease", "PUT", path, document=document, most_bytes=MAX_ANSWER_BYTES)
    members = read_object(answer.body)
    expires_in_seconds = members.integer("expiresInSeconds", least=1, most=3600)
    superseded = tuple(members.texts("superseded", most=MAX_SUPERSEDED))
    members.end()
    return LeaseAnswer(expires_in_seconds, superseded)


def _entry(held: HeldSandbox) -> dict[str, object]:
    if held.tunnel_epoch is None:
        return {"sandboxId": held.sandbox_id, "tunnel": False}
    return {"sandboxId": held.sandbox_id, "tunnel": True, "tunnelEpoch": held.tunnel_epoch}
