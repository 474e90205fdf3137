"""The steps of an application, in their order. Each may run again after a crash and does the same once more.

The far side of every step is idempotent under sandbox and revision: writing the revision that is in force changes
nothing, a gateway tells what it applied, a set-up of the same digest is not applied twice, and what is older than what
is there is refused. What can pass by waiting is tried again until the step's time is over; what cannot ends the
application.

Before every try the journal is written. That is the fence: the journal refuses who does not own the application any
more, because it was cancelled or another worker took over, and then nothing is asked of a far side.
"""

import asyncio
import json
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, cast

import structlog

from sallyport.plan.codec import PlanError, parse_plan
from sallyport.setup import SetupError, setup_document
from worker.application import Application, ApplicationState, StepState

# The first pause between two tries and the longest; jitter is a factor of 0.5 to 1.
FIRST_PAUSE_SECONDS: Final = 0.1
LONGEST_PAUSE_SECONDS: Final = 2.0

# What of a plan concerns the inside of the sandbox (sallyport/setup.py).
SET_UP: Final = ("artifacts", "workspaceSources", "runtimeClients", "mcpServers")

type JsonObject = dict[str, object]

_log = structlog.get_logger(__name__)


class StepFailed(Exception):
    """A step cannot succeed, ever; str() says why and what to do."""


class NotYet(Exception):
    """A step may succeed later; str() says what it waits for."""


class Skipped(Exception):
    """A step has nothing to do; str() says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """One gateway that holds the sandbox, and the revision it applied (None: none yet)."""

    gateway_id: str
    admin_url: str
    has_tunnel: bool
    revision: int | None


class FarSide(Protocol):
    """What the steps ask of the control plane and the gateways. Each raises StepFailed or NotYet."""

    async def stored_plan(self, sandbox_id: str, revision: int) -> bytes:
        """Return the plan document."""

    async def put_in_force(self, sandbox_id: str, revision: int) -> None:
        """Make that revision the sandbox's current one; StepFailed where a newer one is."""

    async def placement(self, sandbox_id: str) -> Sequence[Placed]:
        """Return the gateways that hold the sandbox now."""

    async def push_setup(self, admin_url: str, sandbox_id: str, document: bytes) -> None:
        """Hand the set-up document to the gateway that has the tunnel."""

    async def setup_status(self, admin_url: str, sandbox_id: str) -> Mapping[str, object]:
        """Return the last setup.status of the sandbox (contracts section 2)."""


class Integrations(Protocol):
    """The integration servers that this worker runs."""

    async def provide(self, sandbox_id: str, revision: int, servers: Sequence[Mapping[str, object]]) -> int:
        """Have those of a plan's mcpServers run that are ours, and return how many; raises StepFailed or NotYet.

        Asked again for the same revision it changes nothing. What an older revision had and this one has not may go.
        """


