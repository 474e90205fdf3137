"""The serving processes together: what all of them know, which of them holds what, and how all of them are told.

Always: `state()` is what every change so far has led to. A change is put there and told to the processes that live in
one step, without an await between, so a process that starts meanwhile misses nothing and hears nothing twice.
"""

import asyncio
import functools
import json
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Final
from urllib.parse import quote

import orjson
import structlog

from gateway.admin.surface import ORGANIZATION_KINDS, REVOCATION_KINDS
from gateway.core.credential_cache import RevocationsFull
from gateway.core.plan_reach import takes_away
from gateway.core.route_table import RouteTable
from gateway.denials import Denials
from gateway.plan_holder import Applied, PlanHolder, PreparedPlan, is_quick
from gateway.processes.link import Answered, LinkError
from gateway.processes.serving_process import Lane, Order, ServingProcess
from gateway.processes.tally import Tally
from gateway.revocations import MAX_REVOCATIONS, RevocationLimitError, Revocations
from sallyport.net.tasks import TaskSet

# Waiting for a scrape of a process; then what it showed last is shown again.
SCRAPE_SECONDS: Final = 5.0
_OF_CREDENTIALS: Final = ORGANIZATION_KINDS

_log = structlog.get_logger(__name__)


class SharedPlans(PlanHolder):
    """The plans of all serving processes; on_withheld hears when they go out of force and come back."""

    def __init__(self, *, max_sandboxes: int, max_plan_bytes: int) -> None:
        super().__init__(max_sandboxes=max_sandboxes, max_plan_bytes=max_plan_bytes)
        self.is_withheld = False
        self.on_withheld: Callable[[bool], object] = lambda withheld: None
        # Whether the plan that on_replaced hears of takes something away.
        self.is_taking_away = False

    def commit(self, prepared: PreparedPlan, *, sandbox_id: str | None = None) -> Applied:
        """Put a compiled plan in force, as PlanHolder does."""
        before = self.document(prepared.table.sandbox_id)
        self.is_taking_away = before is not None and takes_away(before, prepared.document)
        return super().commit(prepared, sandbox_id=sandbox_id)

    def withhold(self) -> None:
        """Put every plan out of force, here and there."""
        super().withhold()
        self._note(withheld=True)

    def release(self) -> None:
        """Put in force again what was withheld."""
        super().release()
        self._note(withheld=False)

    def _note(self, *, withheld: bool) -> None:
        if self.is_withheld is not withheld:
            self.is_withheld = withheld
            self.on_withheld(withheld)


class HeldTunnels:
    """Who has a tunnel at which process; of several the one that was told of last is the current one."""

    def __init__(self, superseded: Callable[[int, str, int], None]) -> None:
        """superseded(number, sandbox_id, epoch) closes an outlived tunnel."""
        self._superseded = superseded
        self._at: dict[str, dict[int, int]] = {}  # sandbox, process, epoch; the newest process is the last
        self._subscribers: list[Callable[[str], None]] = []

    def process(self, sandbox_id: str) -> int | None:
        """Return the process that has the sandbox's current tunnel."""
        return next(reversed(self._at.get(sandbox_id, {})), None)

    def sandboxes(self) -> Iterator[tuple[str, int]]:
        """Yield every sandbox with a tunnel, and the newest epoch."""
        for sandbox_id, epochs in self._at.items():
            yield sandbox_id, max(epochs.values())

    def subscribe(self, callback: Callable[[str], None]) -> None:
        """Call callback(sandbox_id) after each change."""
        self._subscribers.append(callback)

    def opened(self, number: int, sandbox_id: str, epoch: int) -> None:
        """A process has a new tunnel; those that others have of the sandbox give way."""
        epochs = self._at.setdefault(sandbox_id, {})
        epochs.pop(number, None)
        for other, older in epochs.items():
            self._superseded(other, sandbox_id, older)
        epochs[number] = epoch
        self._tell(sandbox_id)

    def lost(self, number: int, sandbox_id: str) -> None:
        """A process has no tunnel of the sandbox any more."""
        epochs = self._at.get(sandbox_id, {})
        if epochs.pop(number, None) is not None:
            if not epochs:
                del self._at[sandbox_id]
            self._tell(sandbox_id)

    def gone(self, number: int) -> None:
        """A process has ended."""
        for sandbox_id in [sandbox_id for sandbox_id, epochs in self._at.items() if number in epochs]:
            self.lost(number, sandbox_id)

    def close_superseded(self, sandbox_id: str) -> None:
        """Another gateway has a newer tunnel of this sandbox."""
        for number, epoch in self._at.get(sandbox_id, {}).items():
            self._superseded(number, sandbox_id, epoch)

    def _tell(self, sandbox_id: str) -> None:
        for callback in self._subscribers:
            callback(sandbox_id)

    def __repr__(self) -> str:
        return f"<HeldTunnels of {len(self._at)} sandboxes>"


