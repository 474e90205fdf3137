"""What a worker runs, told to the control plane as a lease; and what it is to have installed."""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple
from urllib.parse import quote

from control_client.members import read_object
from control_client.session import ControlSession

MAX_ANSWER_BYTES: Final = 64 * 1024
MAX_DECLARED_BYTES: Final = 4 * 1024 * 1024
MAX_GATEWAYS_BYTES: Final = 8 * 1024 * 1024
# What one report may hold; the control plane refuses more.
MAX_SERVERS: Final = 1_000
MAX_TOOLS: Final = 1_000
MAX_TOOL_NAME: Final = 256
MAX_GATEWAYS: Final = 10_000


class RunningServer(NamedTuple):
    """An integration server of a worker; sandbox_id of one that a single sandbox's plan had installed."""

    server_id: str
    tier: str
    status: str
    tools: Sequence[str]
    sandbox_id: str | None = None


async def put_worker(
    session: ControlSession,
    worker_id: str,
    *,
    epoch: int,
    api_url: str,
    front_url: str | None,
    servers: Sequence[RunningServer],
) -> int:
    """Report what runs, and return for how many seconds that is believed; raises ControlError."""
    document: dict[str, object] = {
        "epoch": epoch,
        "apiUrl": api_url,
        "servers": [_entry(server) for server in servers[:MAX_SERVERS]],
    }
    document |= {} if front_url is None else {"frontUrl": front_url}
    answer = await session.ask("worker", "PUT", _path(worker_id), document=document, most_bytes=MAX_ANSWER_BYTES)
    members = read_object(answer.body)
    seconds = members.integer("expiresInSeconds", least=1, most=3600)
    members.end()
    return seconds


async def withdraw_worker(session: ControlSession, worker_id: str, epoch: int) -> None:
    """Take a worker out that ends; raises ControlError."""
    await session.ask("worker", "DELETE", f"{_path(worker_id)}?epoch={epoch}", most_bytes=MAX_ANSWER_BYTES)


async def declared_servers(session: ControlSession, worker_id: str) -> Sequence[Mapping[str, object]]:
    """Return what is to be installed on a worker, each as it came; raises ControlError."""
    answer = await session.ask("declared", "GET", f"{_path(worker_id)}/declared", most_bytes=MAX_DECLARED_BYTES)
    members = read_object(answer.body)
    found = members.free_objects("servers", most=MAX_SERVERS)
    members.end()
    return found


async def gateway_revisions(session: ControlSession) -> Mapping[str, int]:
    """Return the plan revision that each held sandbox has at every live gateway, the lowest; raises ControlError."""
    answer = await session.ask("gateways", "GET", "/internal/gateways", most_bytes=MAX_GATEWAYS_BYTES)
    lowest: dict[str, int] = {}
    for gateway in read_object(answer.body).objects("items", most=MAX_GATEWAYS):
        for sandbox_id, revision in gateway.free_object("planRevisions").items():
            if isinstance(revision, int):
                lowest[sandbox_id] = min(revision, lowest.get(sandbox_id, revision))
    return lowest


def _path(worker_id: str) -> str:
    return f"/internal/v1/workers/{quote(worker_id, safe='')}"


def _entry(server: RunningServer) -> dict[str, object]:
    # Of an unusual server the first tools are told, and those that have a name as others have.
    tools = [name for name in server.tools if 0 < len(name) <= MAX_TOOL_NAME][:MAX_TOOLS]
    entry: dict[str, object] = {"serverId": server.server_id, "tier": server.tier, "status": server.status}
    entry["tools"] = tools
    return entry | ({} if server.sandbox_id is None else {"sandboxId": server.sandbox_id})
