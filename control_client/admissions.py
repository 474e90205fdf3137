"""Whether the holder of a client key may call a server at a worker's front, as the control plane decides."""

from typing import Final, NamedTuple
from urllib.parse import quote

from control_client.feed_state import Tier
from control_client.members import Members, read_object
from control_client.session import ControlSession

MAX_ANSWER_BYTES: Final = 16 * 1024
MAX_URL: Final = 2_048
_TIERS: Final = frozenset(tier.value for tier in Tier)


class SandboxPlace(NamedTuple):
    """A sandbox, and the admin listener of the gateway that has its tunnel."""

    sandbox_id: str
    admin_url: str


class AdmittedServer(NamedTuple):
    """What is called: at the worker that asks, or in a sandbox."""

    server_id: str
    sandbox: SandboxPlace | None


class Admission(NamedTuple):
    """Whose key it is; server is None where nothing of that name is there for them."""

    key_id: str
    tier: Tier
    server: AdmittedServer | None


async def ask_admission(session: ControlSession, worker_id: str, key_hash: str, name: str) -> Admission | None:
    """Ask about one call; None where the key opens nothing. Raises ControlError."""
    path = f"/internal/v1/workers/{quote(worker_id, safe='')}/admit"
    order = {"keyHash": key_hash, "name": name}
    answer = await session.ask("admission", "POST", path, document=order, most_bytes=MAX_ANSWER_BYTES)
    return read_admission(answer.body)


def read_admission(document: bytes) -> Admission | None:
    """Read an answer; raises ControlError."""
    members = read_object(document)
    key_id = members.optional_text("keyId")
    if key_id is None:
        members.end()
        return None
    tier = Tier(members.word("tier", _TIERS))
    server = members.optional_object("server")
    members.end()
    return Admission(key_id, tier, None if server is None else _server(server))


def _server(members: Members) -> AdmittedServer:
    server_id, sandbox_id = members.text("serverId"), members.optional_text("sandboxId")
    place = None if sandbox_id is None else SandboxPlace(sandbox_id, members.text("adminUrl", most=MAX_URL))
    members.end()
    return AdmittedServer(server_id, place)