class HeldStreams:
    """Which sandboxes have streams at which process, a second old at most."""

    def __init__(self) -> None:
        self._at: dict[int, set[str]] = {}

    def sandboxes(self) -> Collection[str]:
        """Return every sandbox with an open stream, a tunnel among them."""
        return set().union(*self._at.values())

    def changed(self, number: int, held: Iterable[str], released: Iterable[str]) -> None:
        """A process holds more, or less."""
        here = self._at.setdefault(number, set())
        here.update(held)
        here.difference_update(released)

    def gone(self, number: int) -> None:
        """A process has ended."""
        self._at.pop(number, None)


class Fleet:
    """The serving processes, as their parent knows them. Used from the event loop only."""

    def __init__(
        self,
        plans: SharedPlans,
        tasks: TaskSet,
        *,
        denials: Denials,
        max_credential_revocations: int,
        now: Callable[[], float],
    ) -> None:
        """denials gets those of every process; now is unix time."""
        self.plans = plans
        # For tokens that this process itself is shown: those of its admin listener.
        self.revocations = Revocations()
        self.processes: Sequence[ServingProcess] = ()
        self.tunnels = HeldTunnels(self._close_tunnel)
        self.streams = HeldStreams()
        self.on_want_keys: Callable[[], None] = lambda: None
        self.tally = Tally()
        self._denials = denials
        self._tasks = tasks
        self._max_credential_revocations = max_credential_revocations
        self._now = now
        self._keys: bytes | None = None
        self._revoked: dict[tuple[str, str, str | None], float] = {}
        # Changes of plans are numbered (gateway.core.plan_turns); this is the last one.
        self._change = 0
        # The last change of each plan that the processes have been told of and not all have said to have taken: those
        # before it were taken before it, or are void.
        self._under_way: dict[str, asyncio.Future[list[Answered]]] = {}
        # Whose removal is among those.
        self._removing: set[str] = set()
        plans.on_replaced = self._plan_changed
        plans.on_withheld = lambda withheld: self._tell_all(_withheld(withheld=withheld))

    @property
    def is_serving(self) -> bool:
        """Whether every process accepts."""
        return all(process.is_serving for process in self.processes)

    # What all of them know ---------------------------------------------------------------------------

    def state(self) -> Iterable[Order]:
        """Return everything a new process has to know, what is out of service first."""
        now = self._now()
        self._revoked = {named: until for named, until in self._revoked.items() if until > now}
        yield from (_revocation(kind, name, until, whose) for (kind, name, whose), until in self._revoked.items())
        if self._keys is not None:
            yield Order("PUT", "/internal/keys", self._keys)
        if self.plans.is_withheld:
            yield _withheld(withheld=True)
        yield from (self._in_turn(table.sandbox_id) for table in self.plans.tables())

    def keys(self, document: bytes) -> None:
        """Put a key set in force."""
        self._keys = document
        self._tell_all(Order("PUT", "/internal/keys", document))

    def revoke(self, kind: str, revoked_id: str, until: float, organization_id: str | None = None) -> int:
        """Take something out of service, as gateway.running.Gateway.revoke; how many streams ended is not known yet."""
        self._tell_all(self._revocation(kind, revoked_id, until, organization_id))
        return 0

    async def revoke_everywhere(
        self, kind: str, revoked_id: str, until: float, organization_id: str | None = None
    ) -> int:
        """Take something out of service, and return how many open streams ended."""
        return _sum(await self._tell_all(self._revocation(kind, revoked_id, until, organization_id)), "streamsEnded")

    def invalidate(self, kind: str, identifier: str | None, organization_id: str | None = None) -> int:
        """Have credentials forgotten; how many is not known yet."""
        self._tell_all(_invalidation(kind, identifier, organization_id))
        return 0

    async def invalidate_everywhere(self, kind: str, identifier: str | None, organization_id: str | None = None) -> int:
        """Have credentials forgotten, and return how many there were."""
        return _sum(await self._tell_all(_invalidation(kind, identifier, organization_id)), "invalidated")

    async def settled(self, sandbox_id: str) -> None:
        """Wait until every process has taken the last that it was told of this sandbox's plan."""
        told = self._under_way.get(sandbox_id)
        if told is not None:
            await asyncio.wait([told])

    def _revocation(self, kind: str, revoked_id: str, until: float, organization_id: str | None) -> Order:
        """Note a revocation; raises RevocationLimitError or RevocationsFull, as one process would."""
        assert kind in REVOCATION_KINDS, "it was checked where it came from"
        named = (kind, revoked_id, organization_id)
        if named not in self._revoked:
            self._make_room(of_credentials=kind in _OF_CREDENTIALS)
        if kind not in _OF_CREDENTIALS:
            self.revocations.revoke(kind, revoked_id, until)
        until = self._revoked[named] = max(until, self._revoked.get(named, until))
        return _revocation(kind, revoked_id, until, organization_id)

    def _make_room(self, *, of_credentials: bool) -> None:
        most = self._max_credential_revocations if of_credentials else MAX_REVOCATIONS
        for attempt in range(2):
            number = sum((kind in _OF_CREDENTIALS) is of_credentials for kind, _, _ in self._revoked)
            if number < most:
                return
            if attempt == 0:
                now = self._now()
                self._revoked = {named: until for named, until in self._revoked.items() if until > now}
        if of_credentials:
            raise RevocationsFull(f"{most} connections and bindings are revoked")
        raise RevocationLimitError(f"{most} revocations are in force")

    def _plan_changed(self, sandbox_id: str, before: RouteTable | None, after: RouteTable | None) -> None:
        self._change += 1
        told = self._tell_all(self._in_turn(sandbox_id))
        # Its turn is behind every plan that still has to be compiled: what it takes away ends before that.
        target = f"/internal/ahead/{quote(sandbox_id, safe='')}?change={self._change}"
        if after is None:
            told = self._tell_all(Order("DELETE", target, lane=Lane.URGENT))
            self._removing.add(sandbox_id)
        elif before is not None and sandbox_id not in self._removing:
            document = self.plans.document(sandbox_id) or b""
            lane = _lane(is_taking_away=self.plans.is_taking_away, is_quick=is_quick(document))
            if lane is not Lane.IN_TURN:
                told = self._tell_all(Order("PUT", target, document, lane))
        self._under_way[sandbox_id] = told
        told.add_done_callback(functools.partial(self._taken, sandbox_id))

    def _taken(self, sandbox_id: str, told: asyncio.Future[list[Answered]]) -> None:
        if self._under_way.get(sandbox_id) is told:
            del self._under_way[sandbox_id]
            self._removing.discard(sandbox_id)

    def _in_turn(self, sandbox_id: str) -> Order:
        document = self.plans.document(sandbox_id)
        target = f"{_plan_target(sandbox_id)}?change={self._change}"
        return Order("DELETE", target) if document is None else Order("PUT", target, document)

    def _tell_all(self, order: Order) -> asyncio.Future[list[Answered]]:
        told = [process.tell(order) for process in self.processes]
        # Waited for by a task, so that whoever goes on without it can still be asked to wait for it later.
        return self._tasks.spawn(_all(told), name=f"{order.method} {order.target} for all")

    # What they say (gateway.processes.serving_process.Listening) -------------------------------------

    def reported(self, number: int, report: Mapping[str, object]) -> None:
        """Note what a process holds, or fetch what it lacks."""
        match report:
            case {"tunnel": str(sandbox_id), "epoch": int(epoch)}:
                self.tunnels.opened(number, sandbox_id, epoch)
            case {"tunnel": str(sandbox_id)}:
                self.tunnels.lost(number, sandbox_id)
            case {"held": list(ids)}:
                self.streams.changed(number, ids, ())
            case {"released": list(ids)}:
                self.streams.changed(number, (), ids)
            case {"denials": list(documents)}:
                for document in documents:
                    self._denials.keep(document["sandboxId"], orjson.dumps(document))
            case {"wantPlan": str(sandbox_id)}:
                self._tasks.spawn(self._fetch_for(number, sandbox_id), name=f"plan {sandbox_id} wanted")
            case {"wantKeys": True}:
                self.on_want_keys()

    def serves(self, number: int) -> None:
        """Nothing more to do: it knows everything."""

    def gone(self, number: int) -> None:
        """Forget what a process held; what it counted stays."""
        self.tunnels.gone(number)
        self.streams.gone(number)
        self.tally.died(number)

    async def _fetch_for(self, number: int, sandbox_id: str) -> None:
        wanted = self.plans.want(sandbox_id)
        if wanted is not None:
            await wanted
        # Behind the plan itself, if it has come: then this says nothing new.
        await self._process(number).tell(Order("POST", f"{_plan_target(sandbox_id)}/settled"))

    def _close_tunnel(self, number: int, sandbox_id: str, epoch: int) -> None:
        _log.info("tunnel_superseded", sandbox_id=sandbox_id, process=number)
        order = {"sandboxId": sandbox_id, "epoch": epoch}
        told = self._process(number).tell(Order("POST", "/internal/superseded", _document(order)))
        self._tasks.spawn(_all([told]), name=f"tunnel of {sandbox_id} superseded")

    def _process(self, number: int) -> ServingProcess:
        return self.processes[number - 1]

    # What they count ---------------------------------------------------------------------------------

    async def scrape(self, own: bytes) -> bytes:
        """Return the metrics of all processes and of this one, added."""
        async with asyncio.TaskGroup() as tasks:
            for process in self.processes:
                tasks.create_task(self._scrape(process), name=f"scrape of {process.number}")
        return self.tally.render(own)

    async def _scrape(self, process: ServingProcess) -> None:
        pid = process.process_id
        try:
            async with asyncio.timeout(SCRAPE_SECONDS):
                answered = await process.ask("GET", "/metrics")
            if process.process_id == pid:  # what one has counted that has died since is lost already
                self.tally.scraped(process.number, answered.body)
        except (LinkError, TimeoutError) as error:
            _log.info("process_not_scraped", number=process.number, detail=str(error))

    def __repr__(self) -> str:
        return f"<Fleet of {len(self.processes)}: {len(self.plans)} plans, {len(self._revoked)} revoked>"