class Journal(Protocol):
    """What of one application outlives this process."""

    async def once(self, name: str, step: Callable[[], Awaitable[JsonObject]]) -> JsonObject:
        """Run a step to its end, or return what it returned when it ended before."""

    async def read(self) -> Sequence[JsonObject]:
        """Return the steps as they were written last; only within a step."""

    async def write(self, steps: Sequence[JsonObject]) -> None:
        """Keep the steps as they are now; only within a step. Raises where the application is no longer ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTimes:
    """How long each step may wait, in seconds."""

    control: float
    integrations: float
    gateways: float
    tunnel: float
    setup: float


class PlanApplication:
    """Run the steps of one application on its far side. `wall` tells unix seconds."""

    def __init__(
        self,
        application: Application,
        journal: Journal,
        far_side: FarSide,
        integrations: Integrations,
        times: StepTimes,
        *,
        wall: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._application = application
        self._journal = journal
        self._far_side = far_side
        self._integrations = integrations
        self._times = times
        self._wall = wall
        self._sleep = sleep
        self._digest: str | None = None
        self._document: Mapping[str, object] | None = None

    async def run(self) -> ApplicationState:
        """Run all steps and return the end that was reached. Cancelling it leaves the application to who goes on."""
        times = self._times
        try:
            self._digest = await self._step("read_plan", times.control, self._read_plan)
            await self._step("start_integrations", times.integrations, self._start_integrations)
            await self._step("write_plan", times.control, self._write_plan)
            await self._step("wait_for_gateways", times.gateways, self._wait_for_gateways)
            pushed = await self._step("push_setup", times.tunnel, self._push_setup)
            await self._step("confirm_setup", times.setup, lambda: self._confirm_setup(pushed is not None))
        except StepFailed as failure:
            application = self._application.application_id
            _log.warning("plan_application_failed", application=application, detail=str(failure))
            return ApplicationState.FAILED
        return ApplicationState.APPLIED

    # The steps -------------------------------------------------------------------------------------

    async def _read_plan(self) -> str:
        """The document is checked again: nothing is applied whose digest does not say so."""
        application = self._application
        body = await self._far_side.stored_plan(application.sandbox_id, application.revision)
        try:
            plan = parse_plan(body)
        except PlanError as error:
            raise StepFailed(f"the stored plan is refused: {error.issues[0]}") from None
        if (plan.sandbox_id, plan.revision) != (application.sandbox_id, application.revision):
            raise StepFailed(f"the stored plan is revision {plan.revision} of {plan.sandbox_id}")
        if self._digest not in (None, plan.digest):
            raise StepFailed("the stored plan is another one than when this application began; apply a newer revision")
        self._document = cast(Mapping[str, object], json.loads(body))
        return plan.digest

    async def _plan(self) -> Mapping[str, object]:
        """Return the plan; after a restart it is read once more and has to be the same."""
        if self._document is None:
            await self._read_plan()
        assert self._document is not None
        return self._document

    async def _start_integrations(self) -> None:
        plan, application = await self._plan(), self._application
        servers = cast(Sequence[Mapping[str, object]], plan.get("mcpServers", ()))
        if not await self._integrations.provide(application.sandbox_id, application.revision, servers):
            raise Skipped("no MCP server of the plan is run by the worker")

    async def _write_plan(self) -> None:
        await self._far_side.put_in_force(self._application.sandbox_id, self._application.revision)

    async def _wait_for_gateways(self) -> None:
        """Applied is what every gateway with a live lease that holds the sandbox reports."""
        wanted = self._application.revision
        placed = await self._far_side.placement(self._application.sandbox_id)
        behind = [each.gateway_id for each in placed if each.revision is None or each.revision < wanted]
        if behind:
            raise NotYet(f"waiting for {', '.join(sorted(behind))} to apply revision {wanted}")

    async def _push_setup(self) -> str:
        """Set up what the plan declares; a plan that declares nothing still takes away what an earlier one did."""
        plan = await self._plan()
        if not any(plan.get(name) for name in SET_UP) and not await self._has_tunnel():
            raise Skipped("the plan sets nothing up in the sandbox")
        try:
            document = setup_document(plan)
        except SetupError as error:
            raise StepFailed(f"the plan's set-up is refused: {error.issues[0]}") from None
        await self._far_side.push_setup(await self._tunnel_gateway(), self._application.sandbox_id, document)
        return "pushed"

    async def _has_tunnel(self) -> bool:
        try:
            return bool(await self._tunnel_gateway())
        except NotYet:
            return False

    async def _tunnel_gateway(self) -> str:
        for each in await self._far_side.placement(self._application.sandbox_id):
            if each.has_tunnel:
                return each.admin_url
        raise NotYet("no gateway has a tunnel of this sandbox; start sandboxd in it")

    async def _confirm_setup(self, was_pushed: bool) -> None:
        if not was_pushed:
            raise Skipped("the plan sets nothing up in the sandbox")
        # Asked anew each time: the tunnel may have moved to another gateway meanwhile.
        gateway = await self._tunnel_gateway()
        status = await self._far_side.setup_status(gateway, self._application.sandbox_id)
        if status.get("revision") != self._application.revision:
            raise NotYet("the sandbox has not begun with this revision")
        match status.get("state"):
            case "applied":
                return
            case "failed":
                raise StepFailed(f"the set-up failed in the sandbox: {_first_issue(status)}")
            case state:
                raise NotYet(f"the set-up is {state}")

    # How a step is run -----------------------------------------------------------------------------

    async def _step(self, name: str, seconds: float, run: Callable[[], Awaitable[str | None]]) -> str | None:
        """Have a step run to its end, once; what it came to is kept. Raises StepFailed."""
        outcome = await self._journal.once(name, lambda: self._carry_out(name, seconds, run))
        if outcome["failure"] is not None:
            raise StepFailed(str(outcome["failure"]))
        return cast("str | None", outcome["value"])

    async def _carry_out(self, name: str, seconds: float, run: Callable[[], Awaitable[str | None]]) -> JsonObject:
        """Try a step until it succeeds, fails for good, or its time is over."""
        application = self._application
        application.restore(await self._journal.read())
        value: str | None = None
        state, issue = StepState.DONE, None
        try:
            value = await self._until_done(name, asyncio.get_running_loop().time() + seconds, run)
        except Skipped as reason:
            state, issue = StepState.SKIPPED, str(reason)
        except TimeoutError:
            waited_for = application.steps[name].issue or "an answer"
            state, issue = StepState.FAILED, f"not within {seconds:g} s: {waited_for}"
        except StepFailed as error:
            state, issue = StepState.FAILED, str(error)
        application.end(name, self._wall(), state, issue)
        await self._keep()
        return {"value": value, "failure": issue if state is StepState.FAILED else None}

    async def _until_done(self, name: str, deadline: float, run: Callable[[], Awaitable[str | None]]) -> str | None:
        """Try until it is done; raises TimeoutError at the deadline, and what is final of the step's own."""
        pause = FIRST_PAUSE_SECONDS
        while True:
            self._application.begin(name, self._wall())
            await self._keep()
            # What is written has no part in the deadline: a write that is given up may still overtake a later one.
            try:
                async with asyncio.timeout_at(deadline):
                    return await run()
            except NotYet as waiting:
                self._application.note(name, str(waiting))
            await self._keep()
            async with asyncio.timeout_at(deadline):
                await self._sleep(pause * random.uniform(0.5, 1.0))
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)

    async def _keep(self) -> None:
        await self._journal.write(self._application.step_documents())


def _first_issue(status: Mapping[str, object]) -> str:
    steps = status.get("steps")
    for step in steps if isinstance(steps, list) else ():
        if isinstance(step, Mapping) and step.get("issue"):
            return f"{step.get('name')}: {step.get('issue')}"
    return "no step says why"
