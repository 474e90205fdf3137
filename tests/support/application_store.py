"""Applications kept in memory, for tests of what is asked of them; they end when they are told to."""

from collections.abc import Sequence

from worker.application import Application, ApplicationState


class MemoryStore:
    """A `worker.applications.Store`. Every application runs as soon as it is begun."""

    def __init__(self) -> None:
        self.kept: dict[str, Application] = {}

    async def begin(self, application: Application) -> str:
        """Begin an application, unless one of its sandbox has not ended."""
        for each in self.kept.values():
            if each.sandbox_id == application.sandbox_id and not each.has_ended:
                return each.application_id
        application.state = ApplicationState.RUNNING
        return self.kept.setdefault(application.application_id, application).application_id

    async def find(self, application_id: str) -> Application | None:
        """Return an application as it stands."""
        return self.kept.get(application_id)

    async def end(self, application: Application, state: ApplicationState) -> bool:
        """End an application unless it has ended."""
        if application.has_ended:
            return False
        application.state = state
        return True

    async def applied(self, sandbox_id: str) -> Sequence[int]:
        """Return the revisions that were applied."""
        return [
            each.revision
            for each in self.kept.values()
            if each.sandbox_id == sandbox_id and each.state is ApplicationState.APPLIED
        ]

    async def is_full(self, most: int) -> bool:
        """Say whether so many run."""
        return sum(not each.has_ended for each in self.kept.values()) >= most
