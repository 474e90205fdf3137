"""Queries on workers and the integration servers they run."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from sqlalchemy import delete, func, select

from control_plane.store.database import Transaction
from control_plane.store.models import Worker, WorkerServer


class ServerRow(NamedTuple):
    """What a worker reports of one server. tools is JSON, a list of names."""

    tier: str
    status: str
    tools: str
    sandbox_id: str | None


async def worker(tx: Transaction, worker_id: str, *, lock: bool = False) -> Worker | None:
    """Return a worker, whether or not it lives."""
    return await tx.get(Worker, worker_id, lock=lock)


async def locked(tx: Transaction, worker_id: str, state: str) -> Worker:
    """Return a worker for writing; one that was never there begins in a state, of no epoch and no lease."""
    values = {"epoch": 0, "api_url": "", "front_url": None, "state": state, "expires_at": 0}
    await tx.add_unless_there(Worker, worker_id=worker_id, **values)
    found = await tx.get(Worker, worker_id, lock=True)
    assert found is not None, "it was there, or was made"
    return found


async def servers_of(tx: Transaction, worker_id: str) -> Sequence[WorkerServer]:
    """Return what a worker reported last, by id."""
    query = select(WorkerServer).where(WorkerServer.worker_id == worker_id)
    return await tx.all(query.order_by(WorkerServer.server_id))


async def server(tx: Transaction, worker_id: str, server_id: str) -> WorkerServer | None:
    """Return one server as its worker reported it last."""
    return await tx.get(WorkerServer, (worker_id, server_id))


async def put_servers(tx: Transaction, worker_id: str, servers: Mapping[str, ServerRow]) -> None:
    """Replace what a worker runs; writes only what differs."""
    before = {row.server_id: row for row in await servers_of(tx, worker_id)}
    gone = [server_id for server_id in before if server_id not in servers]
    if gone:
        same = (WorkerServer.worker_id == worker_id, WorkerServer.server_id.in_(gone))
        await tx.run(delete(WorkerServer).where(*same))
    added = []
    for server_id, how in servers.items():
        row = before.get(server_id)
        if row is None:
            added.append(WorkerServer(worker_id=worker_id, server_id=server_id, **how._asdict()))
        elif (row.tier, row.status, row.tools, row.sandbox_id) != tuple(how):
            row.tier, row.status, row.tools, row.sandbox_id = how
    await tx.add_all(added)


async def known(tx: Transaction, states: Sequence[str]) -> Sequence[Worker]:
    """Return the workers in one of these states, by id."""
    return await tx.all(select(Worker).where(Worker.state.in_(states)).order_by(Worker.worker_id))


async def servers_of_all(tx: Transaction, states: Sequence[str]) -> Sequence[tuple[Worker, WorkerServer]]:
    """Return every server of the workers in one of these states, with its worker, in order of their ids."""
    query = select(Worker, WorkerServer).join(WorkerServer, WorkerServer.worker_id == Worker.worker_id)
    query = query.where(Worker.state.in_(states)).order_by(Worker.worker_id, WorkerServer.server_id)
    return [(row[0], row[1]) for row in await tx.rows(query)]


async def page(tx: Transaction, after: str, limit: int) -> Sequence[Worker]:
    """Return workers behind an id."""
    return await tx.all(select(Worker).where(Worker.worker_id > after).order_by(Worker.worker_id).limit(limit))


async def ran_out(tx: Transaction, state: str, now: float) -> Sequence[str]:
    """Return the ids of workers in a state whose lease has run out."""
    query = select(Worker.worker_id).where(Worker.state == state, Worker.expires_at <= int(now))
    return await tx.all(query.order_by(Worker.worker_id))


async def live_by_load(tx: Transaction, state: str, now: float) -> Sequence[Worker]:
    """Return the workers in a state whose lease holds, the one with the fewest servers first."""
    counted = func.count(WorkerServer.server_id)
    query = select(Worker).outerjoin(WorkerServer, WorkerServer.worker_id == Worker.worker_id)
    query = query.where(Worker.state == state, Worker.expires_at > int(now)).group_by(Worker.worker_id)
    return await tx.all(query.order_by(counted, Worker.worker_id))


async def forget_workers(tx: Transaction, states: Sequence[str], before: float) -> int:
    """Delete workers in one of these states whose lease ran out before an instant, with what they ran."""
    return await tx.run(delete(Worker).where(Worker.state.in_(states), Worker.expires_at < int(before)))
