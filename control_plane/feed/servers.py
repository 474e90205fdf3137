"""The servers of instances: tools that all of an instance's users share, and what one user has installed.

What is wanted is written first, so that a worker that is away, or dies over it, brings it about when it reads what is
declared for it; then the worker is asked, so that it happens now. What the worker refuses for good is not wanted then.
What is stopped or removed goes on running for a while, so that clients hear of it and end their calls first.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import orjson
import structlog

from control_plane.feed import instances
from control_plane.feed.keeping import LOOK_SECONDS, RUNNING, STOPPED, FeedKeeper
from control_plane.feed.merge import BUILT_IN_NAME, installation_name
from control_plane.feed.tiers import TIERS, Tier
from control_plane.ids import new_id
from control_plane.refusals import ControlCode, FieldIssue, Refused
from control_plane.store import feed as rows
from control_plane.store import workers as worker_rows
from control_plane.store.database import AlreadyExists, Database, DatabaseUnavailable, Transaction
from control_plane.store.models import InstanceServer
from control_plane.worker_caller import WorkerCaller
from control_plane.workers import DeclaredServer, Workers

# Of one instance, and of one of its users. With the servers of sandboxes that is below what a client takes.
MAX_SHARED: Final = 200
MAX_OF_USER: Final = 200
# Parts of names that are ours.
_SEPARATOR: Final = "__"
# What will be so the next time too: nothing is left of an installation that ends like this.
_FOR_GOOD: Final = frozenset(
    {ControlCode.MCP_SERVER_REFUSED, ControlCode.MCP_SERVER_NOT_FOUND, ControlCode.MCP_SERVER_FAILED}
)
# The worker does it by itself, or does it already.
_LATER: Final = frozenset({ControlCode.WORKER_UNAVAILABLE, ControlCode.MCP_SERVER_CONFLICT})
# What is known of a server whose worker has not reported it yet.
PENDING: Final = "pending"

_log = structlog.get_logger(__name__)


class Order(NamedTuple):
    """What is to be installed, as a worker's own install request has it."""

    source: str | dict[str, object]
    arguments: Sequence[str]
    environment: dict[str, str]
    secrets: dict[str, dict[str, object]]


