"""Which applications there are and which run: one per sandbox, a newer revision supersedes.

They live in the database (`durable/workflows.py`), so every worker on it answers for each of them.
"""

import secrets
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from worker.application import Application, ApplicationState

# How often the place of a sandbox is tried for, while others take it.
_TRIES: Final = 10


class NoSuchApplication(Exception):
    """No application has this id, or it ended long ago."""


class NotPossible(Exception):
    """What was asked for does not fit the application's state; str() says why and what to do."""


class TooManyApplications(Exception):
    """Every place is taken by one that still runs."""


class Store(Protocol):
    """Where applications are kept and carried out."""

    async def begin(self, application: Application) -> str:
        """Begin an application, unless one of its sandbox has not ended; return the id of that which holds it now."""

    async def find(self, application_id: str) -> Application | None:
        """Return an application as it stands, None where there is none."""

    async def end(self, application: Application, state: ApplicationState) -> bool:
        """End an application as cancelled or superseded; False where it came to an end of its own before."""

    async def applied(self, sandbox_id: str) -> Sequence[int]:
        """Return the revisions of a sandbox that were applied."""

    async def is_full(self, most: int) -> bool:
        """Say whether so many have not ended."""


class Applications:
    """The applications of all workers. `new_id` makes an id from a sandbox's, the time and something random."""

    def __init__(
        self,
        store: Store,
        *,
        new_id: Callable[[str, int, str], str],
        wall: Callable[[], float],
        max_applications: int,
    ) -> None:
        self._store = store
        self._new_id = new_id
        self._wall = wall
        self._max_applications = max_applications

    async def begin(self, sandbox_id: str, revision: int, application_id: str | None = None) -> Application:
        """Begin an application; the same revision again is the one that runs, the same id again is the same one.

        Raises NotPossible for a revision older than the one that runs, TooManyApplications.
        """
        if await self._store.is_full(self._max_applications):
            raise TooManyApplications(f"{self._max_applications} applications run already")
        wanted = Application(
            application_id=application_id or self._new_id(sandbox_id, int(self._wall() * 1000), secrets.token_hex(4)),
            sandbox_id=sandbox_id,
            revision=revision,
        )
        for _ in range(_TRIES):
            holder = await self._store.begin(wanted)
            if holder == wanted.application_id:
                return wanted
            running = await self._store.find(holder)
            if running is None or running.has_ended:
                continue
            if running.revision == revision:
                return running
            if running.revision > revision:
                raise NotPossible(f"revision {running.revision} is being applied already; send a newer one")
            await self._store.end(running, ApplicationState.SUPERSEDED)
        raise NotPossible("others begin applications of this sandbox at the same time; ask again")

    async def find(self, application_id: str) -> Application:
        """Return an application as it stands; raises NoSuchApplication."""
        application = await self._store.find(application_id)
        if application is None:
            raise NoSuchApplication(f"no application is called {application_id}")
        return application

    async def cancel(self, application_id: str) -> Application:
        """Stop an application where it is; what it did stays done. Raises NoSuchApplication, NotPossible."""
        application = await self.find(application_id)
        if application.has_ended or not await self._store.end(application, ApplicationState.CANCELLED):
            application = await self.find(application_id)
            raise NotPossible(f"the application has ended: {application.state.value}")
        return await self.find(application_id)

    async def last_good(self, application: Application) -> int:
        """Return the revision to go back to from an application; raises NotPossible."""
        applied = await self._store.applied(application.sandbox_id)
        earlier = [revision for revision in applied if revision < application.revision]
        if not earlier:
            raise NotPossible("no earlier revision is known to be applied; post the plan you want as a new one")
        return max(earlier)

    def __repr__(self) -> str:
        return f"<Applications in {self._store!r}>"
