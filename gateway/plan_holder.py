"""The plans this gateway applies: one compiled RouteTable per sandbox, replaced whole.

A plan that is wrong changes nothing: the table before it stays. An exchange keeps the table it began with (T2), so
replacing one needs no lock and waits for nobody.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple, Protocol

import structlog

from gateway.core.plan_reach import takes_away
from gateway.core.request_limit import RequestLimit
from gateway.core.route_table import RouteTable
from sallyport.plan.codec import PlanError, parse_plan

# A plan of a hundred routes compiles in some 20 ms, which another may wait for; one of a thousand takes half a second.
QUICK_PLAN_BYTES: Final = 128 * 1024

_NOTHING: Final[dict[str, RouteTable]] = {}  # never written to

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """What apply did. changed is False when this very plan was in force already."""

    sandbox_id: str
    revision: int
    digest: str
    changed: bool


class PreparedPlan(NamedTuple):
    """A compiled plan and the document it was compiled from, byte for byte, so that its digest is the document's."""

    table: RouteTable
    document: bytes


class PlanConflict(Exception):
    """A good plan that may not replace what is there (409); str() says why and what to do."""


class PlanLimitError(Exception):
    """There is no room for another sandbox (503)."""


class PlanFilesError(Exception):
    """Plan files that cannot be used; .faults has a line for every fault of every file."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = tuple(faults)


class PlanSource(Protocol):
    """Where a plan that is not loaded can be had."""

    def want(self, sandbox_id: str) -> Awaitable[object] | None:
        """Begin to fetch a plan; the answer ends in time and never raises. None: there is nothing to wait for."""


class PlanHolder:
    """Hold the table of each sandbox; used from the event loop, save prepare().

    While it withholds, nothing is in force, though everything is kept: what is known has become too old to act on.
    """

    def __init__(
        self,
        *,
        max_sandboxes: int,
        max_plan_bytes: int,
        new_limit: Callable[[], RequestLimit | None] = lambda: None,
    ) -> None:
        """new_limit makes the operator's limit on a sandbox, once for each that comes."""
        self._new_limit = new_limit
        self._max_sandboxes = max_sandboxes
        self._max_plan_bytes = max_plan_bytes
        self._tables: dict[str, RouteTable] = {}
        # What table() looks at: the tables themselves, or nothing while they are withheld.
        self.in_force: dict[str, RouteTable] = self._tables
        self.source: PlanSource | None = None
        # Hears of each change first, with the table before it and the one after it, where there are any.
        self.on_replaced: Callable[[str, RouteTable | None, RouteTable | None], object] = lambda *change: None
        self._documents: dict[str, bytes] = {}
        # Each may take a second of a core and 50 MiB. A quick one must not wait for that, nor what takes something away
        # for hundreds that do not.
        self._compiling = {(away, quick): asyncio.Lock() for away in (False, True) for quick in (False, True)}
        self._subscribers: list[Callable[[str], None]] = []

    def table(self, sandbox_id: str) -> RouteTable | None:
        """Return the table in force. Hot path: a dict get."""
        return self.in_force.get(sandbox_id)

    def want(self, sandbox_id: str) -> Awaitable[object] | None:
        """Begin to fetch a plan that table() did not find; None where waiting cannot help."""
        if self.source is None or self.in_force is not self._tables:
            return None
        return self.source.want(sandbox_id)

    def withhold(self) -> None:
        """Put every plan out of force, and keep them."""
        self.in_force = _NOTHING

    def release(self) -> None:
        """Put in force again what was withheld."""
        self.in_force = self._tables

    @property
    def is_full(self) -> bool:
        """Whether another sandbox's plan would be refused."""
        return len(self._tables) >= self._max_sandboxes

    def loaded(self, sandbox_id: str) -> RouteTable | None:
        """Return a sandbox's table, in force or withheld."""
        return self._tables.get(sandbox_id)

    def tables(self) -> Collection[RouteTable]:
        """Return every table, in force or withheld."""
        return self._tables.values()

    def document(self, sandbox_id: str) -> bytes | None:
        """Return the document of the plan in force, as it came."""
        return self._documents.get(sandbox_id)

    def prepare(self, body: bytes) -> PreparedPlan:
        """Compile a plan document; raise PlanError with every issue. Changes nothing, so any thread may call it."""
        return PreparedPlan(RouteTable(parse_plan(body)), body)

    async def compile(self, body: bytes, sandbox_id: str) -> PreparedPlan:
        """Compile as prepare() does, on a thread: requests are served between the interpreter's switches.

        One plan at a time, and beside it one of the quick ones; and of either kind one that takes something away from
        this sandbox, so that what it takes away ends within a second.
        """
        quick = is_quick(body)
        turn = self._compiling[False, quick]
        if turn.locked() and self.takes_away(sandbox_id, body):
            turn = self._compiling[True, quick]
        async with turn:
            return await asyncio.to_thread(self.prepare, body)

    def takes_away(self, sandbox_id: str, document: bytes) -> bool:
        """Say whether a plan may end something that is open by the one that is loaded; as good as a glance is."""
        known = self._documents.get(sandbox_id)
        return known is not None and takes_away(known, document)

    def commit(self, prepared: PreparedPlan, *, sandbox_id: str | None = None) -> Applied:
        """Put a compiled plan in force; raise PlanConflict or PlanLimitError and keep the old one.

        sandbox_id is the sandbox the sender meant, if they said.
        """
        table = prepared.table
        if sandbox_id is not None and table.sandbox_id != sandbox_id:
            raise PlanConflict(
                f"the plan is for sandbox {table.sandbox_id}, not {sandbox_id}; send it to its own address"
            )
        known = self._tables.get(table.sandbox_id)
        if known is None and len(self._tables) >= self._max_sandboxes:
            raise PlanLimitError(f"{self._max_sandboxes} sandboxes have a plan already; raise limits.sandboxes")
        changed = known is None or _supersedes(table, known)
        if changed:
            if known is None or known.organization_id != table.organization_id:
                table.sandbox_limit = self._new_limit()
            else:
                table.succeed(known)
            self._tables[table.sandbox_id] = table
            self._documents[table.sandbox_id] = prepared.document
            _log.info("plan_applied", sandbox_id=table.sandbox_id, revision=table.revision, routes=len(table.routes))
            self.on_replaced(table.sandbox_id, known, table)
            self._tell(table.sandbox_id)
        return Applied(sandbox_id=table.sandbox_id, revision=table.revision, digest=table.digest, changed=changed)

    def apply(self, body: bytes, *, sandbox_id: str | None = None) -> Applied:
        """Compile a plan and put it in force; raise PlanError, PlanConflict or PlanLimitError."""
        return self.commit(self.prepare(body), sandbox_id=sandbox_id)

    def remove(self, sandbox_id: str) -> bool:
        """Forget a sandbox's plan, revision and all; say whether there was one."""
        known = self._tables.pop(sandbox_id, None)
        if known is None:
            return False
        del self._documents[sandbox_id]
        _log.info("plan_removed", sandbox_id=sandbox_id)
        self.on_replaced(sandbox_id, known, None)
        self._tell(sandbox_id)
        return True

    def subscribe(self, callback: Callable[[str], None]) -> None:
        """Call callback(sandbox_id) after each change, so that open streams may act on it."""
        self._subscribers.append(callback)

    def load_files(self, paths: Sequence[Path]) -> tuple[Applied, ...]:
        """Apply plan files, all or none; raise PlanFilesError naming every fault of every file."""
        faults: list[str] = []
        found: dict[str, tuple[Path, PreparedPlan]] = {}
        for path in paths:
            prepared = self._read(path, faults)
            if prepared is None:
                continue
            sandbox_id = prepared.table.sandbox_id
            if sandbox_id in found:
                faults.append(f"{path}: is for sandbox {sandbox_id}, as is {found[sandbox_id][0]}; keep one of the two")
            found.setdefault(sandbox_id, (path, prepared))
        faults += [fault for path, plan in found.values() if (fault := self._obstacle(path, plan.table)) is not None]
        if len(found.keys() | self._tables.keys()) > self._max_sandboxes:
            faults.append(f"the plans are for more than {self._max_sandboxes} sandboxes; raise limits.sandboxes")
        if faults:
            raise PlanFilesError(faults)
        return tuple(self.commit(prepared) for _, prepared in found.values())

    def __len__(self) -> int:
        return len(self._tables)

    def __repr__(self) -> str:
        return f"<PlanHolder {len(self._tables)} of {self._max_sandboxes} sandboxes>"

    def _read(self, path: Path, faults: list[str]) -> PreparedPlan | None:
        try:
            with path.open("rb") as file:
                body = file.read(self._max_plan_bytes + 1)
        except OSError as error:
            faults.append(f"{path}: cannot be read ({error.strerror}); correct the path or its permissions")
            return None
        if len(body) > self._max_plan_bytes:
            faults.append(f"{path}: is larger than {self._max_plan_bytes} bytes (limits.plan_bytes)")
            return None
        try:
            return self.prepare(body)
        except PlanError as error:
            faults += [f"{path}: {issue}" for issue in error.issues]
            return None

    def _obstacle(self, path: Path, table: RouteTable) -> str | None:
        known = self._tables.get(table.sandbox_id)
        try:
            if known is not None:
                _supersedes(table, known)
        except PlanConflict as conflict:
            return f"{path}: {conflict}"
        return None

    def _tell(self, sandbox_id: str) -> None:
        for callback in self._subscribers:
            callback(sandbox_id)


def is_quick(document: bytes) -> bool:
    """Say whether a plan compiles so quickly that it need not wait for those that do not."""
    return len(document) <= QUICK_PLAN_BYTES


def _supersedes(table: RouteTable, known: RouteTable) -> bool:
    """Say whether table is newer than known; raise PlanConflict where it may not replace it."""
    if table.revision > known.revision:
        return True
    if table.revision < known.revision:
        raise PlanConflict(
            f"revision {table.revision} is older than revision {known.revision}, which is in force; "
            "send a higher revision"
        )
    if table.digest != known.digest:
        raise PlanConflict(
            f"revision {table.revision} is in force with another digest; a changed plan needs a higher revision"
        )
    return False