class ServerDesk:
    """Makes, starts, stops and removes them."""

    def __init__(
        self,
        database: Database,
        workers: Workers,
        caller: WorkerCaller,
        keeper: FeedKeeper,
        now: Callable[[], float],
        *,
        linger_seconds: float,
    ) -> None:
        self._database = database
        self._workers = workers
        self._caller = caller
        self._keeper = keeper
        self._now = now
        self._linger_seconds = linger_seconds
        workers.declares.append(self.declared)

    async def share(
        self,
        instance_id: str,
        tool_id: str,
        tier: Tier,
        order: Order,
        *,
        worker_id: str | None,
        is_wanted: bool,
        now: float,
    ) -> dict[str, object]:
        """Have a tool installed for all users of an instance, and started. Raises Refused."""
        _refuse_name("/toolId", tool_id)
        server_id = new_id("stl", now)
        return await self._make(
            instance_id, server_id, tool_id, None, tool_id, tier, order, worker_id, is_wanted=is_wanted, now=now
        )

    async def install(
        self, instance_id: str, tool_id: str, user_id: str, order: Order, *, worker_id: str | None, now: float
    ) -> dict[str, object]:
        """Have a tool installed for one user, and started. Raises Refused."""
        _refuse_name("/toolId", tool_id)
        _refuse_name("/userId", user_id)
        server_id = new_id("inl", now)
        name = installation_name(tool_id, user_id, server_id)
        return await self._make(
            instance_id, server_id, tool_id, user_id, name, Tier.STANDARD, order, worker_id, is_wanted=True, now=now
        )

    async def start(self, server_id: str, now: float) -> dict[str, object]:
        """Have a server run, now and after every restart of its worker. Raises Refused."""
        row = await self._want(server_id, RUNNING, now)
        await self._ask_to_run(row, now)
        return await self.get(server_id)

    async def stop(self, server_id: str, now: float, *, at_once: bool = False) -> dict[str, object]:
        """Have a server not run; it is served no more from here on, and lingers unless `at_once`. Raises Refused."""
        row = await self._want(server_id, STOPPED, now)
        if at_once:
            await self._let_go(row)
        return await self.get(server_id)

    async def remove(self, server_id: str, now: float, *, at_once: bool = False) -> None:
        """Take a server away; it is served no more from here on, and lingers unless `at_once`. Raises Refused."""
        async with self._database.write() as tx:
            row = await _found(tx, server_id, lock=True)
            row.removal, row.leaves_at = row.id, self._leaves_at(row, now)
            await self._keeper.bring_in_line(tx, row.instance_id)
        if at_once:
            await self._let_go(row)

    async def get(self, server_id: str, tiers: Sequence[Tier] = TIERS) -> dict[str, object]:
        """Return one server, of one of these tiers. Raises Refused."""
        async with self._database.read() as tx:
            row = await _found(tx, server_id, tiers)
            return _document(row, await _status(tx, row))

    async def page_shared(
        self, instance_id: str, tiers: Sequence[Tier], after: str, limit: int
    ) -> list[dict[str, object]]:
        """Return the shared tools of an instance by id, after one. Raises Refused."""
        async with self._database.read() as tx:
            await instances.found(tx, instance_id)
            found = await rows.list_shared(tx, instance_id, tiers, after, limit)
            return [_document(each, await _status(tx, each)) for each in found]

    async def page_installed(
        self, instance_id: str, user_id: str | None, after: str, limit: int
    ) -> list[dict[str, object]]:
        """Return what users of an instance have installed, or one of them, by id, after one. Raises Refused."""
        async with self._database.read() as tx:
            await instances.found(tx, instance_id)
            found = await rows.list_installed(tx, instance_id, user_id, after, limit)
            return [_document(each, await _status(tx, each)) for each in found]

    async def declared(self, tx: Transaction, worker_id: str) -> Sequence[DeclaredServer]:
        """Return what a worker is to have."""
        now = self._now()
        found = await rows.servers_at(tx, worker_id)
        return [_declared(row, now) for row in found if not row.removal or _lingers(row, now)]

    async def let_go(self) -> None:
        """Have those go whose time has come. Raises DatabaseUnavailable."""
        async with self._database.read() as tx:
            leaving = await rows.leaving(tx, self._now())
        for row in leaving:
            await self._let_go(row)

    async def run(self) -> None:
        """Do that again and again."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                await self.let_go()
            except DatabaseUnavailable:
                _log.warning("servers_database_unavailable")

    # ------------------------------------------------------------------------------------------------------------------

    async def _make(
        self,
        instance_id: str,
        server_id: str,
        tool_id: str,
        user_id: str | None,
        name: str,
        tier: Tier,
        order: Order,
        worker_id: str | None,
        *,
        is_wanted: bool,
        now: float,
    ) -> dict[str, object]:
        chosen, _ = await self._workers.find(worker_id)
        async with self._database.write() as tx:
            instance = await instances.found(tx, instance_id, lock=True)
            most = MAX_SHARED if user_id is None else MAX_OF_USER
            if await rows.count_servers(tx, instance_id, user_id) >= most:
                raise Refused(ControlCode.LIMIT_REACHED, f"delete one of the {most} first")
            row = InstanceServer(
                id=server_id,
                organization_id=instance.organization_id,
                instance_id=instance_id,
                name=name,
                tool_id=tool_id,
                user_id=user_id,
                tier=tier,
                source=orjson.dumps(order._asdict()).decode(),
                desired=RUNNING if is_wanted else STOPPED,
                worker_id=chosen,
                issue=None,
                removal="",
                leaves_at=None,
                created_at=int(now),
                updated_at=int(now),
            )
            try:
                await tx.add(row)
            except AlreadyExists:
                raise Refused(ControlCode.ALREADY_EXISTS, f"the instance has a tool {tool_id} already") from None
        is_done = await self._ask_to_install(row, now)
        shown = await self.get(server_id)
        if is_done and shown["status"] == PENDING:
            # The worker's report is on its way.
            shown["status"] = row.desired if "issue" not in shown else STOPPED
        return shown

    async def _ask_to_install(self, row: InstanceServer, now: float) -> bool:
        """Say whether it is installed; if not, its worker has still to do it."""
        try:
            await self._caller.install(row.worker_id, _declared(row, now))
        except Refused as refused:
            if refused.code in _FOR_GOOD:
                async with self._database.write() as tx:
                    await rows.forget_server(tx, row.id)
                raise
            if refused.code not in _LATER:
                raise
            _log.warning("server_not_installed_yet", server=row.id, code=refused.code.wire)
            return False
        if row.desired == RUNNING:
            # That it does not start is no reason to forget it: what it lacks may come.
            with contextlib.suppress(Refused):
                await self._ask_to_run(row, now)
        return True

    async def _ask_to_run(self, row: InstanceServer, now: float) -> None:
        failed: Refused | None = None
        try:
            await self._caller.start(row.worker_id, row.id)
        except Refused as refused:
            if refused.code in _LATER:
                _log.warning("server_not_started_yet", server=row.id, code=refused.code.wire)
                return
            failed = refused
        async with self._database.write() as tx:
            await rows.note_issue(tx, row.id, None if failed is None else failed.detail, now)
        if failed is not None:
            raise failed

    async def _want(self, server_id: str, desired: str, now: float) -> InstanceServer:
        async with self._database.write() as tx:
            row = await _found(tx, server_id, lock=True)
            if row.desired != desired:
                row.leaves_at = self._leaves_at(row, now) if desired == STOPPED else None
                row.desired, row.updated_at = desired, int(now)
            await self._keeper.bring_in_line(tx, row.instance_id)
        return row

    def _leaves_at(self, row: InstanceServer, now: float) -> int:
        return int(now + self._linger_seconds) if row.desired == RUNNING else row.leaves_at or int(now)

    async def _let_go(self, row: InstanceServer) -> None:
        """Have a worker stop or remove a server that lingers no more."""
        async with self._database.write() as tx:
            found = await rows.server(tx, row.id, lock=True)
            if found is None or found.leaves_at is None or found.removal != row.removal:
                return  # another replica was first, or it is wanted again
            found.leaves_at = None
            if found.removal:
                await tx.delete(found)
        try:
            if found.removal:
                await self._caller.remove(found.worker_id, found.id)
            else:
                await self._caller.stop(found.worker_id, found.id)
        except Refused as refused:
            # It is declared no more, or as stopped: its worker does it by itself.
            _log.warning("server_not_let_go_yet", server=found.id, code=refused.code.wire)


def not_found() -> Refused:
    """Return the refusal of a shared tool or an installation that is not there."""
    return Refused(ControlCode.MCP_SERVER_NOT_FOUND, "it was never installed, or was removed")


async def _found(
    tx: Transaction, server_id: str, tiers: Sequence[Tier] = TIERS, *, lock: bool = False
) -> InstanceServer:
    row = await rows.server(tx, server_id, lock=lock)
    if row is None or row.removal or row.tier not in tiers:
        raise not_found()
    return row


async def _status(tx: Transaction, row: InstanceServer) -> str:
    reported = await worker_rows.server(tx, row.worker_id, row.id)
    return PENDING if reported is None else reported.status


def _document(row: InstanceServer, status: str) -> dict[str, object]:
    ids: dict[str, object] = (
        {"sharedToolId": row.id} if row.user_id is None else {"installationId": row.id, "userId": row.user_id}
    )
    shown = ids | {
        "instanceId": row.instance_id,
        "toolId": row.tool_id,
        "name": row.name,
        "tier": row.tier,
        "workerId": row.worker_id,
        "desired": row.desired,
        "status": status,
    }
    shown |= {"issue": row.issue} if row.issue is not None else {}
    return shown | {"createdAt": row.created_at, "updatedAt": row.updated_at}


def _lingers(row: InstanceServer, now: float) -> bool:
    return row.leaves_at is not None and now < row.leaves_at


def _declared(row: InstanceServer, now: float) -> DeclaredServer:
    order = Order(**orjson.loads(row.source))
    return DeclaredServer(
        server_id=row.id,
        source=order.source,
        tier=Tier(row.tier).value,
        desired="running" if row.desired == RUNNING or _lingers(row, now) else "stopped",
        arguments=order.arguments,
        environment=order.environment,
        secrets=order.secrets,
    )


def _refuse_name(pointer: str, text: str) -> None:
    """Refuse what could stand for another entry of a feed."""
    if _SEPARATOR in text or text == BUILT_IN_NAME:
        issue = FieldIssue("reserved_name", pointer, f"not {BUILT_IN_NAME}, and without {_SEPARATOR}")
        raise Refused(ControlCode.INVALID_REQUEST, "1 issues; nothing changed", issues=[issue])
