"""The plans that were applied against those that gateways report."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from control_client.errors import ControlError
from worker.apply_plan import NotYet, StepFailed
from worker.durable.database import DatabaseUnavailable
from worker.reconciliation import CannotTell, NotRepaired


class PlanRevisions:
    """The sandboxes whose plans were applied last, where a gateway holds them."""

    name: Final = "plan_revisions"
    is_local: Final = False

    def __init__(
        self,
        applied: Callable[[], Awaitable[Mapping[str, int]]],
        reported: Callable[[], Awaitable[Mapping[str, int]]],
        put_in_force: Callable[[str, int], Awaitable[None]],
    ) -> None:
        """Applied and reported return revisions by sandbox and raise DatabaseUnavailable, ControlError.

        put_in_force is a far side's: it raises StepFailed where a newer one is in force.
        """
        self._applied = applied
        self._reported = reported
        self._put_in_force = put_in_force
        self._lowest: Mapping[str, int] = {}
        # What was put in force once more, and did not help yet.
        self._tried: dict[str, str | None] = {}

    async def actual(self) -> Mapping[str, str]:
        """Return the lowest revision that a gateway reports of each sandbox; raises CannotTell."""
        try:
            self._lowest = await self._reported()
        except ControlError as error:
            raise CannotTell(str(error)) from None
        # Of those that nobody applied here, declared() says the same.
        return {sandbox_id: str(revision) for sandbox_id, revision in self._lowest.items()}

    async def declared(self) -> Mapping[str, str]:
        """Return what was applied, or what is newer than that; raises CannotTell."""
        try:
            applied = await self._applied()
        except DatabaseUnavailable as error:
            raise CannotTell(str(error)) from None
        declared = {
            sandbox_id: str(max(revision, applied.get(sandbox_id, revision)))
            for sandbox_id, revision in self._lowest.items()
        }
        behind = {each for each, revision in self._lowest.items() if declared[each] != str(revision)}
        self._tried = {each: revision for each, revision in self._tried.items() if each in behind}
        return declared

    async def repair(self, item: str, declared: str | None, actual: str | None) -> None:
        """Put the revision in force once more: a restored control plane may not know it. Raises NotRepaired."""
        if self._tried.get(item) == declared:
            raise NotRepaired(f"revision {declared} is in force, and a gateway still reports {actual}")
        try:
            await self._put_in_force(item, int(declared or 0))
        except (NotYet, StepFailed) as error:
            raise NotRepaired(str(error)) from None
        self._tried[item] = declared

    def __repr__(self) -> str:
        return "<PlanRevisions>"
