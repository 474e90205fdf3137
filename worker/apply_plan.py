"""The steps of an application, in their order. Each may run again after a crash and does the same once more.

The far side of every step is idempotent: writing the revision that is in force changes nothing, a gateway tells what it
applied, a set-up of the same digest is not applied twice. What can pass by waiting is tried again until the step's
time is over; what cannot ends the application.
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

_log = structlog.get_logger(__name__)


class StepFailed(Exception):
    """A step cannot succeed, ever; str() says why and what to do."""


class NotYet(Exception):
    """A step may succeed later; str() says what it waits for."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTimes:
    """How long each step may wait, in seconds."""

    control: float
    gateways: float
    tunnel: float
    setup: float


class PlanApplication:
    """Run the steps of one application on its far side."""

    def __init__(
        self,
        application: Application,
        far_side: FarSide,
        times: StepTimes,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._application = application
        self._far_side = far_side
        self._times = times
        self._sleep = sleep

    async def run(self) -> None:
        """Run all steps and leave the application in an end state. Cancelling it says nothing to the application."""
        application = self._application
        application.move(ApplicationState.RUNNING)
        try:
            plan = await self._step("read_plan", self._times.control, self._read_plan)
            await self._step("write_plan", self._times.control, self._write_plan)
            await self._step("wait_for_gateways", self._times.gateways, self._wait_for_gateways)
            await self._set_up(plan)
        except StepFailed as failure:
            _log.warning("plan_application_failed", application=application.application_id, detail=str(failure))
            application.move(ApplicationState.FAILED)
            return
        application.move(ApplicationState.APPLIED)

    async def _set_up(self, plan: Mapping[str, object]) -> None:
        """Set up what the plan declares; a plan that declares nothing still takes away what an earlier one did."""
        if not any(plan.get(name) for name in SET_UP) and not await self._has_tunnel():
            for name in ("push_setup", "confirm_setup"):
                self._application.end(name, StepState.SKIPPED, "the plan sets nothing up in the sandbox")
            return
        try:
            document = setup_document(plan)
        except SetupError as error:
            raise StepFailed(f"the plan's set-up is refused: {error.issues[0]}") from None

        async def push() -> None:
            await self._far_side.push_setup(await self._tunnel_gateway(), self._application.sandbox_id, document)

        await self._step("push_setup", self._times.tunnel, push)
        await self._step("confirm_setup", self._times.setup, self._confirm_setup)

    async def _has_tunnel(self) -> bool:
        try:
            return bool(await self._tunnel_gateway())
        except NotYet:
            return False

    # The steps -------------------------------------------------------------------------------------

    async def _read_plan(self) -> Mapping[str, object]:
        """The document is checked again: nothing is applied whose digest does not say so."""
        application = self._application
        body = await self._far_side.stored_plan(application.sandbox_id, application.revision)
        try:
            plan = parse_plan(body)
        except PlanError as error:
            raise StepFailed(f"the stored plan is refused: {error.issues[0]}") from None
        if (plan.sandbox_id, plan.revision) != (application.sandbox_id, application.revision):
            raise StepFailed(f"the stored plan is revision {plan.revision} of {plan.sandbox_id}")
        return cast(Mapping[str, object], json.loads(body))

    async def _write_plan(self) -> None:
        await self._far_side.put_in_force(self._application.sandbox_id, self._application.revision)

    async def _wait_for_gateways(self) -> None:
        """Applied is what every gateway with a live lease that holds the sandbox reports."""
        wanted = self._application.revision
        placed = await self._far_side.placement(self._application.sandbox_id)
        behind = [each.gateway_id for each in placed if each.revision is None or each.revision < wanted]
        if behind:
            raise NotYet(f"waiting for {', '.join(sorted(behind))} to apply revision {wanted}")

    async def _tunnel_gateway(self) -> str:
        for each in await self._far_side.placement(self._application.sandbox_id):
            if each.has_tunnel:
                return each.admin_url
        raise NotYet("no gateway has a tunnel of this sandbox; start sandboxd in it")

    async def _confirm_setup(self) -> None:
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

    async def _step[T](self, name: str, seconds: float, run: Callable[[], Awaitable[T]]) -> T:
        """Try a step until it succeeds, fails for good, or its time is over."""
        application = self._application
        pause = FIRST_PAUSE_SECONDS
        try:
            async with asyncio.timeout(seconds):
                while True:
                    application.begin(name)
                    try:
                        done = await run()
                    except NotYet as waiting:
                        application.note(name, str(waiting))
                        await self._sleep(pause * random.uniform(0.5, 1.0))
                        pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
                    else:
                        application.end(name, StepState.DONE)
                        return done
        except TimeoutError:
            waited_for = application.steps[name].issue or "an answer"
            failure = f"not within {seconds:g} s: {waited_for}"
        except StepFailed as error:
            failure = str(error)
        application.end(name, StepState.FAILED, failure)
        raise StepFailed(failure)


def _first_issue(status: Mapping[str, object]) -> str:
    steps = status.get("steps")
    for step in steps if isinstance(steps, list) else ():
        if isinstance(step, Mapping) and step.get("issue"):
            return f"{step.get('name')}: {step.get('issue')}"
    return "no step says why"