def _plan_target(sandbox_id: str) -> str:
    return f"/internal/plans/{quote(sandbox_id, safe='')}"


def _lane(*, is_taking_away: bool, is_quick: bool) -> Lane:
    """Return what a plan that replaces another waits behind."""
    if is_taking_away:
        return Lane.AWAY if is_quick else Lane.AWAY_LARGE
    return Lane.AHEAD if is_quick else Lane.IN_TURN


def _document(members: Mapping[str, object]) -> bytes:
    return json.dumps(members).encode("utf-8")


def _withheld(*, withheld: bool) -> Order:
    return Order("POST", "/internal/plans-withheld", _document({"withheld": "yes" if withheld else "no"}))


def _revocation(kind: str, revoked_id: str, until: float, organization_id: str | None) -> Order:
    members = {"kind": kind, "id": revoked_id, "until": int(until)} | _of(organization_id)
    return Order("POST", "/v1/tokens/revoke", _document(members), Lane.URGENT)


def _invalidation(kind: str, identifier: str | None, organization_id: str | None) -> Order:
    members = ({"kind": kind} if identifier is None else {"kind": kind, "id": identifier}) | _of(organization_id)
    return Order("POST", "/v1/credentials/invalidate", _document(members), Lane.URGENT)


def _of(organization_id: str | None) -> dict[str, str]:
    return {} if organization_id is None else {"organizationId": organization_id}


async def _all(told: Sequence[Awaitable[Answered | None]]) -> list[Answered]:
    """Wait for every process; those that have gone give no answer."""
    answers = [await each for each in told]
    return [answer for answer in answers if answer is not None]


def _sum(answers: Iterable[Answered], member: str) -> int:
    return sum(int(json.loads(answer.body)[member]) for answer in answers)
